"""Calls `elementwise.cu`: element-wise operations on views of device arrays, with broadcasting."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from autograder import kernels

# In the order of the enums of elementwise_operations.cuh.
MAPS = ("negate", "exp", "log", "tanh", "relu", "gelu")
ZIPS = ("add", "subtract", "multiply", "divide", "maximum")
MAX_RANK = 4
MAX_SIZE = 2**30  # the kernels count in int
BLOCKS = 1024  # at most so many run: enough to fill any GPU, each takes several turns


class Layout(ctypes.Structure):
    """`Layout` of common.cuh."""

    _fields_ = [
        ("rank", ctypes.c_int),
        ("shape", ctypes.c_int * MAX_RANK),
        ("stride", ctypes.c_int * MAX_RANK),
    ]


@dataclass(frozen=True)
class View:
    """Elements of `array` in another order: [i0, i1, …] is at offset + i0 * strides[0] + ….

    Strides and offset count elements; a broadcast dimension has stride 0.
    """

    array: kernels.DeviceArray
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    @staticmethod
    def of(array: kernels.DeviceArray | View) -> View:
        """The whole array, in its own order."""
        if isinstance(array, View):
            return array
        shape = tuple(array.shape)
        return View(array, shape, tuple(prod(shape[d + 1 :]) for d in range(len(shape))))

    def permute(self, *axes: int) -> View:
        """The dimensions in the order of `axes`, as numpy.transpose."""
        shape, strides = (tuple(of[axis] for axis in axes) for of in (self.shape, self.strides))
        return View(self.array, shape, strides, self.offset)

    def broadcast_to(self, shape: Sequence[int]) -> View:
        """Repeated to `shape`, as numpy.broadcast_to: nothing is copied."""
        missing = len(shape) - len(self.shape)
        own = (1,) * missing + self.shape
        if missing < 0 or any(n not in (1, wanted) for n, wanted in zip(own, shape, strict=True)):
            raise ValueError(f"shape {self.shape} can't be broadcast to {tuple(shape)}")
        strides = (0,) * missing + self.strides
        kept = tuple(0 if n == 1 else s for n, s in zip(own, strides, strict=True))
        return View(self.array, tuple(shape), kept, self.offset)

    def layout(self) -> Layout:
        """For a kernel. Raises ValueError where the view leaves its array or has too many dimensions."""
        if len(self.shape) > MAX_RANK:
            raise ValueError(f"shape {self.shape}: the kernels take up to {MAX_RANK} dimensions")
        if prod(self.shape) > MAX_SIZE:
            raise ValueError(f"shape {self.shape}: the kernels take up to {MAX_SIZE} elements")
        if np.dtype(self.array.dtype) != np.float32:
            raise ValueError(f"the array is {self.array.dtype}; the kernels take float32")
        if 0 not in self.shape:
            reach = [(n - 1) * s for n, s in zip(self.shape, self.strides, strict=True)]
            first = self.offset + sum(min(r, 0) for r in reach)
            last = self.offset + sum(max(r, 0) for r in reach)
            if first < 0 or last >= prod(self.array.shape):
                raise ValueError(
                    f"the view reaches from {first} to {last} in an array of "
                    f"{prod(self.array.shape)} elements"
                )
        return Layout(len(self.shape), self.shape, self.strides)


def map_array(
    device: kernels.Device,
    operation: str,
    x: kernels.DeviceArray | View,
    blocks: int = BLOCKS,
) -> kernels.DeviceArray:
    """operation(x) for an operation of MAPS and a float32 view of up to four dimensions.

    blocks: at most so many blocks run, each taking several turns if need be. The result is
    contiguous. Raises ValueError for what does not fit.
    """
    view = View.of(x)
    layout = view.layout()
    place = _place(operation, MAPS)
    out = device.empty(view.shape, np.float32)
    module = device.load(Path(__file__).with_suffix(".cu"))
    module.launch("map_array", place, view.array, view.offset, layout, out, _checked(blocks))
    return out


def zip_arrays(
    device: kernels.Device,
    operation: str,
    a: kernels.DeviceArray | View,
    b: kernels.DeviceArray | View,
    blocks: int = BLOCKS,
) -> kernels.DeviceArray:
    """operation(a, b) for an operation of ZIPS; the shapes broadcast as numpy's do.

    Otherwise as `map_array`.
    """
    a, b = View.of(a), View.of(b)
    shape = np.broadcast_shapes(a.shape, b.shape)
    a, b = a.broadcast_to(shape), b.broadcast_to(shape)
    layouts = a.layout(), b.layout()
    place = _place(operation, ZIPS)
    out = device.empty(shape, np.float32)
    module = device.load(Path(__file__).with_suffix(".cu"))
    module.launch(
        "zip_arrays", place, a.array, a.offset, layouts[0], b.array, b.offset, layouts[1], out,
        _checked(blocks),
    )  # fmt: skip
    return out


def _place(operation: str, operations: tuple[str, ...]) -> int:
    if operation not in operations:
        raise ValueError(f"operation is one of {', '.join(operations)}, not {operation!r}")
    return operations.index(operation)


def _checked(blocks: int) -> int:
    if blocks < 1:
        raise ValueError(f"{blocks} blocks; at least 1 must run")
    return int(blocks)
