"""Task 1.5: elementwise operations that broadcast, and their gradients.

`Add` is complete: it is the pattern for the rest. A forward gets plain arrays, computes through
`autodiff.backend` (so that it can run on your kernels), and saves what backward will want. Save as
little as will do, and never write into an input or into `upstream`: both belong to someone else.

Every gradient has the dtype of the tensor and exactly the shape of the input it belongs to.
"""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np

from autodiff import backend
from autodiff.function import Context, Function
from autodiff.tensor import Tensor

GELU_SCALE = math.sqrt(2.0 / math.pi)
GELU_CUBIC = 0.044715


def unbroadcast(gradient: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Sum `gradient` down to `shape`, the shape an input had before it was broadcast.

    gradient: an array of the broadcast shape; shape: broadcasts to gradient.shape.
    Returns an array of exactly `shape`, of gradient's dtype; `gradient` itself is not changed, and
    may be returned where nothing is to be summed.

    Broadcasting copies one element to many places, and a copied element's gradient is the sum of
    the gradients at all of them. Two things are copied: axes that `shape` lacks (on the left) and
    axes where it has size 1. For shape (3, 1) and a gradient of shape (2, 3, 4) that is axis 0 and
    axis 2. Size-0 axes are ordinary: (1,) broadcasts to (0,), and its gradient is an empty sum, 0.
    """
    # BEGIN SOLUTION 1.5
    added = gradient.ndim - len(shape)
    copied = [*range(added)]
    copied += [added + i for i, size in enumerate(shape) if size == 1 != gradient.shape[added + i]]
    total = gradient.sum(axis=tuple(copied), keepdims=True) if copied else gradient
    return np.reshape(total, shape)
    # END SOLUTION


class Add(Function):
    """a + b. Complete, as the example."""

    @staticmethod
    def forward(context: Context, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        context.shapes = a.shape, b.shape
        return backend.zip_arrays("add", a, b)

    @staticmethod
    def backward(context: Context, upstream: np.ndarray) -> tuple[Any, ...]:
        a_shape, b_shape = context.shapes
        # `needs` says whose gradient is wanted; the sum for a constant would be wasted work.
        return (
            unbroadcast(upstream, a_shape) if context.needs[0] else None,
            unbroadcast(upstream, b_shape) if context.needs[1] else None,
        )


class Subtract(Function):
    """a - b."""

    @staticmethod
    def forward(context: Context, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        context.shapes = a.shape, b.shape
        return backend.zip_arrays("sub", a, b)

    @staticmethod
    def backward(context: Context, upstream: np.ndarray) -> tuple[Any, ...]:
        # BEGIN SOLUTION 1.5
        a_shape, b_shape = context.shapes
        da = unbroadcast(upstream, a_shape) if context.needs[0] else None
        db = -unbroadcast(upstream, b_shape) if context.needs[1] else None
        return da, db
        # END SOLUTION


class Multiply(Function):
    """a * b."""

    @staticmethod
    def forward(context: Context, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        context.save(a, b)
        return backend.zip_arrays("mul", a, b)

    @staticmethod
    def backward(context: Context, upstream: np.ndarray) -> tuple[Any, ...]:
        # BEGIN SOLUTION 1.5
        a, b = context.saved
        return (
            unbroadcast(upstream * b, a.shape) if context.needs[0] else None,
            unbroadcast(upstream * a, b.shape) if context.needs[1] else None,
        )
        # END SOLUTION


class Divide(Function):
    """a / b. Where b is 0 the value and the gradients are inf or nan, as IEEE 754 has it."""

    @staticmethod
    def forward(context: Context, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """backend.zip_arrays("div", a, b); save what backward needs."""
        # BEGIN SOLUTION 1.5
        context.save(a, b)
        return backend.zip_arrays("div", a, b)
        # END SOLUTION

    @staticmethod
    def backward(context: Context, upstream: np.ndarray) -> tuple[Any, ...]:
        # BEGIN SOLUTION 1.5
        a, b = context.saved
        scaled = upstream / b
        return (
            unbroadcast(scaled, a.shape) if context.needs[0] else None,
            unbroadcast(-scaled * (a / b), b.shape) if context.needs[1] else None,
        )
        # END SOLUTION


class Negate(Function):
    """-x."""

    @staticmethod
    def forward(context: Context, x: np.ndarray) -> np.ndarray:
        return backend.map_array("neg", x)

    @staticmethod
    def backward(context: Context, upstream: np.ndarray) -> tuple[Any, ...]:
        # BEGIN SOLUTION 1.5
        return (-upstream,)
        # END SOLUTION


class Power(Function):
    """x ** exponent for a constant exponent, a Python number."""

    @staticmethod
    def forward(context: Context, x: np.ndarray, *, exponent: float) -> np.ndarray:
        context.save(x)
        context.exponent = exponent
        return x**exponent

    @staticmethod
    def backward(context: Context, upstream: np.ndarray) -> tuple[Any, ...]:
        """x ** 0 is the constant 1: its gradient is 0 everywhere, at x = 0 too (0 * inf is nan)."""
        # BEGIN SOLUTION 1.5
        (x,) = context.saved
        if context.exponent == 0:
            return (np.zeros_like(upstream),)
        return (upstream * (context.exponent * x ** (context.exponent - 1)),)
        # END SOLUTION


class Exp(Function):
    """e ** x."""

    @staticmethod
    def forward(context: Context, x: np.ndarray) -> np.ndarray:
        """backend.map_array("exp", x). Which array serves backward better, x or the result?"""
        # BEGIN SOLUTION 1.5
        value = backend.map_array("exp", x)
        context.save(value)
        return value
        # END SOLUTION

    @staticmethod
    def backward(context: Context, upstream: np.ndarray) -> tuple[Any, ...]:
        # BEGIN SOLUTION 1.5
        (value,) = context.saved
        return (upstream * value,)
        # END SOLUTION


class Log(Function):
    """The natural logarithm; -inf at 0 and nan below."""

    @staticmethod
    def forward(context: Context, x: np.ndarray) -> np.ndarray:
        """backend.map_array("log", x)."""
        # BEGIN SOLUTION 1.5
        context.save(x)
        return backend.map_array("log", x)
        # END SOLUTION

    @staticmethod
    def backward(context: Context, upstream: np.ndarray) -> tuple[Any, ...]:
        # BEGIN SOLUTION 1.5
        (x,) = context.saved
        return (upstream / x,)
        # END SOLUTION


class Tanh(Function):
    """The hyperbolic tangent."""

    @staticmethod
    def forward(context: Context, x: np.ndarray) -> np.ndarray:
        """backend.map_array("tanh", x)."""
        # BEGIN SOLUTION 1.5
        value = backend.map_array("tanh", x)
        context.save(value)
        return value
        # END SOLUTION

    @staticmethod
    def backward(context: Context, upstream: np.ndarray) -> tuple[Any, ...]:
        # BEGIN SOLUTION 1.5
        (value,) = context.saved
        return (upstream * (1 - value * value),)
        # END SOLUTION


class ReLU(Function):
    """max(x, 0). The gradient at exactly 0 is 0."""

    @staticmethod
    def forward(context: Context, x: np.ndarray) -> np.ndarray:
        """backend.map_array("relu", x)."""
        # BEGIN SOLUTION 1.5
        context.save(x > 0)  # one byte an element instead of four or eight
        return backend.map_array("relu", x)
        # END SOLUTION

    @staticmethod
    def backward(context: Context, upstream: np.ndarray) -> tuple[Any, ...]:
        """A unit that is off passes exactly 0 on, even where `upstream` is inf or nan."""
        # BEGIN SOLUTION 1.5
        (is_on,) = context.saved
        return (np.where(is_on, upstream, np.zeros((), upstream.dtype)),)
        # END SOLUTION


class GELU(Function):
    """0.5 x (1 + tanh(u)) with u = GELU_SCALE (x + GELU_CUBIC x³).

    Source: Hendrycks and Gimpel, Gaussian Error Linear Units, arXiv 1606.08415, the tanh form.
    """

    @staticmethod
    def forward(context: Context, x: np.ndarray) -> np.ndarray:
        """backend.map_array("gelu", x)."""
        # BEGIN SOLUTION 1.5
        context.save(x)
        return backend.map_array("gelu", x)
        # END SOLUTION

    @staticmethod
    def backward(context: Context, upstream: np.ndarray) -> tuple[Any, ...]:
        """x stands in the formula twice: outside the tanh and, through u, inside it."""
        # BEGIN SOLUTION 1.5
        (x,) = context.saved
        square = x * x
        bent = np.tanh(GELU_SCALE * x * (1 + GELU_CUBIC * square))
        inner_slope = GELU_SCALE * (1 + 3 * GELU_CUBIC * square)
        slope = 0.5 * (1 + bent) + 0.5 * x * (1 - bent * bent) * inner_slope
        return (upstream * slope,)
        # END SOLUTION


def add(a: Tensor | float, b: Tensor | float) -> Tensor:
    """a + b, broadcast; a number counts as a constant tensor."""
    return Add.apply(a, b)


def subtract(a: Tensor | float, b: Tensor | float) -> Tensor:
    """a - b, broadcast."""
    return Subtract.apply(a, b)


def multiply(a: Tensor | float, b: Tensor | float) -> Tensor:
    """a * b elementwise, broadcast."""
    return Multiply.apply(a, b)


def divide(a: Tensor | float, b: Tensor | float) -> Tensor:
    """a / b elementwise, broadcast."""
    return Divide.apply(a, b)


def negate(x: Tensor) -> Tensor:
    """-x."""
    return Negate.apply(x)


def power(x: Tensor, exponent: float) -> Tensor:
    """x ** exponent; the exponent is a number, not a tensor (TypeError)."""
    if not isinstance(exponent, numbers.Real):
        raise TypeError(f"the exponent must be a number, not {type(exponent).__name__}")
    # A Python float: a numpy float64 would turn a float32 array into float64.
    return Power.apply(x, exponent=float(exponent))


def exp(x: Tensor) -> Tensor:
    """e ** x."""
    return Exp.apply(x)


def log(x: Tensor) -> Tensor:
    """The natural logarithm of x."""
    return Log.apply(x)


def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent of x."""
    return Tanh.apply(x)


def relu(x: Tensor) -> Tensor:
    """max(x, 0)."""
    return ReLU.apply(x)


def gelu(x: Tensor) -> Tensor:
    """The Gaussian error linear unit of x, in its tanh form."""
    return GELU.apply(x)
