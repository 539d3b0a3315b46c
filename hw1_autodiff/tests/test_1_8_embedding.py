"""Task 1.8: embedding lookup with a row-sparse gradient, against torch's dense one."""

from __future__ import annotations

import hw1_autodiff_drivers as drivers
import numpy as np
import torch
from gradescope_utils.autograder_utils.decorators import number, weight

from autograder.testing import Measure, assert_close, assert_equal

MB = 1 << 20


def _dense_gradient(shape, batches, upstreams):
    """What torch adds up for the table, in float64."""
    table = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    for ids, upstream in zip(batches, upstreams, strict=True):
        value = torch.nn.functional.embedding(torch.tensor(np.asarray(ids, np.int64)), table)
        value.backward(torch.tensor(np.asarray(upstream, np.float64)))
    return table.grad.numpy()


def _check_sparse(got, dense, ids, dtype, hint=""):
    """A row-sparse gradient of exactly the rows `ids`, each once and in order, equal to `dense`."""
    assert got["kind"] == "row-sparse", "the gradient of a lookup is a RowSparseGradient"
    rows = np.unique(np.asarray(ids, np.int64))
    assert_equal(got["rows"], rows, name="rows", hint="each row that was used, once, in order")
    rtol, atol = (1e-4, 1e-5) if dtype == np.float32 else (1e-10, 1e-12)
    close = {"rtol": rtol, "atol": atol, "hint": hint, "same_dtype": True}
    assert_close(got["values"], dense[rows].astype(dtype), name="values", **close)
    assert_close(got["dense"], dense.astype(dtype), name="to_dense()", **close)
    assert_equal(got["shape"], list(dense.shape), name="shape")


@number("1.8")
@weight(0.5)
def test_lookups_of_any_shape(student, rng):
    """embedding returns the rows of the table, for ids of any shape and integer dtype."""
    table = rng.standard_normal((9, 4)).astype(np.float32)
    batches = [
        rng.integers(0, 9, 5),
        rng.integers(0, 9, (2, 3)).astype(np.int32),
        rng.integers(0, 9, (2, 1, 3)).astype(np.uint8),
        np.array(int(rng.integers(9))),
        [[8, 0], [3, 3]],
    ]
    found = student.run(drivers.lookups, table=table, batches=batches)
    for ids, got in zip(batches, found, strict=True):
        expected = table[np.asarray(ids)]
        assert_close(got, expected, rtol=0, name=f"embedding of ids {ids!r}", same_dtype=True)


@number("1.8")
@weight(1.5)
def test_repeated_ids_are_summed(student, rng):
    """A row that is looked up several times gets the sum of its gradients, held once."""
    for dtype, shape in [(np.float64, (7,)), (np.float32, (4, 6)), (np.float64, (2, 3, 5))]:
        table = rng.standard_normal((12, 3)).astype(dtype)
        ids = rng.integers(0, 6, shape) * 2
        upstream = rng.standard_normal((*shape, 3)).astype(dtype)
        got = student.run(drivers.lookup_gradient, table=table, batches=[ids], upstreams=[upstream])
        dense = _dense_gradient(table.shape, [ids], [upstream])
        hint = "grad[ids] += values keeps one value for each repeated id; you want their sum"
        _check_sparse(got, dense, ids, dtype, hint)
        assert_equal(got["upstreams"][0], upstream, name="upstream afterwards")
        assert_equal(got["table"], table, name="table afterwards")


