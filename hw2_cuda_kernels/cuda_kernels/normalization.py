"""Calls `normalization.cu`: LayerNorm and RMSNorm along the last dimension, with backward."""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np

from autograder import kernels

MOST_COLS = 8192  # the longest row that the kernels keep in registers
# In backward a block has so many rows or more, one after the other, and writes one row of sums for
# all of them: with 16, writing and reading those sums is an eighth of reading and writing the rest.
ROWS_A_BLOCK = 16
MOST_BLOCKS = 1024  # enough to fill a large GPU; with more rows, each block has more of them

Array = kernels.DeviceArray


def layernorm(
    device: kernels.Device, x: Array, gamma: Array, beta: Array, eps: float = 1e-5
) -> tuple[Array, Array, Array]:
    """(out, mean, rstd): out has the shape of x, (..., cols); mean and rstd have (...).

    out = gamma * (x - mean) * rstd + beta, with rstd = 1 / sqrt(variance + eps) and the variance
    divided by cols. Raises ValueError for what does not fit.
    """
    rows, cols = _check(x, eps, gamma=gamma, beta=beta)
    out = device.empty(x.shape, np.float32)
    mean = device.empty(x.shape[:-1], np.float32)
    rstd = device.empty(x.shape[:-1], np.float32)
    module = device.load(Path(__file__).with_suffix(".cu"))
    module.launch("layernorm_forward", x, gamma, beta, out, mean, rstd, rows, cols, float(eps))
    return out, mean, rstd


def layernorm_backward(
    device: kernels.Device, upstream: Array, x: Array, gamma: Array, mean: Array, rstd: Array
) -> tuple[Array, Array, Array]:
    """The gradients of x, gamma and beta, from that of out and from what `layernorm` saved."""
    rows, cols = _check(x, 0.0, gamma=gamma)
    _same("upstream", upstream, x.shape)
    _same("mean", mean, x.shape[:-1])
    _same("rstd", rstd, x.shape[:-1])
    blocks = backward_blocks(rows)
    grad_x = device.empty(x.shape, np.float32)
    grad_gamma, grad_beta = device.empty((cols,), np.float32), device.empty((cols,), np.float32)
    partial = device.empty((2, blocks, cols), np.float32)
    module = device.load(Path(__file__).with_suffix(".cu"))
    module.launch(
        "layernorm_backward", upstream, x, gamma, mean, rstd, grad_x, grad_gamma, grad_beta,
        partial, rows, cols, blocks,
    )  # fmt: skip
    return grad_x, grad_gamma, grad_beta


def rmsnorm(
    device: kernels.Device, x: Array, gamma: Array, eps: float = 1e-5
) -> tuple[Array, Array]:
    """(out, rstd): out = gamma * x * rstd, with rstd = 1 / sqrt(mean(x^2) + eps) of shape (...)."""
    rows, cols = _check(x, eps, gamma=gamma)
    out = device.empty(x.shape, np.float32)
    rstd = device.empty(x.shape[:-1], np.float32)
    module = device.load(Path(__file__).with_suffix(".cu"))
    module.launch("rmsnorm_forward", x, gamma, out, rstd, rows, cols, float(eps))
    return out, rstd


def rmsnorm_backward(
    device: kernels.Device, upstream: Array, x: Array, gamma: Array, rstd: Array
) -> tuple[Array, Array]:
    """The gradients of x and gamma, from that of out and from what `rmsnorm` saved."""
    rows, cols = _check(x, 0.0, gamma=gamma)
    _same("upstream", upstream, x.shape)
    _same("rstd", rstd, x.shape[:-1])
    blocks = backward_blocks(rows)
    grad_x = device.empty(x.shape, np.float32)
    grad_gamma = device.empty((cols,), np.float32)
    partial = device.empty((1, blocks, cols), np.float32)
    module = device.load(Path(__file__).with_suffix(".cu"))
    module.launch(
        "rmsnorm_backward", upstream, x, gamma, rstd, grad_x, grad_gamma, partial, rows, cols,
        blocks,
    )  # fmt: skip
    return grad_x, grad_gamma


def backward_blocks(rows: int) -> int:
    """How many blocks share so many rows in backward."""
    return min(-(-rows // ROWS_A_BLOCK), MOST_BLOCKS)


def _check(x: Array, eps: float, **vectors: Array) -> tuple[int, int]:
    """The number of rows of x and their length; ValueError unless everything fits."""
    if np.dtype(x.dtype) != np.float32:
        raise ValueError(f"x is {x.dtype}; the kernels take float32")
    if len(x.shape) == 0:
        raise ValueError("x has no dimensions: the norm goes along the last one")
    rows, cols = prod(x.shape[:-1]), x.shape[-1]
    if cols > MOST_COLS:
        raise ValueError(f"rows of {cols}; the kernels keep at most {MOST_COLS} in registers")
    if not eps >= 0:
        raise ValueError(f"eps is {eps}; it must be 0 or more")
    for name, vector in vectors.items():
        _same(name, vector, (cols,))
    return rows, cols


def _same(name: str, array: Array, shape: tuple[int, ...]) -> None:
    if tuple(array.shape) != tuple(shape) or np.dtype(array.dtype) != np.float32:
        raise ValueError(
            f"{name} is {array.dtype} of shape {tuple(array.shape)}; it has to be float32 of "
            f"{tuple(shape)}"
        )
