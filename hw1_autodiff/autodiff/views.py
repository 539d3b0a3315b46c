"""Reshape, permute, broadcast and slice as differentiable operations. Given.

Their forward passes stand on your strides of task 1.1: no data is copied where none must be. Their
backward passes are written out here, as examples of what a backward looks like.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff import strides
from autodiff.elementwise import unbroadcast
from autodiff.function import Context, Function
from autodiff.tensor import Tensor


class Reshape(Function):
    """The same elements in row-major order under another shape; a view where that is possible."""

    @staticmethod
    def forward(context: Context, x: np.ndarray, *, shape: tuple[int, ...]) -> np.ndarray:
        context.shape = x.shape
        buffer, layout = strides.layout_of(x)
        try:
            return strides.as_array(buffer, strides.view(layout, shape))
        except ValueError:
            # No strides express it: copy to row-major order first, as torch's reshape does.
            return np.ascontiguousarray(x).reshape(shape)

    @staticmethod
    def backward(context: Context, upstream: np.ndarray) -> tuple[Any, ...]:
        return (upstream.reshape(context.shape),)


class Permute(Function):
    """The axes in another order; a view."""

    @staticmethod
    def forward(context: Context, x: np.ndarray, *, axes: tuple[int, ...]) -> np.ndarray:
        context.axes = tuple(axis % x.ndim for axis in axes)
        buffer, layout = strides.layout_of(x)
        return strides.as_array(buffer, strides.permute(layout, context.axes))

    @staticmethod
    def backward(context: Context, upstream: np.ndarray) -> tuple[Any, ...]:
        return (upstream.transpose(np.argsort(context.axes)),)


class BroadcastTo(Function):
    """Size-1 and missing leading axes repeated without copying; a view."""

    @staticmethod
    def forward(context: Context, x: np.ndarray, *, shape: tuple[int, ...]) -> np.ndarray:
        context.shape = x.shape
        buffer, layout = strides.layout_of(x)
        return strides.as_array(buffer, strides.broadcast_to(layout, shape))

    @staticmethod
    def backward(context: Context, upstream: np.ndarray) -> tuple[Any, ...]:
        return (unbroadcast(upstream, context.shape),)


class GetItem(Function):
    """Basic indexing by integers, slices, `...` and None; a view."""

    @staticmethod
    def forward(context: Context, x: np.ndarray, *, key: Any) -> np.ndarray:
        context.shape, context.key = x.shape, key
        buffer, layout = strides.layout_of(x)
        return strides.as_array(buffer, strides.slice_layout(layout, key))

    @staticmethod
    def backward(context: Context, upstream: np.ndarray) -> tuple[Any, ...]:
        gradient = np.zeros(context.shape, upstream.dtype)
        gradient[context.key] = upstream
        return (gradient,)


def reshape(x: Tensor, *shape: int | tuple[int, ...]) -> Tensor:
    """x under another shape of as many elements; one size may be -1."""
    return Reshape.apply(x, shape=_unpacked(shape))


def permute(x: Tensor, *axes: int | tuple[int, ...]) -> Tensor:
    """x with its axes in the order `axes`."""
    return Permute.apply(x, axes=_unpacked(axes))


def transpose(x: Tensor, first: int = -2, second: int = -1) -> Tensor:
    """x with two axes swapped, by default the last two."""
    axes = list(range(x.ndim))
    axes[first], axes[second] = axes[second], axes[first]
    return Permute.apply(x, axes=tuple(axes))


def broadcast_to(x: Tensor, *shape: int | tuple[int, ...]) -> Tensor:
    """x stretched to `shape` by numpy's broadcasting rules."""
    return BroadcastTo.apply(x, shape=_unpacked(shape))


def getitem(x: Tensor, key: Any) -> Tensor:
    """x[key] for integers, slices, `...` and None, alone or in a tuple."""
    return GetItem.apply(x, key=key)


def _unpacked(sizes: tuple[Any, ...]) -> tuple[int, ...]:
    if len(sizes) == 1 and not isinstance(sizes[0], (int, np.integer)):
        return tuple(sizes[0])
    return sizes
