"""Calls `quantized.cu`: matrix times vector with int8 and packed int4 weights; quantises them.

Quantising and packing happen once, when a model is made ready to serve, so they are numpy here;
the kernels read what comes out of them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from autograder import kernels

BLOCK = 64  # columns whose int4 weights lie together: 32 bytes
VERSIONS = {8: {"naive": "gemv_int8_naive", "warp": "gemv_int8"}, 4: {"warp": "gemv_int4"}}


def quantize(weights: np.ndarray, bits: int, group: int = BLOCK) -> tuple[np.ndarray, np.ndarray]:
    """(integers, scales) of (rows, columns) weights, to nearest, each group by its own largest.

    integers are int8, in -127 … 127 for 8 bits and -7 … 7 for 4; scales are float32, of shape
    (rows, columns / group). A group of zeros has scale 0.
    """
    _check_group(weights.shape, group)
    most = {8: 127, 4: 7}[bits]
    rows, columns = weights.shape
    groups = weights.reshape(rows, columns // group, group).astype(np.float32)
    scales = (np.abs(groups).max(axis=2) / most).astype(np.float32)
    divisor = np.where(scales == 0, np.float32(1), scales)
    integers = np.clip(np.rint(groups / divisor[:, :, None]), -most, most)
    return integers.astype(np.int8).reshape(rows, columns), scales


def pack_int4(integers: np.ndarray) -> np.ndarray:
    """(rows, columns) integers in -8 … 7 as (rows, columns / 2) bytes, two in each.

    Of each 64 columns, byte j (0 … 31) has column j in its lower four bits and column j + 32 in its
    upper four, each plus 8.
    """
    rows, columns = integers.shape
    if columns % BLOCK or integers.size and (integers.min() < -8 or integers.max() > 7):
        raise ValueError("int4 weights are in -8 … 7, and rows of them a multiple of 64")
    halves = (integers.astype(np.int16) + 8).astype(np.uint8)
    halves = halves.reshape(rows, columns // BLOCK, 2, BLOCK // 2)
    return (halves[:, :, 0] | halves[:, :, 1] << 4).reshape(rows, columns // 2)


def unpack_int4(packed: np.ndarray) -> np.ndarray:
    """The integers of `pack_int4`, int8."""
    rows, pairs = packed.shape
    blocks = packed.reshape(rows, 2 * pairs // BLOCK, 1, BLOCK // 2)
    halves = np.concatenate([blocks & 15, blocks >> 4], axis=2)
    return (halves.astype(np.int16) - 8).astype(np.int8).reshape(rows, 2 * pairs)


def dequantize(integers: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The weights that `integers` and `scales` stand for, float64."""
    rows, columns = integers.shape
    groups = scales.shape[1]
    wide = integers.reshape(rows, groups, columns // max(groups, 1)).astype(np.float64)
    return (wide * scales[:, :, None].astype(np.float64)).reshape(rows, columns)


def gemv(
    device: kernels.Device,
    weights: kernels.DeviceArray,
    scales: kernels.DeviceArray,
    x: kernels.DeviceArray,
    version: str = "warp",
) -> kernels.DeviceArray:
    """W x, (rows): W is int8 weights (rows, columns), or uint8 packed int4 (rows, columns / 2).

    scales (rows, columns / group) tell the group, a power of two from 64 on. x is float32
    (columns). Raises ValueError for what does not fit.
    """
    bits = {np.dtype(np.int8): 8, np.dtype(np.uint8): 4}.get(np.dtype(weights.dtype))
    if bits is None or len(weights.shape) != 2:
        raise ValueError(
            f"weights are {weights.dtype} of shape {tuple(weights.shape)}; they should be (rows, "
            "columns) of int8, or uint8 with two int4 a byte"
        )
    if version not in VERSIONS[bits]:
        raise ValueError(f"version is one of {', '.join(VERSIONS[bits])}, not {version!r}")
    rows, columns = weights.shape[0], weights.shape[1] * 8 // bits
    for name, array, shape in (("x", x, (columns,)), ("scales", scales, (rows, None))):
        fits = len(array.shape) == len(shape) and array.shape[0] == shape[0]
        if not fits or np.dtype(array.dtype) != np.float32:
            wanted = str(shape).replace("None", "columns / group")
            raise ValueError(
                f"{name} is {array.dtype} of shape {tuple(array.shape)}; weights of "
                f"({rows}, {columns}) want float32 of {wanted}"
            )
    groups = scales.shape[1]
    group = columns // groups if groups and columns % groups == 0 else 0
    _check_group((rows, columns), group)
    y = device.empty((rows,), np.float32)
    module = device.load(Path(__file__).with_suffix(".cu"))
    module.launch(VERSIONS[bits][version], weights, scales, x, y, rows, columns, group)
    return y


def _check_group(shape: tuple[int, ...], group: int) -> None:
    """Raise ValueError unless rows of `shape` can be cut into groups of that size."""
    if group < BLOCK or group & (group - 1) or len(shape) != 2 or shape[1] % group:
        raise ValueError(
            f"weights of shape {shape} in groups of {group}: a group is a power of two from "
            f"{BLOCK} on, and rows are a multiple of it"
        )
