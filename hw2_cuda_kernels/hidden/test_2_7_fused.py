"""Task 2.7, hidden: large values, odd shapes and none, many rows, more elements than threads."""

from __future__ import annotations

import hw2_cuda_kernels_drivers as drivers
import numpy as np
import pytest
from fused_cases import check_adamw, check_gelu, check_gelu_gradients
from gradescope_utils.autograder_utils.decorators import number, weight

from autograder.testing import assert_close, assert_equal, cuda

pytestmark = pytest.mark.warm_up("2.7")


def _shapes(rng):
    """Odd, random, one element, nothing."""
    some = [(1, 1), (31, 1), (1, 257), (65, 2), (5,), (0, 8), (4, 0), (2, 2, 3, 31)]
    return some + [tuple(int(rng.integers(1, limit)) for limit in (120, 400)) for _ in range(2)]


@number("2.7")
@weight(0.75)
def test_gelu_of_any_shape_and_size(student, rng):
    """Odd and empty shapes; values near +-10,000, where gelu is v or 0; gelu(0) is 0."""
    for shape in _shapes(rng):
        x = (2 * rng.standard_normal(shape)).astype(np.float32)
        bias = rng.standard_normal(shape[-1]).astype(np.float32)
        got = student.run(drivers.bias_gelu_forward, x=x, bias=bias)
        check_gelu(got, x, bias, f"gelu of {shape}")
    bias = np.zeros(100, np.float32)
    x = rng.standard_normal((4, 100)).astype(np.float32)
    x[0], x[1], x[2, :50] = 1e4 + x[0], -1e4 + x[1], 0.0
    x[3] = np.linspace(-60, 60, 100)
    got = student.run(drivers.bias_gelu_forward, x=x, bias=bias)
    check_gelu(got, x, bias, "gelu of values near 10,000")


@number("2.7")
@weight(0.75)
def test_gelu_backward_of_any_shape_and_size(student, rng):
    """Odd and empty shapes (no rows: grad_bias is 0), and values near +-10,000."""
    for shape in _shapes(rng):
        x = (2 * rng.standard_normal(shape)).astype(np.float32)
        bias = rng.standard_normal(shape[-1]).astype(np.float32)
        upstream = rng.standard_normal(shape).astype(np.float32)
        got = student.run(drivers.bias_gelu_backward, upstream=upstream, x=x, bias=bias)
        check_gelu_gradients(got, upstream, x, bias, f"backward of {shape}")
        if x.size == 0:
            zeros = np.zeros(shape[-1], np.float32)
            assert_equal(got["grad_bias"], zeros, name=f"grad_bias of {shape}")
    x = rng.standard_normal((36, 50)).astype(np.float32)
    x[:9] += 1e4
    x[9:18] -= 1e4
    upstream, bias = rng.standard_normal((36, 50)).astype(np.float32), np.zeros(50, np.float32)
    got = student.run(drivers.bias_gelu_backward, upstream=upstream, x=x, bias=bias)
    check_gelu_gradients(got, upstream, x, bias, "backward of values near 10,000")


@number("2.7")
@weight(0.5)
def test_adamw_has_more_elements_than_threads(student, rng):
    """The grid is limited: 300,001 elements are more than its threads, and all of them are done."""
    n = 300_001
    parameter, gradient = (rng.standard_normal(n).astype(np.float32) for _ in range(2))
    options = {"learning_rate": 0.1, "weight_decay": 0.01}
    got = student.run(
        drivers.adamw_steps, parameter=parameter, gradients=[gradient], options=options
    )
    check_adamw(got, parameter, [gradient], options, f"{n} parameters")


@number("2.7")
@weight(0.5)
def test_adamw_at_its_edges(student, rng):
    """Any number of elements, none; gradients of 0, large and small; no decay; other betas."""
    for n in (1, 33, 255, 257, int(rng.integers(2, 3000))):
        parameter = rng.standard_normal(n).astype(np.float32)
        gradients = [rng.standard_normal(n).astype(np.float32) for _ in range(3)]
        gradients[1][::2] = 0.0
        gradients[2] *= np.float32(rng.choice([1e-5, 1e4]))
        options = {"learning_rate": 0.05, "betas": (0.5, 0.75), "weight_decay": 0.0}
        got = student.run(
            drivers.adamw_steps, parameter=parameter, gradients=gradients, options=options
        )
        check_adamw(got, parameter, gradients, options, f"{n} parameters")
    none = np.zeros((0, 3), np.float32)
    got = student.run(
        drivers.adamw_steps, parameter=none, gradients=[none], options={"learning_rate": 0.1}
    )
    assert_equal(got["parameter"], none, name="no parameters")
    cuda.check(got["report"])
    zero = np.zeros(40, np.float32)
    still = rng.standard_normal(40).astype(np.float32)
    options = {"learning_rate": 0.5, "weight_decay": 0.1}
    got = student.run(drivers.adamw_steps, parameter=still, gradients=[zero], options=options)
    # 0 / (0 + eps) moves nothing: what is left is the decay, by 0.5 * 0.1.
    assert_close(got["parameter"], still * 0.95, rtol=1e-6, name="decay with a gradient of 0")
    cuda.check(got["report"])
