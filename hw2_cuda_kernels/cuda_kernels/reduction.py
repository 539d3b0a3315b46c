"""Calls `reduction.cu`: sums and maxima of rows, and the sum of all elements."""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np

from autograder import kernels

VERSIONS = ("interleaved", "tree", "shuffle")
OPERATIONS = ("sum", "max")
MAX_SIZE = 2**30  # the kernels count in int
BLOCKS = 1024  # of the vector's first launch, at most


def reduce_rows(
    device: kernels.Device,
    operation: str,
    x: kernels.DeviceArray,
    version: str = "shuffle",
) -> kernels.DeviceArray:
    """The sum or maximum over the last dimension of a float32 array: (..., columns) -> (...).

    Where `columns` is 0, a sum is 0 and a maximum -inf. Raises ValueError for what does not fit.
    """
    if version not in VERSIONS:
        raise ValueError(f"version is one of {', '.join(VERSIONS)}, not {version!r}")
    if operation not in OPERATIONS:
        raise ValueError(f"operation is one of {', '.join(OPERATIONS)}, not {operation!r}")
    _check(x)
    if len(x.shape) == 0:
        raise ValueError("x has no dimension to reduce over")
    *leading, columns = x.shape
    out = device.empty(tuple(leading), np.float32)
    module = device.load(Path(__file__).with_suffix(".cu"))
    module.launch(
        "reduce_rows", VERSIONS.index(version) + 1, OPERATIONS.index(operation), x, out,
        prod(leading), columns,
    )  # fmt: skip
    return out


def sum_vector(
    device: kernels.Device, x: kernels.DeviceArray, blocks: int = BLOCKS
) -> kernels.DeviceArray:
    """The sum of all elements of a float32 array, as an array of one element.

    blocks: at most so many blocks share the work. The same number of them gives the same bits.
    """
    _check(x)
    if blocks < 1:
        raise ValueError(f"{blocks} blocks; at least 1 must run")
    partial = device.empty((blocks,), np.float32)
    out = device.empty((1,), np.float32)
    module = device.load(Path(__file__).with_suffix(".cu"))
    module.launch("sum_vector", x, partial, out, prod(x.shape), int(blocks))
    return out


def _check(x: kernels.DeviceArray) -> None:
    if np.dtype(x.dtype) != np.float32:
        raise ValueError(f"x is {x.dtype}; the kernels take float32")
    if prod(x.shape) > MAX_SIZE:
        raise ValueError(f"shape {tuple(x.shape)}: the kernels take up to {MAX_SIZE} elements")
