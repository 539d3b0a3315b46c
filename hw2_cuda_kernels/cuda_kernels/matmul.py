"""Calls `matmul.cu`: matrix products, plain, batched, or of a batch with one shared matrix."""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np

from autograder import kernels

VERSIONS = ("naive", "tiled", "register")
MAX_GRID = 65535  # a grid's second and third dimension end there
FEWEST_ROWS = 8  # rows of C that a block covers, in the version that covers the fewest


def matmul(
    device: kernels.Device,
    a: kernels.DeviceArray,
    b: kernels.DeviceArray,
    version: str = "register",
) -> kernels.DeviceArray:
    """a @ b in float32, as a new array, in one launch.

    (..., m, k) times (k, n): the leading dimensions are further rows of one product, so a linear
    layer of (batch, time, in) with weights (in, out) is one product with batch * time rows.
    (..., m, k) times (..., k, n): a product for each of the leading indices, which must agree.
    (m, k) times (..., k, n): the same, and all products share `a`.

    Sizes of 0 are allowed; a k of 0 gives zeros. Raises ValueError for what does not fit.
    """
    _check(a, b, version)
    rows, inner, columns = a.shape[-2], a.shape[-1], b.shape[-1]
    a_step, b_step = rows * inner, inner * columns
    leading = a.shape[:-2]
    if len(b.shape) == 2:
        batch, rows = 1, prod(leading) * rows
    else:
        leading = b.shape[:-2]
        batch = prod(leading)
        a_step = 0 if len(a.shape) == 2 else a_step
    if max(rows * inner, inner * columns, rows * columns) >= 2**31:
        raise ValueError(f"{a.shape} times {b.shape}: a matrix has 2**31 elements or more")
    if batch > MAX_GRID or rows > MAX_GRID * FEWEST_ROWS:
        raise ValueError(
            f"{batch} products of {rows} rows; a grid holds {MAX_GRID} of {MAX_GRID * FEWEST_ROWS}"
        )
    out = device.empty((*leading, a.shape[-2], columns), np.float32)
    module = device.load(Path(__file__).with_suffix(".cu"))
    module.launch(f"matmul_{version}", a, b, out, rows, inner, columns, batch, a_step, b_step)
    return out


def _check(a: kernels.DeviceArray, b: kernels.DeviceArray, version: str) -> None:
    """Raise ValueError unless a @ b is a product that the kernels can do."""
    if version not in VERSIONS:
        raise ValueError(f"version is one of {', '.join(VERSIONS)}, not {version!r}")
    for name, x in (("a", a), ("b", b)):
        if np.dtype(x.dtype) != np.float32:
            raise ValueError(f"{name} is {x.dtype}; the kernels multiply float32")
        if len(x.shape) < 2:
            raise ValueError(f"{name} has shape {x.shape}; a matrix has two dimensions or more")
    if a.shape[-1] != b.shape[-2]:
        raise ValueError(f"{a.shape} times {b.shape}: the inner sizes differ")
    if len(a.shape) > 2 and len(b.shape) > 2 and tuple(a.shape[:-2]) != tuple(b.shape[:-2]):
        raise ValueError(f"{a.shape} times {b.shape}: the leading sizes differ")
