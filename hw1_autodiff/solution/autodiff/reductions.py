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
        # BEGIN SOLUTION 1.6
        if not context.keepdims:
            upstream = np.expand_dims(upstream, context.axes)
        return (np.broadcast_to(upstream, context.shape),)
        # END SOLUTION


class Mean(Function):
    """The sum over `axes` divided by the number of elements summed; nan over an empty axis."""

    @staticmethod
    def forward(
        context: Context, x: np.ndarray, *, axes: tuple[int, ...], keepdims: bool
    ) -> np.ndarray:
        # BEGIN SOLUTION 1.6
        context.shape, context.axes, context.keepdims = x.shape, axes, keepdims
        context.count = math.prod(x.shape[axis] for axis in axes)
        return np.true_divide(backend.reduce_array("sum", x, axes, keepdims), context.count)
        # END SOLUTION

    @staticmethod
    def backward(context: Context, upstream: np.ndarray) -> tuple[Any, ...]:
        # BEGIN SOLUTION 1.6
        if not context.keepdims:
            upstream = np.expand_dims(upstream, context.axes)
        return (np.broadcast_to(np.true_divide(upstream, context.count), context.shape),)
        # END SOLUTION


class Max(Function):
    """The largest element over `axes`; ValueError over an empty axis, nan where any element is."""

    @staticmethod
    def forward(
        context: Context, x: np.ndarray, *, axes: tuple[int, ...], keepdims: bool
    ) -> np.ndarray:
        """backend.reduce_array("max", x, axes, keepdims)."""
        # BEGIN SOLUTION 1.6
        largest = backend.reduce_array("max", x, axes, True)
        context.save(x == largest)
        context.axes, context.keepdims = axes, keepdims
        return largest if keepdims else np.squeeze(largest, axes)
        # END SOLUTION

    @staticmethod
    def backward(context: Context, upstream: np.ndarray) -> tuple[Any, ...]:
        """Elements that tie for the maximum share its gradient equally; the rest get 0.

        For [3, 1, 3] and an upstream of 1 that is [0.5, 0, 0.5]. Over several axes the ties are
        counted over all of them together. This is the rule of torch.amax.
        """
        # BEGIN SOLUTION 1.6
        (winners,) = context.saved
        if not context.keepdims:
            upstream = np.expand_dims(upstream, context.axes)
        ties = winners.sum(axis=context.axes, keepdims=True).astype(upstream.dtype)
        return (winners * (upstream / ties),)
        # END SOLUTION


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
        # BEGIN SOLUTION 1.6
        kept = tuple(1 if axis in axes else size for axis, size in enumerate(x.shape))
        if x.size == 0:
            value = np.full(kept, -np.inf, x.dtype)
        else:
            largest = backend.reduce_array("max", x, axes, True)
            # inf - inf is nan: an infinite maximum needs no shift, exp and log handle it.
            shift = np.where(np.isinf(largest), np.zeros((), x.dtype), largest)
            total = backend.reduce_array("sum", backend.map_array("exp", x - shift), axes, True)
            with np.errstate(divide="ignore"):
                value = shift + np.log(total)
        context.save(x, value)
        context.axes, context.keepdims = axes, keepdims
        return value if keepdims else value.reshape(_without(x.shape, axes))
        # END SOLUTION

    @staticmethod
    def backward(context: Context, upstream: np.ndarray) -> tuple[Any, ...]:
        """The slopes are the softmax of x over `axes`.

        Where the value is infinite there is no slope to give: nan, as torch has it.
        """
        # BEGIN SOLUTION 1.6
        x, value = context.saved
        if not context.keepdims:
            upstream = np.expand_dims(upstream, context.axes)
        return (upstream * np.exp(x - value),)
        # END SOLUTION


def _without(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """`shape` with `axes` left out."""
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)


class Softmax(Function):
    """exp(x) / sum(exp(x)) over `axes`, of x's shape, stable as LogSumExp is.

    A row of nothing but -inf has no distribution: nan, as torch has it. An empty axis stays empty.
    """

    @staticmethod
    def forward(context: Context, x: np.ndarray, *, axes: tuple[int, ...]) -> np.ndarray:
        # BEGIN SOLUTION 1.6
        context.axes = axes
        if x.size == 0:
            context.save(x)
            return x.copy()
        value = backend.map_array("exp", x - backend.reduce_array("max", x, axes, True))
        value /= backend.reduce_array("sum", value, axes, True)
        context.save(value)
        return value
        # END SOLUTION

    @staticmethod
    def backward(context: Context, upstream: np.ndarray) -> tuple[Any, ...]:
        """Every output depends on every input of its row: with output s and upstream g,

        the gradient is s * (g - sum(g * s)), the sum over `axes`. Only the output is needed: save
        that, and x can be freed.
        """
        # BEGIN SOLUTION 1.6
        (value,) = context.saved
        weighted = upstream * value
        return (weighted - value * weighted.sum(axis=context.axes, keepdims=True),)
        # END SOLUTION


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
