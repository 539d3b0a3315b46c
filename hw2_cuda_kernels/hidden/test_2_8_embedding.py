"""Task 2.8, hidden: other shapes, special values, nothing at all, other counts."""

from __future__ import annotations

import hw2_cuda_kernels_drivers as drivers
import numpy as np
import pytest
import torch
from checked import checked
from embedding_cases import eighths, expected_grad, expected_rows
from gradescope_utils.autograder_utils.decorators import number, weight

from autograder.testing import assert_equal, cuda

pytestmark = pytest.mark.warm_up("2.8")


@number("2.8")
@weight(0.75)
def test_any_shape_agrees_with_torch(student, rng):
    """Forward and both backward versions agree with torch for random shapes and ids."""
    for _ in range(4):
        count, rows = (int(n) for n in rng.integers(1, 90, 2))
        dim = int(rng.choice([1, 3, 31, 32, 68, 127, 132, 257]))
        ids = rng.integers(0, rows, count).astype(np.int32)
        table, upstream = eighths(rng, (rows, dim)), eighths(rng, (count, dim))
        name = f"{count} ids of {rows} rows of {dim}"
        weights = torch.tensor(table, dtype=torch.float64, requires_grad=True)
        value = torch.nn.functional.embedding(torch.tensor(ids, dtype=torch.int64), weights)
        value.backward(torch.tensor(upstream, dtype=torch.float64))
        got = checked(student, drivers.embedding_forward, table=table, ids=ids)
        assert_equal(got["out"], value.detach().numpy().astype(np.float32), name=f"rows, {name}")
        for version in ("atomic", "grouped"):
            got = checked(
                student, drivers.embedding_backward, upstream=upstream, ids=ids,
                grad=np.zeros_like(table), version=version,
            )  # fmt: skip
            expected = weights.grad.numpy().astype(np.float32)
            assert_equal(got["grad"], expected, name=f"{version}: grad, {name}")


@number("2.8")
@weight(0.5)
def test_all_ids_equal_over_ragged_chunks(student, rng):
    """One row gets the sum of all positions, for counts and dims that fill no block."""
    for count, dim in [(1, 1), (31, 40), (33, 129), (97, 7), (200, 130)]:
        row = int(rng.integers(3))
        ids = np.full(count, row, np.int32)
        upstream, grad = eighths(rng, (count, dim)), eighths(rng, (3, dim))
        expected = expected_grad(upstream, ids, grad)
        for version in ("atomic", "grouped"):
            got = checked(
                student, drivers.embedding_backward, upstream=upstream, ids=ids, grad=grad,
                version=version,
            )  # fmt: skip
            assert_equal(got["grad"], expected, name=f"{version}: grad, {count} ids all {row}")


@number("2.8")
@weight(0.5)
def test_nothing_to_do(student, rng):
    """No ids, or rows of no floats: nothing is launched, nothing changes."""
    for count, dim in [(0, 8), (4, 0), (0, 0)]:
        ids = np.zeros(count, np.int32)
        table = rng.standard_normal((3, dim)).astype(np.float32)
        got = checked(student, drivers.embedding_forward, table=table, ids=ids)
        assert_equal(got["out"], np.zeros((count, dim), np.float32), name="rows of nothing")
        for version in ("atomic", "grouped"):
            got = checked(
                student, drivers.embedding_backward,
                upstream=np.zeros((count, dim), np.float32), ids=ids, grad=table, version=version,
            )  # fmt: skip
            assert_equal(got["grad"], table, name=f"{version}: grad after nothing")
    ids = np.full((2, 3), -1, np.int32)
    table = rng.standard_normal((2, 8)).astype(np.float32)
    got = checked(student, drivers.embedding_forward, table=table, ids=ids)
    assert_equal(got["out"], np.zeros((2, 3, 8), np.float32), name="rows of padding only")
    for version in ("atomic", "grouped"):
        got = checked(
            student, drivers.embedding_backward,
            upstream=np.ones((2, 3, 8), np.float32), ids=ids, grad=table, version=version,
        )  # fmt: skip
        assert_equal(got["grad"], table, name=f"{version}: grad after padding only")


@number("2.8")
@weight(0.25)
def test_special_values_stay_in_their_rows(student, rng):
    """nan, infinities and large numbers are copied as they are, and reach only their own row."""
    table = rng.standard_normal((6, 20)).astype(np.float32)
    table[1, 3], table[2, 4], table[4, 5], table[5, 6] = np.nan, np.inf, -np.inf, 1e38
    ids = np.array([5, 1, 2, 4, 1, 0, -1], np.int32)
    got = checked(student, drivers.embedding_forward, table=table, ids=ids)
    assert_equal(got["out"], expected_rows(table, ids), name="rows with special values")
    upstream = eighths(rng, (len(ids), 20))
    upstream[1, 0], upstream[3, 2], upstream[6] = np.nan, np.inf, np.nan
    for version in ("atomic", "grouped"):
        grad = eighths(rng, (6, 20))
        got = checked(
            student, drivers.embedding_backward, upstream=upstream, ids=ids, grad=grad,
            version=version,
        )  # fmt: skip
        expected = expected_grad(upstream, ids, grad)
        assert_equal(got["grad"], expected, name=f"{version}: grad with special values")


@number("2.8")
@weight(0.5)
def test_additions_and_sectors_elsewhere(student, rng):
    """The counts hold for other shapes, with ids that repeat now and then."""
    count, dim, rows = 96, 160, 12
    ids = rng.integers(0, rows, count).astype(np.int32)
    upstream, grad = eighths(rng, (count, dim)), eighths(rng, (rows, dim))
    got = checked(student, drivers.embedding_backward, upstream=upstream, ids=ids, grad=grad)
    assert_equal(got["grad"], expected_grad(upstream, ids, grad), name="grad")
    # 160 / 32 = 5 warps a row; a sum for each different id of each of 96 / 32 = 3 chunks. Exact in
    # the reference.
    groups = sum(len(np.unique(chunk)) for chunk in ids.reshape(-1, 32))
    cuda.at_most(
        got["report"], "global_atomic_requests", groups * dim // 32,
        why="an addition for each different id of 32 positions and each warp of columns",
    )  # fmt: skip
    # upstream: 96 * 160 / 8 = 1920 sectors; the ids, 4 sectors a chunk, for each of 2 blocks of
    # columns: 24; 160 / 8 = 20 sectors of grad for each sum. The reference has exactly these.
    cuda.at_most(
        got["report"], "global_load_sectors", (count + groups) * dim // 8 + 3 * 4 * 2,
        why="upstream once, the ids of a chunk once for each block, a row of grad for each sum",
    )  # fmt: skip
    table = eighths(rng, (rows, dim))
    got = checked(student, drivers.embedding_forward, table=table, ids=ids)
    # A row is 20 sectors, its id 1: 96 * 21 = 2016. Exact in the reference.
    cuda.at_most(
        got["report"], "global_load_sectors", count * (dim // 8 + 1), why="rows and ids, once"
    )
    cuda.at_most(got["report"], "global_store_sectors", count * dim // 8, why="out, once")
