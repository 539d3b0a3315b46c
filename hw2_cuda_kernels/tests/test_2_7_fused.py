"""Task 2.7: bias and GELU fused, forward and backward; a step of AdamW in one pass."""

from __future__ import annotations

import hw2_cuda_kernels_drivers as drivers
import numpy as np
import pytest
from fused_cases import check_adamw, check_gelu, check_gelu_gradients
from gradescope_utils.autograder_utils.decorators import number, weight

from autograder.testing import cuda

pytestmark = pytest.mark.warm_up("2.7")


def _inputs(rng, *shape):
    """upstream, x and bias, random."""
    upstream, x = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    return upstream, 2 * x, rng.standard_normal(shape[-1]).astype(np.float32)


@number("2.7")
@weight(0.5)
def test_bias_and_gelu_follow_torch(student, rng):
    """gelu(x + bias), tanh form, unfused (your gelu in given kernels) and fused."""
    for shape in [(4, 64), (33, 100), (2, 3, 256), (40, 300)]:
        _, x, bias = _inputs(rng, *shape)
        for version in ("unfused", "fused"):
            got = student.run(drivers.bias_gelu_forward, x=x, bias=bias, version=version)
            check_gelu(got, x, bias, f"{version} of {shape}")


@number("2.7")
@weight(0.5)
def test_bias_gelu_is_one_pass(student, rng, figure):
    """Fused, x is read once and out written once, and bias is read once for 32 rows."""
    rows, cols = 64, 256
    _, x, bias = _inputs(rng, rows, cols)
    got = student.run(drivers.bias_gelu_forward, x=x, bias=bias)
    check_gelu(got, x, bias, "fused")
    cuda.attach(figure, got["report"], title=f"Bias and GELU: {rows} rows of {cols}")
    # In sectors of 8 floats x is 64 * 256 / 8 = 2048, and bias 32, for each of 64 / 32 = 2 blocks.
    # The reference has exactly 2112 loads and 2048 stores; bias loaded in every row makes 4096
    # loads, the given unfused kernels have 6144 loads and 4096 stores.
    one_pass = rows * cols // 8
    cuda.at_most(
        got["report"], "global_load_sectors", one_pass + 2 * cols // 8,
        why="x once, and bias once for the 32 rows of a block",
    )  # fmt: skip
    cuda.at_most(got["report"], "global_store_sectors", one_pass, why="out, once")


@number("2.7")
@weight(0.5)
def test_gelu_backward_follows_torch(student, rng):
    """The gradients of x and bias are torch's, for one block of rows and for several."""
    for shape in [(4, 64), (32, 33), (3, 20, 100), (70, 300)]:
        upstream, x, bias = _inputs(rng, *shape)
        got = student.run(drivers.bias_gelu_backward, upstream=upstream, x=x, bias=bias)
        check_gelu_gradients(got, upstream, x, bias, f"backward of {shape}")


@number("2.7")
@weight(0.5)
def test_gelu_backward_is_one_pass(student, rng):
    """Backward reads x and upstream once, writes grad_x once, sums for bias on the way."""
    rows, cols = 64, 256
    upstream, x, bias = _inputs(rng, rows, cols)
    got = student.run(drivers.bias_gelu_backward, upstream=upstream, x=x, bias=bias)
    check_gelu_gradients(got, upstream, x, bias, "backward")
    # In sectors of 8 floats: x and upstream 2 * 2048; bias 32 for each of 2 blocks, and their
    # partial sums, as many, read by the second launch: 4224 loads. grad_x 2048, partial 64 and
    # grad_bias 32: 2144 stores. The reference has exactly these.
    one_pass, vector = rows * cols // 8, cols // 8
    cuda.at_most(
        got["report"], "global_load_sectors", 2 * one_pass + 4 * vector,
        why="x and upstream once, bias and the partial sums once for 32 rows",
    )  # fmt: skip
    cuda.at_most(
        got["report"], "global_store_sectors", one_pass + 3 * vector,
        why="grad_x once, the partial sums once for 32 rows, grad_bias",
    )  # fmt: skip
    cuda.exactly(got["report"], "global_atomic_requests", 0, why="a column's sum is in a register")


@number("2.7")
@weight(0.25)
def test_gelu_of_large_values_is_finite(student, rng):
    """Far from 0, where exp overflows, gelu is v or 0 and its derivative 1 or 0: never nan."""
    x = np.linspace(-60, 60, 240).astype(np.float32).reshape(4, 60)
    x = np.concatenate([x, rng.standard_normal((4, 60)).astype(np.float32)])
    x[4:6] += 1e4
    x[6:] -= 1e4
    bias = np.zeros(60, np.float32)
    got = student.run(drivers.bias_gelu_forward, x=x, bias=bias)
    check_gelu(got, x, bias, "gelu of values from -60 to 60 and near 10,000 and -10,000")
    upstream = rng.standard_normal(x.shape).astype(np.float32)
    got = student.run(drivers.bias_gelu_backward, upstream=upstream, x=x, bias=bias)
    check_gelu_gradients(got, upstream, x, bias, "backward of the same values")


@number("2.7")
@weight(0.5)
def test_adamw_follows_torch(student, rng):
    """Five steps of AdamW are torch's, decay decoupled, eps outside the root."""
    for shape, options in [
        ((7, 11), {"learning_rate": 0.02, "weight_decay": 0.1}),
        ((1000,), {"learning_rate": 0.1, "betas": (0.8, 0.95), "eps": 1e-2, "weight_decay": 0.5}),
    ]:
        parameter = rng.standard_normal(shape).astype(np.float32)
        gradients = [0.1 * rng.standard_normal(shape).astype(np.float32) for _ in range(5)]
        gradients = [g.astype(np.float32) for g in gradients]
        got = student.run(
            drivers.adamw_steps, parameter=parameter, gradients=gradients, options=options
        )
        check_adamw(got, parameter, gradients, options, f"{shape} with {options}")


@number("2.7")
@weight(0.5)
def test_adamw_is_one_pass(student, rng, figure):
    """A step reads four arrays once and writes three once."""
    n = 4096
    parameter, gradient = (rng.standard_normal(n).astype(np.float32) for _ in range(2))
    options = {"learning_rate": 0.01, "weight_decay": 0.1}
    got = student.run(
        drivers.adamw_steps, parameter=parameter, gradients=[gradient], options=options
    )
    check_adamw(got, parameter, [gradient], options, f"{n} parameters")
    cuda.attach(figure, got["report"], title=f"AdamW: a step over {n} parameters")
    # An array is 4096 / 8 = 512 sectors. The reference has exactly 4 * 512 loads, 3 * 512 stores.
    cuda.at_most(
        got["report"], "global_load_sectors", 4 * n // 8,
        why="parameter, gradient and both moments, each once",
    )  # fmt: skip
    cuda.at_most(
        got["report"], "global_store_sectors", 3 * n // 8, why="parameter and both moments, once"
    )


@number("2.7")
@weight(0.25)
def test_adamw_goes_on_past_its_grid(student, rng):
    """The grid has at most 1,024 blocks of 256 threads; elements beyond are stepped as well."""
    n = 1024 * 256 + 777
    parameter, gradient = (rng.standard_normal(n).astype(np.float32) for _ in range(2))
    options = {"learning_rate": 0.01, "weight_decay": 0.1}
    got = student.run(
        drivers.adamw_steps, parameter=parameter, gradients=[gradient], options=options
    )
    check_adamw(got, parameter, [gradient], options, f"{n} parameters")
