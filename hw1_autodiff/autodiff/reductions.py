"""Task 1.6: reductions over one axis, several, or all, and softmax.

`axis` is an int (negative counts from the end), a tuple of ints, or None for all axes; every
forward and backward below gets it as a sorted tuple of non-negative axes. With `keepdims` the
reduced axes stay with size 1, without it they are gone. Where they are gone, `upstream` has fewer
axes than the input: put them back before you broadcast, or the wrong axes will line up (silently,
where sizes happen to agree).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from autodiff import backend
from autodiff.function import Context, Function
from autodiff.tensor import Tensor

Axis = int | tuple[int, ...] | None


def normalise_axes(axis: Axis, ndim: int) -> tuple[int, ...]:
    """`axis` as a sorted tuple of distinct axes in 0..ndim-1; numpy's AxisError otherwise."""
    if axis is None:
        return tuple(range(ndim))
    return tuple(sorted(normalize_axis_tuple(axis, ndim)))


class Sum(Function):
    """The sum over `axes`; 0 over an empty axis."""

    @staticmethod
    def forward(
        context: Context, x: np.ndarray, *, axes: tuple[int, ...], keepdims: bool
    ) -> np.ndarray:
        context.shape, context.axes, context.keepdims = x.shape, axes, keepdims
        return backend.reduce_array("sum", x, axes, keepdims)

    @staticmethod
    def backward(context: Context, upstream: np.ndarray) -> tuple[Any, ...]:
        """Every element of the input had slope 1 in its sum."""
        raise NotImplementedError("task 1.6: Sum.backward")


class Mean(Function):
    """The sum over `axes` divided by the number of elements summed; nan over an empty axis."""

    @staticmethod
    def forward(
        context: Context, x: np.ndarray, *, axes: tuple[int, ...], keepdims: bool
    ) -> np.ndarray:
        raise NotImplementedError("task 1.6: Mean.forward")

    @staticmethod
    def backward(context: Context, upstream: np.ndarray) -> tuple[Any, ...]:
        raise NotImplementedError("task 1.6: Mean.backward")


class Max(Function):
    """The largest element over `axes`; ValueError over an empty axis, nan where any element is."""

    @staticmethod
    def forward(
        context: Context, x: np.ndarray, *, axes: tuple[int, ...], keepdims: bool
    ) -> np.ndarray:
        """backend.reduce_array("max", x, axes, keepdims)."""
        raise NotImplementedError("task 1.6: Max.forward")

    @staticmethod
    def backward(context: Context, upstream: np.ndarray) -> tuple[Any, ...]:
        """Elements that tie for the maximum share its gradient equally; the rest get 0.

        For [3, 1, 3] and an upstream of 1 that is [0.5, 0, 0.5]. Over several axes the ties are
        counted over all of them together. This is the rule of torch.amax.
        """
        raise NotImplementedError("task 1.6: Max.backward")


class LogSumExp(Function):
    """log(sum(exp(x))) over `axes`, stable: finite for every finite x, however large.

    exp overflows at 89 in float32, so the maximum m is taken out first:
    logsumexp(x) = m + log(sum(exp(x - m))).
    -inf is an ordinary input, exp(-inf) = 0: a row of nothing but -inf gives -inf (not nan), and so
    does an empty axis (the log of an empty sum). A row with +inf gives +inf.
    """

    @staticmethod
    def forward(
        context: Context, x: np.ndarray, *, axes: tuple[int, ...], keepdims: bool
    ) -> np.ndarray:
        raise NotImplementedError("task 1.6: LogSumExp.forward")

    @staticmethod
    def backward(context: Context, upstream: np.ndarray) -> tuple[Any, ...]:
        """The slopes are the softmax of x over `axes`.

        Where the value is infinite there is no slope to give: nan, as torch has it.
        """
        raise NotImplementedError("task 1.6: LogSumExp.backward")


def _without(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """`shape` with `axes` left out."""
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)


class Softmax(Function):
    """exp(x) / sum(exp(x)) over `axes`, of x's shape, stable as LogSumExp is.

    A row of nothing but -inf has no distribution: nan, as torch has it. An empty axis stays empty.
    """

    @staticmethod
    def forward(context: Context, x: np.ndarray, *, axes: tuple[int, ...]) -> np.ndarray:
        raise NotImplementedError("task 1.6: Softmax.forward")

    @staticmethod
    def backward(context: Context, upstream: np.ndarray) -> tuple[Any, ...]:
        """Every output depends on every input of its row: with output s and upstream g,

        the gradient is s * (g - sum(g * s)), the sum over `axes`. Only the output is needed: save
        that, and x can be freed.
        """
        raise NotImplementedError("task 1.6: Softmax.backward")


def sum(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The sum over `axis`, or of all elements."""
    return Sum.apply(x, axes=normalise_axes(axis, x.ndim), keepdims=keepdims)


def mean(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The mean over `axis`, or of all elements."""
    return Mean.apply(x, axes=normalise_axes(axis, x.ndim), keepdims=keepdims)


def max(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The maximum over `axis`, or of all elements; ties share the gradient."""
    return Max.apply(x, axes=normalise_axes(axis, x.ndim), keepdims=keepdims)


def logsumexp(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) over `axis`, or over all elements."""
    return LogSumExp.apply(x, axes=normalise_axes(axis, x.ndim), keepdims=keepdims)


def softmax(x: Tensor, axis: Axis = -1) -> Tensor:
    """exp(x) normalised to sum 1 over `axis` (the last by default; None: over all elements)."""
    return Softmax.apply(x, axes=normalise_axes(axis, x.ndim))
