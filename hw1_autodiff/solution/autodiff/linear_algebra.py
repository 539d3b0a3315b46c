"""Task 1.7: the matrix product, batched and broadcast, with its gradient."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from autodiff import backend
from autodiff.function import Context, Function
from autodiff.tensor import Tensor


class MatMul(Function):
    """a @ b by the rules of numpy.matmul.

    * (m, k) @ (k, n) is (m, n); leading axes are batches and broadcast against each other:
      (5, 1, m, k) @ (3, k, n) is (5, 3, m, n), one product for every pair.
    * A 1-D left operand (k,) is a row (1, k), a 1-D right operand (k,) a column (k, 1); the axis
      added is taken out of the result: (k,) @ (k,) is 0-D, (b, m, k) @ (k,) is (b, m).
    * Any size may be 0; over an empty k the product is 0.

    Raises ValueError, naming both shapes, for a 0-D operand, for inner sizes that differ, and for
    batch axes that do not broadcast. Operands are of one dtype, and need not be contiguous.
    """

    @staticmethod
    def forward(context: Context, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Check the shapes, add the missing axis of 1-D operands, and use `backend.matmul`."""
        # BEGIN SOLUTION 1.7
        if a.ndim == 0 or b.ndim == 0:
            raise ValueError(f"matmul needs at least one axis, got shapes {a.shape} and {b.shape}")
        left = a[None, :] if a.ndim == 1 else a
        right = b[:, None] if b.ndim == 1 else b
        if left.shape[-1] != right.shape[-2]:
            raise ValueError(f"matmul: the inner sizes of {a.shape} and {b.shape} differ")
        try:
            np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
        except ValueError:
            raise ValueError(f"matmul: the batches of {a.shape} and {b.shape} differ") from None
        product = backend.matmul(left, right)
        context.save(left, right)
        context.shapes = a.shape, b.shape, product.shape
        added = [axis for axis, operand in ((-2, a), (-1, b)) if operand.ndim == 1]
        return np.squeeze(product, axis=tuple(added))
        # END SOLUTION

    @staticmethod
    def backward(context: Context, upstream: np.ndarray) -> tuple[Any, ...]:
        """With C = A B and G the upstream gradient: dA = G Bᵀ and dB = Aᵀ G, batch by batch.

        Summed over every batch axis along which the operand was broadcast. Compute nothing for an
        operand whose `context.needs` is False: the gradient of a batch of data can be larger than
        everything else in the step.

        Cost: the case that every layer of a network meets is (batch, time, k) @ (k, n). Its dB is
        one product of two tall matrices, (k, batch·time) @ (batch·time, n). One product per batch,
        summed afterwards, needs batch·k·n numbers of memory; the tests measure that.
        """
        # BEGIN SOLUTION 1.7
        left, right = context.saved
        a_shape, b_shape, product_shape = context.shapes
        upstream = upstream.reshape(product_shape)
        da = db = None
        if context.needs[0]:
            da = _sum_batches(backend.matmul(upstream, right.swapaxes(-1, -2)), left.shape)
            da = da.reshape(a_shape)
        if context.needs[1] and right.ndim == 2:
            rows = math.prod(product_shape[:-1])
            tall_left = left.reshape(rows, left.shape[-1])
            db = backend.matmul(tall_left.T, upstream.reshape(rows, product_shape[-1]))
            db = db.reshape(b_shape)
        elif context.needs[1]:
            db = _sum_batches(backend.matmul(left.swapaxes(-1, -2), upstream), right.shape)
        return da, db
        # END SOLUTION


def _sum_batches(gradient: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """`gradient` (…, rows, columns) summed over the batch axes that `shape` lacks or has as 1.

    A helper you may use in `MatMul.backward`, or leave.
    """
    # BEGIN SOLUTION 1.7
    lead = gradient.ndim - len(shape)
    if lead:
        gradient = gradient.sum(axis=tuple(range(lead)))
    for axis in range(len(shape) - 2):
        if shape[axis] == 1 and gradient.shape[axis] != 1:
            gradient = gradient.sum(axis=axis, keepdims=True)
    return gradient
    # END SOLUTION


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """a @ b; the last two axes are multiplied, the leading ones broadcast."""
    return MatMul.apply(a, b)
