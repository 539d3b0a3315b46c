"""Task 2.6, hidden: odd shapes and none, many rows, flat rows, wide rows, RMSNorm's traffic."""

from __future__ import annotations

import numpy as np
import pytest
from gradescope_utils.autograder_utils.decorators import number, weight
from normalization_cases import Layer

from autograder.testing import assert_close, assert_equal, cuda

pytestmark = pytest.mark.warm_up("2.6")


@number("2.6")
@weight(1.25)
def test_norms_of_any_shape(student, rng):
    """One element, one column, a warp and one more, random shapes, and nothing at all."""
    shapes = [(1, 1), (6, 1), (1, 31), (17, 32), (16, 257), (7,), (2, 2, 3, 7), (0, 40), (3, 0)]
    shapes += [tuple(int(rng.integers(1, limit)) for limit in (30, 500)) for _ in range(2)]
    for shape in shapes:
        for centred in (True, False):
            layer = Layer(rng, *shape, centred=centred)
            name = f"{'layernorm' if centred else 'rmsnorm'} of {shape}"
            if shape != (3, 0):  # the mean of no elements is nobody's business
                layer.check_forward(layer.run_forward(student), name)
            got = layer.run_backward(student)
            if 0 in shape:  # no rows: a sum over none of them
                zeros = np.zeros(shape[-1:], np.float32)
                assert_equal(got["grad_gamma"], zeros, name=f"{name}: grad_gamma")
                if centred:
                    assert_equal(got["grad_beta"], zeros, name=f"{name}: grad_beta")
                cuda.check(got["report"])
            else:
                layer.check_backward(got, name)


@number("2.6")
@weight(0.75)
def test_many_rows(student, rng):
    """With hundreds of rows no row is left out of the sums, and none counts twice."""
    for rows in (16, 17, int(rng.integers(200, 300))):
        for centred in (True, False):
            layer = Layer(rng, rows, 37, centred=centred)
            got = layer.run_backward(student)
            layer.check_backward(got, f"{'layernorm' if centred else 'rmsnorm'} of {rows} rows")


@number("2.6")
@weight(1)
def test_flat_and_large_rows(student, rng):
    """A row of equal values, of zeros, or near +-10,000; eps as given; nan stays in its row."""
    for centred in (True, False):
        for eps in (1e-5, 1e-2, 1.0):
            layer = Layer(rng, 6, 96, centred=centred, eps=eps)
            layer.x[0], layer.x[1] = 3.0, 0.0
            layer.x[2, ::2], layer.x[2, 1::2] = 1e4, -1e4
            layer.x[3] *= 1e-3  # eps is not small beside its variance
            name = f"{'layernorm' if centred else 'rmsnorm'} with eps {eps:g}"
            layer.check_forward(layer.run_forward(student), name)
            # Row 0 is flat: of LayerNorm its gradient is rstd = 1 / sqrt(eps) times a difference.
            layer.check_backward(layer.run_backward(student), name)
        layer = Layer(rng, 4, 96, centred=centred)
        clean = layer.torch_leaves()[0].detach().numpy()
        layer.x[1, 50] = np.nan
        got = layer.run_forward(student)
        assert np.isnan(np.asarray(got["out"])[1]).all(), "a row with a nan is nan"
        others = [0, 2, 3]
        kept = np.asarray(got["out"])[others]
        assert_close(kept, clean[others], rtol=1e-5, atol=1e-5, name="the other rows")
        cuda.check(got["report"])


@number("2.6")
@weight(0.75)
def test_the_widest_rows(student, rng):
    """Rows of 8,192 and one less, where each thread has all of its elements."""
    less = int(rng.integers(0, 2))
    for cols, centred in ((8191 + less, True), (8192 - less, False)):
        layer = Layer(rng, 1, cols, centred=centred)
        name = f"{'layernorm' if centred else 'rmsnorm'} of {cols} columns"
        layer.check_forward(layer.run_forward(student), name)
        layer.check_backward(layer.run_backward(student), name)


@number("2.6")
@weight(1)
def test_rmsnorm_backward_is_one_pass(student, rng):
    """RMSNorm's backward, too, reads x and upstream once, and adds no atomics."""
    rows, cols = 80, 256
    layer = Layer(rng, rows, cols, centred=False)
    got = layer.run_backward(student)
    layer.check_backward(got, "rmsnorm backward")
    # In sectors of 8 floats. A matrix is 80 * 256 / 8 = 2560. Loads: x, upstream and, once a row,
    # gamma: 3 * 2560; rstd: one for a row's one warp, 80; the partial sums of 80 / 16 = 5 blocks:
    # 5 * 32 = 160. In all 7920. Stores: grad_x 2560, partial 160, grad_gamma 32: 2752. The
    # reference has exactly these.
    matrix, partial = rows * cols // 8, 5 * cols // 8
    cuda.at_most(
        got["report"], "global_load_sectors", 3 * matrix + rows + partial,
        why="x and upstream once, gamma and rstd once a row, the partial sums once",
    )  # fmt: skip
    cuda.at_most(
        got["report"], "global_store_sectors", matrix + partial + cols // 8,
        why="grad_x once, the partial sums once a block, grad_gamma once",
    )  # fmt: skip
    cuda.exactly(got["report"], "global_atomic_requests", 0, why="the sums are in registers")