@number("1.8")
@weight(1)
def test_sums_of_gradients(student, rng):
    """sparse + sparse is sparse over the union of rows; with a dense array it is dense."""
    shape, dim = [8, 2], 2
    first = {"rows": np.array([1, 4, 6]), "values": rng.standard_normal((3, dim))}
    second = {"rows": np.array([0, 4, 6, 7]), "values": rng.standard_normal((4, dim))}
    dense = {"dense": rng.standard_normal(shape)}

    def full(term):
        whole = np.zeros(shape)
        if "dense" in term:
            return term["dense"]
        whole[term["rows"]] = term["values"]
        return whole

    for terms in ([first, second], [first, dense], [dense, second], [first, second, dense]):
        got = student.run(drivers.gradient_sum, terms=terms, shape=shape)
        expected = sum(full(term) for term in terms)
        label = " + ".join("dense" if "dense" in term else "sparse" for term in terms)
        if "dense" in label:
            assert got["kind"] == "dense", f"{label} is a dense array"
            assert_close(got["dense"], expected, rtol=1e-12, name=label)
        else:
            _check_sparse(got, expected, [0, 1, 4, 6, 7], np.float64, "rows of both, each once")


@number("1.8")
@weight(0.5)
def test_gradients_accumulate_over_lookups(student, rng):
    """Several lookups and backward passes add up in one row-sparse gradient."""
    table = rng.standard_normal((10, 3))
    batches = [rng.integers(0, 10, (2, 2)), rng.integers(5, 10, 3), np.array([9, 0, 9])]
    upstreams = [rng.standard_normal((*ids.shape, 3)) for ids in batches]
    got = student.run(drivers.lookup_gradient, table=table, batches=batches, upstreams=upstreams)
    used = np.concatenate([ids.reshape(-1) for ids in batches])
    _check_sparse(got, _dense_gradient(table.shape, batches, upstreams), used, np.float64)


@number("1.8")
@weight(1)
def test_memory_follows_the_rows_used(student, rng):
    """Two steps on a table of 32,768 rows need less than a tenth of a dense gradient's memory."""
    rows, dim, count = 32_768, 1_024, 64
    batches = [rng.integers(0, rows, count) for _ in range(2)]
    upstreams = [rng.standard_normal((count, dim)).astype(np.float32) for _ in batches]
    memory = student.memory(
        drivers.sparse_step, rows=rows, dim=dim, batches=batches, upstreams=upstreams
    )
    used = np.unique(np.concatenate(batches))
    assert_equal(memory.value["rows"], used, name="rows")
    both = np.concatenate(upstreams).astype(np.float64)
    expected = np.zeros((len(used), dim))
    np.add.at(expected, np.searchsorted(used, np.concatenate(batches)), both)
    assert_close(memory.value["values"], expected, rtol=1e-4, atol=1e-5, name="values")
    # A table that no memory holds: whoever makes a dense array of it, wherever, fails.
    ids = rng.integers(0, 10**12, 50)
    values = np.ones((50, 4), np.float32)
    for got in student.run(drivers.rows_of_huge_table, ids=ids, values=values, rows=10**12):
        assert_equal(got, np.unique(ids), name="rows, for a table of 10**12 rows")
    dense = rows * dim * 4
    extra = max(memory.extra_bytes - dense, 0)  # the table itself is made during the call
    student.measure(Measure(name="memory of the gradient / dense", value=extra / dense))
    assert extra <= dense / 10, (
        f"lookups of {2 * count} rows and their backward used {extra / MB:.0f} MB beside the "
        f"table; a dense gradient has {dense / MB:.0f} MB, and a tenth of it is allowed.\n"
        "hint: make no array of the table's shape, not even for a moment"
    )


@number("1.8")
@weight(0.5)
def test_ids_out_of_range(student, rng):
    """An id the table does not have raises IndexError and is named; floats raise TypeError."""
    table = rng.standard_normal((6, 2))
    for ids, named in [([0, 6], "6"), ([[1, 77], [99, 0]], "77")]:
        student.raises(
            drivers.lookups, "IndexError", naming=named,
            table=table, batches=[np.array(ids)],
        )  # fmt: skip
    student.raises(drivers.lookups, "TypeError", table=table, batches=[np.array([0.0, 1.0])])
    (got,) = student.run(drivers.lookups, table=table, batches=[[5, 0]])
    assert_close(got, table[[5, 0]], rtol=0, name="ids that are in range")
