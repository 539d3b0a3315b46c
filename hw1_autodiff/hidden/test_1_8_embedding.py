"""Task 1.8, hidden: negative and empty ids, ids reused, tied tables, sums that share nothing."""

from __future__ import annotations

import hw1_autodiff_drivers as drivers
import numpy as np
import torch
from gradescope_utils.autograder_utils.decorators import number, weight

from autograder.testing import assert_close, assert_equal


def _dense(shape, ids, values):
    table = torch.zeros(shape, dtype=torch.float64)
    index = torch.tensor(np.asarray(ids, np.int64).reshape(-1))
    rows = torch.tensor(np.asarray(values, np.float64).reshape(-1, *shape[1:]))
    return table.index_add(0, index, rows).numpy()


@number("1.8")
@weight(0.5)
def test_negative_and_empty_ids(student, rng):
    """A negative id raises IndexError and is named; no ids give an empty result and gradient."""
    table = rng.standard_normal((5, 3))
    for ids, named in [([0, -1], "-1"), ([[2, -5], [7, 1]], "-5")]:
        student.raises(
            drivers.lookups, "IndexError", naming=named,
            table=table, batches=[np.array(ids)],
        )  # fmt: skip
    for shape in [(0,), (2, 0)]:
        got = student.run(
            drivers.lookup_gradient, table=table,
            batches=[np.zeros(shape, np.int64)], upstreams=[np.zeros((*shape, 3))],
        )  # fmt: skip
        assert_equal(got["rows"], np.zeros(0, np.int64), name="rows of an empty lookup")
        assert_close(got["dense"], np.zeros((5, 3)), name="dense gradient of an empty lookup")
    found = student.run(
        drivers.lookups, table=table, batches=[np.zeros((2, 0), np.int64), np.array([[4]])]
    )
    assert_close(found[0], np.zeros((2, 0, 3)), name="empty lookup")
    assert_close(found[1], table[[[4]]], rtol=0, name="one lookup")


@number("1.8")
@weight(0.5)
def test_the_caller_may_reuse_its_ids(student, rng):
    """Ids overwritten between forward and backward do not move the gradient."""
    ids = rng.integers(1, 9, (3, 2))
    upstream = rng.standard_normal((3, 2, 4))
    got = student.run(
        drivers.lookup_gradient, table=rng.standard_normal((9, 4)), batches=[ids],
        upstreams=[upstream], overwrite_ids=True,
    )  # fmt: skip
    assert_close(got["dense"], _dense((9, 4), ids, upstream), rtol=1e-10, name="gradient")


@number("1.8")
@weight(0.5)
def test_a_tied_table(student, rng):
    """A table that is also used densely gets one dense gradient, whichever part comes first."""
    table = rng.standard_normal((6, 2))
    batches = [rng.integers(0, 6, 4), rng.integers(0, 6, (2, 2))]
    upstreams = [rng.standard_normal((*ids.shape, 2)) for ids in batches]
    term = rng.standard_normal((6, 2))
    got = student.run(
        drivers.lookup_gradient, table=table, batches=batches, upstreams=upstreams, dense_term=term
    )
    expected = term.copy()
    for ids, upstream in zip(batches, upstreams, strict=True):
        expected += _dense((6, 2), ids, upstream)
    assert_close(got["dense"], expected, rtol=1e-10, atol=1e-12, name="table.grad")


@number("1.8")
@weight(0.5)
def test_sums_share_no_memory(student, rng):
    """A sum leaves its terms as they were, and writing into it does not reach them."""
    sparse = [
        {"rows": np.array([0, 2]), "values": rng.standard_normal((2, 3))},
        {"rows": np.array([1, 3]), "values": rng.standard_normal((2, 3))},
        {"rows": np.zeros(0, np.int64), "values": np.zeros((0, 3))},
    ]
    dense = {"dense": rng.standard_normal((4, 3))}
    for terms in [sparse[:2], [sparse[0], sparse[2]], [dense, sparse[0]], [sparse[2], dense]]:
        got = student.run(drivers.gradient_sum, terms=terms, shape=[4, 3])
        wholes = [
            term["dense"] if "dense" in term else _dense((4, 3), term["rows"], term["values"])
            for term in terms
        ]
        assert_close(got["dense"], sum(wholes), rtol=1e-12, name="sum")
        for place, whole in enumerate(wholes):
            assert_equal(got["terms"][place], whole, name=f"term {place} after the sum")
    other = {"rows": np.array([0]), "values": np.ones((1, 3)), "shape": [5, 3]}
    student.raises(drivers.gradient_sum, "ValueError", terms=[sparse[0], other], shape=[4, 3])


@number("1.8")
@weight(0.5)
def test_many_repeats(student, rng):
    """Twenty thousand lookups of a few rows are summed without losing any."""
    for dtype, rtol in ((np.float64, 1e-10), (np.float32, 1e-3)):
        ids = rng.integers(0, 7, 20_000) * 11
        values = rng.uniform(0.5, 1.5, (20_000, 2)).astype(dtype)
        got = student.run(drivers.from_lookups, ids=ids, values=values, shape=[80, 2])
        expected = _dense((80, 2), ids, values)
        assert_equal(got["rows"], np.unique(ids), name="rows")
        assert_close(got["values"], expected[np.unique(ids)], rtol=rtol, name="values")
        assert_equal(got["values_after"], values, name="the caller's values")
        assert_equal(got["ids_after"], ids, name="the caller's ids")


@number("1.8")
@weight(0.5)
def test_tables_of_other_shapes(student, rng):
    """A table may have one row, one column, or three axes."""
    for shape in [(1, 3), (4, 1), (5, 2, 3)]:
        ids = rng.integers(0, shape[0], (2, 3))
        upstream = rng.standard_normal((2, 3, *shape[1:]))
        table = rng.standard_normal(shape)
        got = student.run(drivers.lookup_gradient, table=table, batches=[ids], upstreams=[upstream])
        assert_equal(got["rows"], np.unique(ids), name=f"rows, table {shape}")
        expected = _dense(shape, ids, upstream)
        assert_close(
            got["dense"], expected, rtol=1e-10, atol=1e-12, name=f"gradient, table {shape}"
        )
        (value,) = student.run(drivers.lookups, table=table, batches=[ids])
        assert_close(value, table[ids], rtol=0, name=f"lookup, table {shape}")
