"""Task 2.5: softmax of rows: three passes, online, on chip; and backward."""

from __future__ import annotations

import hw2_cuda_kernels_drivers as drivers
import numpy as np
import pytest
from gradescope_utils.autograder_utils.decorators import number, weight
from softmax_cases import (
    ON_CHIP_COLS, check_gradient, check_softmax, expected_gradient, expected_softmax, normal,
)  # fmt: skip

from autograder.testing import cuda

pytestmark = pytest.mark.warm_up("2.5")


@number("2.5")
@weight(0.75)
def test_a_block_reduces(student, rng):
    """With your block_reduce, the given version of three passes is the softmax of every row."""
    for rows, cols in [(3, 32), (2, 256), (5, 100), (1, 1000), (2, 2500)]:
        x = normal(rng, rows, cols)
        got = student.run(drivers.softmax_forward, x=x, version="three_pass")
        check_softmax(got, x, f"three_pass of {rows} rows of {cols}")


@number("2.5")
@weight(1)
def test_the_online_sum_follows_the_max(student, rng):
    """Online softmax is right for rows that rise, fall and jump, of any length."""
    for cols in (5, 64, 333, 1024, 2600):
        rising = np.linspace(-12, 12, cols)
        jumps = np.where(np.arange(cols) == cols // 2, 30.0, rng.standard_normal(cols))
        x = np.stack([rising, rising[::-1], jumps, 3 * rng.standard_normal(cols)])
        x = x.astype(np.float32)
        got = student.run(drivers.softmax_forward, x=x, version="online")
        check_softmax(got, x, f"online, rows of {cols} that rise, fall, jump and are random")


@number("2.5")
@weight(0.75)
def test_online_reads_a_row_twice(student, rng):
    """The online version reads every element twice and writes it once, coalesced."""
    rows, cols = 16, 1024
    x = normal(rng, rows, cols)
    got = student.run(drivers.softmax_forward, x=x, version="online")
    check_softmax(got, x, "online")
    # A sector is 8 floats, so a pass over the matrix is 16 * 1024 / 8 = 2048. The reference has
    # 4096 loads and 2048 stores; the given three passes have 6144 loads.
    one_pass = rows * cols // 8
    cuda.at_most(
        got["report"], "global_load_sectors", 2 * one_pass,
        why="two reads of the row: one for max and sum together, one for the result",
    )  # fmt: skip
    cuda.at_most(got["report"], "global_store_sectors", one_pass, why="the result, once")


@number("2.5")
@weight(1)
def test_a_row_on_chip_is_read_once(student, rng, figure):
    """Rows that fit in registers are read once and written once; longer rows are read twice."""
    # In sectors of 8 floats: 16 * 1024 / 8 = 2048, 2 * 9000 / 8 = 2250 (a row of 9,000 floats is
    # 1,125 whole sectors). The reference has exactly once or twice as many loads, and once as many
    # stores.
    for rows, cols, reads in [(16, 1024, 1), (2, 9000, 2)]:
        x = normal(rng, rows, cols)
        got = student.run(drivers.softmax_forward, x=x)
        check_softmax(got, x, f"{rows} rows of {cols}")
        if cols <= ON_CHIP_COLS:
            cuda.attach(figure, got["report"], title=f"Softmax: {rows} rows of {cols} on chip")
        one_pass = rows * cols // 8
        cuda.at_most(
            got["report"], "global_load_sectors", reads * one_pass,
            why=f"rows of {cols} floats " + ("stay in registers: one read" if reads == 1 else
            "don't fit on chip: two reads"),
        )  # fmt: skip
        cuda.at_most(got["report"], "global_store_sectors", one_pass, why="the result, once")


@number("2.5")
@weight(0.75)
def test_large_values_do_not_overflow(student, rng):
    """Values near +10,000 and -10,000, and rows that hold both, give what float64 gives."""
    near = rng.standard_normal((4, 300))
    x = np.concatenate([near + 1e4, near - 1e4, near * 1e4]).astype(np.float32)
    x[-1, ::7], x[-1, 3::7] = 1e4, -1e4
    for version in ("online", "best"):
        got = student.run(drivers.softmax_forward, x=x, version=version)
        check_softmax(got, x, f"{version}, values near 10,000 and -10,000")


@number("2.5")
@weight(1.25)
def test_softmax_backward_follows_torch(student, rng, figure):
    """Backward follows torch, reads y and upstream once and writes the gradient once."""
    for rows, cols in [(3, 7), (4, 320), (2, 1500), (16, 1024)]:
        x = normal(rng, rows, cols, scale=1.0)
        upstream = rng.standard_normal((rows, cols)).astype(np.float32)
        got = student.run(
            drivers.softmax_backward, y=expected_softmax(x).astype(np.float32), upstream=upstream
        )
        expected = expected_gradient(x, upstream)
        check_gradient(got, expected, upstream, f"grad of {rows} rows of {cols}")
    # The last case: y and upstream are 16 * 1024 / 8 = 2048 sectors each, and so is the gradient.
    # The reference has exactly 4096 loads and 2048 stores.
    cuda.attach(figure, got["report"], title="Softmax, backward: 16 rows of 1,024")
    cuda.at_most(
        got["report"], "global_load_sectors", 2 * rows * cols // 8,
        why="y and upstream, each read once: the row stays in registers",
    )  # fmt: skip
    cuda.at_most(
        got["report"], "global_store_sectors", rows * cols // 8, why="the gradient, once"
    )


@number("2.5")
@weight(0.5)
def test_backward_of_rows_too_long_for_the_chip(student, rng):
    """Backward of longer rows follows torch, and reads y and upstream twice, coalesced."""
    for rows, cols in [(2, 9000), (1, 10_001)]:
        x = normal(rng, rows, cols, scale=1.0)
        upstream = rng.standard_normal((rows, cols)).astype(np.float32)
        got = student.run(
            drivers.softmax_backward, y=expected_softmax(x).astype(np.float32), upstream=upstream
        )
        expected = expected_gradient(x, upstream)
        check_gradient(got, expected, upstream, f"grad of {rows} rows of {cols}")
        # A row of 9,000 floats is 1,125 whole sectors, one of 10,001 touches 1,251. The reference
        # has exactly 4 times as many loads (y and upstream, for the dot product and again for the
        # gradient), and once as many stores.
        sectors = rows * -(-cols // 8)
        cuda.at_most(
            got["report"], "global_load_sectors", 4 * sectors,
            why="y and upstream, each read twice: once for the dot product, once for the gradient",
        )  # fmt: skip
        cuda.at_most(got["report"], "global_store_sectors", sectors, why="the gradient, once")
