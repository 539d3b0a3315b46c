"""Task 2.8: rows of a table by ids, and the sum of gradients where ids repeat."""

from __future__ import annotations

import hw2_cuda_kernels_drivers as drivers
import numpy as np
import pytest
from checked import checked
from embedding_cases import eighths, expected_grad, expected_rows
from gradescope_utils.autograder_utils.decorators import number, weight

from autograder.testing import assert_equal, cuda

pytestmark = pytest.mark.warm_up("2.8")


@number("2.8")
@weight(0.75)
def test_rows_are_copied(student, rng):
    """embedding_forward copies row ids[p] of the table into row p, for ids of any shape."""
    for shape, dim in [((5,), 4), ((2, 3), 33), ((9,), 128), ((1,), 1), ((2, 2, 5), 130)]:
        table = rng.standard_normal((11, dim)).astype(np.float32)
        ids = rng.integers(0, 11, shape).astype(np.int32)
        got = checked(student, drivers.embedding_forward, table=table, ids=ids)
        assert_equal(
            got["out"], table[ids], name=f"rows of {dim} floats for ids of shape {shape}",
            hint="row p of out is row ids[p] of the table; dim need not be a multiple of 32",
        )  # fmt: skip


@number("2.8")
@weight(0.5)
def test_the_forward_pass_is_coalesced(student, rng, figure):
    """Every row is read and written in full sectors, its id by one request."""
    count, dim = 64, 128
    table = rng.standard_normal((100, dim)).astype(np.float32)
    ids = rng.integers(0, 100, count).astype(np.int32)
    got = checked(student, drivers.embedding_forward, table=table, ids=ids)
    cuda.attach(figure, got["report"], title="Embedding, forward: 64 rows of 128 floats")
    assert_equal(got["out"], table[ids], name="rows")
    # A row is 128 * 4 / 32 = 16 sectors, and its id one more: 64 * 17 = 1088 loads, 64 * 16 = 1024
    # stores. The reference has exactly these; the given thread-a-row kernel has 8192 stores, and as
    # many loads less those of equal ids in one warp: about 7000.
    cuda.at_most(
        got["report"], "global_load_sectors", count * (dim // 8 + 1),
        why="each row once, 4 sectors for 32 lanes of float, and its id",
    )  # fmt: skip
    cuda.at_most(
        got["report"], "global_store_sectors", count * dim // 8,
        why="each row of out once, 4 sectors for 32 lanes of float",
    )  # fmt: skip


@number("2.8")
@weight(0.25)
def test_padding_has_no_row(student, rng):
    """An id that is no row of the table gives zeros, and sends no gradient."""
    ids = np.array([3, -1, 7, 6, -100, 2**31 - 1, 0, -(2**31)], np.int32)
    table = rng.standard_normal((7, 36)).astype(np.float32)
    got = checked(student, drivers.embedding_forward, table=table, ids=ids)
    assert_equal(got["out"], expected_rows(table, ids), name=f"rows of ids {ids.tolist()}")
    upstream, grad = eighths(rng, (len(ids), 36)), eighths(rng, (7, 36))
    for version in ("atomic", "grouped"):
        got = checked(
            student, drivers.embedding_backward, upstream=upstream, ids=ids, grad=grad,
            version=version,
        )  # fmt: skip
        expected = expected_grad(upstream, ids, grad)
        assert_equal(got["grad"], expected, name=f"{version}: grad for ids {ids.tolist()}")


@number("2.8")
@weight(1)
def test_gradients_of_repeated_ids_add_up(student, rng):
    """Both versions add the gradients of equal ids to what grad held, without losing any."""
    for count, dim, rows in [(7, 5, 3), (40, 64, 4), (100, 33, 50), (33, 160, 9)]:
        ids = rng.integers(0, rows, count).astype(np.int32)
        upstream, grad = eighths(rng, (count, dim)), eighths(rng, (rows, dim))
        expected = expected_grad(upstream, ids, grad)
        for version in ("atomic", "grouped"):
            got = checked(
                student, drivers.embedding_backward, upstream=upstream, ids=ids, grad=grad,
                version=version,
            )  # fmt: skip
            assert_equal(
                got["grad"], expected, name=f"{version}: grad, {count} ids of {rows} rows of {dim}",
                hint="grad keeps what it held, and gets the sum over all positions with the id; "
                "the numbers are multiples of 1/8, so that no order of adding loses anything",
            )  # fmt: skip


@number("2.8")
@weight(1)
def test_equal_ids_of_a_chunk_are_added_once(student, rng, figure):
    """The grouped version adds once for each different id of 32 positions: exact, all ids equal."""
    count, dim = 128, 64
    upstream, grad = eighths(rng, (count, dim)), eighths(rng, (5, dim))
    for name, ids in (
        ("all ids equal", np.full(count, 3, np.int32)),
        ("two ids in turn", (np.arange(count) % 2 * 4).astype(np.int32)),
    ):
        got = checked(student, drivers.embedding_backward, upstream=upstream, ids=ids, grad=grad)
        assert_equal(got["grad"], expected_grad(upstream, ids, grad), name=f"grad, {name}")
        # 128 / 32 = 4 chunks, 64 / 32 = 2 warps a row: an addition for each id of a chunk is 8
        # requests for one id, 16 for two. The reference has exactly these; version 1 has 256.
        groups = sum(len(np.unique(chunk)) for chunk in ids.reshape(-1, 32))
        cuda.at_most(
            got["report"], "global_atomic_requests", groups * dim // 32,
            why=f"{name}: {groups} sums, one for each id of 32 positions, {dim // 32} warps each",
        )  # fmt: skip
        # upstream: 128 * 64 / 8 = 1024 sectors. ids: 4 sectors a chunk, 16 in all. An atomic reads
        # what it adds to: 64 / 8 = 8 sectors for each sum, 4 or 8 sums. The reference has 1072 and
        # 1104 (a block covers all 64 columns).
        cuda.at_most(
            got["report"], "global_load_sectors", (count + groups) * dim // 8 + 4 * 4,
            why="upstream once, the ids once for each chunk, and a row of grad for each sum",
        )  # fmt: skip
    cuda.attach(figure, got["report"], title="Embedding, backward: 128 positions of 2 ids")
