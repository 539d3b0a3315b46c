"""Calls `transpose.cu`: the transposes of a batch of matrices."""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np

from autograder import kernels

VERSIONS = ("naive", "tiled")
MAX_GRID = 65535  # a grid's second and third dimension end there
NAIVE_ROWS, TILE = 8, 32  # rows of x that a block of each version covers


def transpose(
    device: kernels.Device, x: kernels.DeviceArray, version: str = "tiled"
) -> kernels.DeviceArray:
    """(..., rows, columns) -> (..., columns, rows), float32, as a new array.

    Raises ValueError for what does not fit.
    """
    if version not in VERSIONS:
        raise ValueError(f"version is one of {', '.join(VERSIONS)}, not {version!r}")
    if np.dtype(x.dtype) != np.float32:
        raise ValueError(f"x is {x.dtype}; the kernels take float32")
    if len(x.shape) < 2:
        raise ValueError(f"x has shape {tuple(x.shape)}; a matrix has two dimensions or more")
    *leading, rows, columns = x.shape
    batch = prod(leading)
    most_rows = MAX_GRID * (NAIVE_ROWS if version == "naive" else TILE)
    if batch > MAX_GRID or rows > most_rows:
        raise ValueError(
            f"{batch} matrices of {rows} rows; a grid holds {MAX_GRID} matrices of {most_rows} rows"
        )
    out = device.empty((*leading, columns, rows), np.float32)
    module = device.load(Path(__file__).with_suffix(".cu"))
    module.launch("transpose", VERSIONS.index(version) + 1, x, out, batch, rows, columns)
    return out
