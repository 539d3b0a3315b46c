"""Task 2.5, hidden: masks, borders, odd shapes, nan and infinities, long rows."""

from __future__ import annotations

import hw2_cuda_kernels_drivers as drivers
import numpy as np
import pytest
from gradescope_utils.autograder_utils.decorators import number, weight
from softmax_cases import (
    ON_CHIP_COLS, check_gradient, check_softmax, expected_gradient, expected_softmax, normal,
)  # fmt: skip

from autograder.testing import assert_equal, cuda

pytestmark = pytest.mark.warm_up("2.5")


@number("2.5")
@weight(1)
def test_masked_entries_have_probability_0(student, rng):
    """Entries of -inf give exactly 0, rows of nothing else are zeros, and so is their gradient."""
    for cols in (1, 40, 700):
        x = normal(rng, 6, cols)
        x[0] = -np.inf
        x[1, 1:] = -np.inf  # one entry left, in the first thread
        x[2, :-1] = -np.inf  # one left, in the last thread that has any
        x[3, rng.random(cols) < 0.9] = -np.inf
        x[4] = np.where(np.arange(cols) > cols // 3, -np.inf, x[4] - 1e4)  # a causal mask
        for version in ("online", "best"):
            got = student.run(drivers.softmax_forward, x=x, version=version)
            check_softmax(got, x, f"{version}, masked rows of {cols}")
            hidden = np.asarray(got["out"])[np.isneginf(x)]
            assert_equal(hidden, np.zeros_like(hidden), name=f"{version}: masked entries")
        y = expected_softmax(x).astype(np.float32)
        upstream = rng.standard_normal(x.shape).astype(np.float32)
        got = student.run(drivers.softmax_backward, y=y, upstream=upstream)
        dot = (y.astype(np.float64) * upstream).sum(axis=-1, keepdims=True)
        check_gradient(got, y * (upstream - dot), upstream, f"grad, masked rows of {cols}")


@number("2.5")
@weight(1)
def test_softmax_of_any_shape(student, rng):
    """One element, one column, odd and random shapes, more dimensions, and nothing at all."""
    shapes = [(1, 1), (9, 1), (1, 31), (2, 33), (2, 3, 65), (0, 5), (4, 0), (7,)]
    shapes += [tuple(rng.integers(1, limit) for limit in (6, 900)) for _ in range(4)]
    for shape in [tuple(int(size) for size in shape) for shape in shapes]:
        x = (2 * rng.standard_normal(shape)).astype(np.float32)
        for version in ("online", "best"):
            got = student.run(drivers.softmax_forward, x=x, version=version)
            check_softmax(got, x, f"{version} of shape {shape}")
        upstream = rng.standard_normal(shape).astype(np.float32)
        y = expected_softmax(x).astype(np.float32)
        got = student.run(drivers.softmax_backward, y=y, upstream=upstream)
        check_gradient(got, expected_gradient(x, upstream), upstream, f"grad, {shape}")


@number("2.5")
@weight(1)
def test_where_rows_stop_fitting(student, rng):
    """At the longest row on chip one read is enough, one element more takes two; also backward."""
    for cols, reads in [(ON_CHIP_COLS - 1, 1), (ON_CHIP_COLS, 1), (ON_CHIP_COLS + 1, 2)]:
        x = normal(rng, 1, cols, scale=1.0)
        got = student.run(drivers.softmax_forward, x=x)
        check_softmax(got, x, f"a row of {cols}")
        # A row of 8,192 floats is 1,024 sectors, one float more touches 1,025, one less 1,024.
        sectors = -(-cols // 8)
        why = f"a row of {cols} floats: {reads} read{'s'[: reads - 1]}"
        cuda.at_most(got["report"], "global_load_sectors", reads * sectors, why=why)
        cuda.at_most(got["report"], "global_store_sectors", sectors, why="the result, once")
        upstream = rng.standard_normal((1, cols)).astype(np.float32)
        y = expected_softmax(x).astype(np.float32)
        got = student.run(drivers.softmax_backward, y=y, upstream=upstream)
        expected = expected_gradient(x, upstream)
        check_gradient(got, expected, upstream, f"grad of a row of {cols}")
        why = f"y and upstream, rows of {cols} floats: {reads} read{'s'[: reads - 1]} of each"
        cuda.at_most(got["report"], "global_load_sectors", 2 * reads * sectors, why=why)
        cuda.at_most(got["report"], "global_store_sectors", sectors, why="the gradient, once")


@number("2.5")
@weight(0.5)
def test_nan_and_infinity_spoil_their_row_only(student, rng):
    """A nan or +inf makes all of its row nan, as in torch, and leaves other rows alone."""
    x = normal(rng, 7, 130)
    x[1, 77] = np.nan
    x[2, 0] = np.inf
    x[3, [5, 129]] = np.inf
    x[4], x[4, 100] = -np.inf, np.nan
    x[5] = np.nan
    for version in ("online", "best"):
        got = student.run(drivers.softmax_forward, x=x, version=version)
        check_softmax(got, x, f"{version}: rows 1 to 5 hold nan or +inf")


@number("2.5")
@weight(0.5)
def test_long_rows_keep_their_digits(student, rng):
    """Long rows, flat, rising throughout, and far from 0, sum to 1 to float32's precision."""
    cols = ON_CHIP_COLS + 1500
    flat = np.full(cols, float(rng.uniform(-50, 50)))
    rising = np.linspace(-20, 5, cols) + 1000  # each element of a thread is its new max
    x = np.stack([flat, rising]).astype(np.float32)
    got = student.run(drivers.softmax_forward, x=x)
    check_softmax(got, x, f"a flat and a rising row of {cols}")
