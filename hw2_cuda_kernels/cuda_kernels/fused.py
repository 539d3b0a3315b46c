"""Calls `fused.cu`: bias and GELU, forward and backward, and a step of AdamW."""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np

from autograder import kernels

ROWS_A_BLOCK = 32  # as in fused.cu
MOST_ROWS = 65535 * ROWS_A_BLOCK  # the grid's second dimension ends there
VERSIONS = ("unfused", "fused")

Array = kernels.DeviceArray


def bias_gelu(device: kernels.Device, x: Array, bias: Array, version: str = "fused") -> Array:
    """gelu(x + bias), tanh form: x (..., cols), bias (cols). ValueError for what does not fit."""
    if version not in VERSIONS:
        raise ValueError(f"version is one of {', '.join(VERSIONS)}, not {version!r}")
    rows, cols = _check(x, bias)
    out = device.empty(x.shape, np.float32)
    module = device.load(Path(__file__).with_suffix(".cu"))
    if version == "unfused":
        between = device.empty(x.shape, np.float32)
        module.launch("bias_gelu_unfused", x, bias, between, out, rows, cols)
    else:
        module.launch("bias_gelu_forward", x, bias, out, rows, cols)
    return out


def bias_gelu_backward(
    device: kernels.Device, upstream: Array, x: Array, bias: Array
) -> tuple[Array, Array]:
    """The gradients of x and of bias, from that of gelu(x + bias)."""
    rows, cols = _check(x, bias)
    if tuple(upstream.shape) != tuple(x.shape) or np.dtype(upstream.dtype) != np.float32:
        raise ValueError(
            f"upstream is {upstream.dtype} of shape {tuple(upstream.shape)}; it has to be float32 "
            f"of {tuple(x.shape)}"
        )
    grad_x = device.empty(x.shape, np.float32)
    grad_bias = device.empty((cols,), np.float32)
    partial = device.empty((-(-rows // ROWS_A_BLOCK), cols), np.float32)
    module = device.load(Path(__file__).with_suffix(".cu"))
    module.launch("bias_gelu_backward", upstream, x, bias, grad_x, grad_bias, partial, rows, cols)
    return grad_x, grad_bias


def adamw_step(
    device: kernels.Device,
    parameter: Array,
    gradient: Array,
    first_moment: Array,
    second_moment: Array,
    *,
    step: int,
    learning_rate: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> None:
    """A step of AdamW in place; `step` counts from 1. All arrays are float32 of one shape."""
    arrays = {
        "parameter": parameter, "gradient": gradient, "first_moment": first_moment,
        "second_moment": second_moment,
    }  # fmt: skip
    for name, array in arrays.items():
        if tuple(array.shape) != tuple(parameter.shape) or np.dtype(array.dtype) != np.float32:
            raise ValueError(
                f"{name} is {array.dtype} of shape {tuple(array.shape)}; all four have to be "
                f"float32 of {tuple(parameter.shape)}"
            )
    if step < 1:
        raise ValueError(f"step is {step}; the first one is 1")
    module = device.load(Path(__file__).with_suffix(".cu"))
    module.launch(
        "adamw_step", parameter, gradient, first_moment, second_moment, prod(parameter.shape),
        float(learning_rate), float(betas[0]), float(betas[1]), float(eps), float(weight_decay),
        int(step),
    )  # fmt: skip


def _check(x: Array, bias: Array) -> tuple[int, int]:
    """The number of rows of x and their length; ValueError unless everything fits."""
    for name, array in (("x", x), ("bias", bias)):
        if np.dtype(array.dtype) != np.float32:
            raise ValueError(f"{name} is {array.dtype}; the kernels take float32")
    if len(x.shape) == 0 or tuple(bias.shape) != tuple(x.shape[-1:]):
        raise ValueError(f"bias has shape {tuple(bias.shape)}, and x {tuple(x.shape)}")
    rows, cols = prod(x.shape[:-1]), x.shape[-1]
    if rows > MOST_ROWS:
        raise ValueError(f"{rows} rows; at most {MOST_ROWS} fit into a grid")
    return rows, cols
