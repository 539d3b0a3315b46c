"""Task 1.9: cross-entropy from logits, forward and backward fused."""

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff.function import Context, Function
from autodiff.tensor import Tensor


class CrossEntropy(Function):
    """The mean over positions of -log softmax(logits)[target].

    With z a row of logits, m its maximum and t its target, a row's loss is
        log(sum(exp(z - m))) + m - z[t],
    and its gradient in z is softmax(z) minus 1 at t. Never take the log of a softmax: a probability
    that rounds to 0 has no logarithm.

    The logits are the largest array of a language model (batch · time · vocabulary), so memory is
    the point: forward and backward together make at most one array of their size. The logits
    themselves are never written to; an array of your own may be overwritten (numpy's out=, and
    operators such as `/=`), which is why this one operation calls numpy and not `backend`.
    """

    @staticmethod
    def forward(
        context: Context, logits: np.ndarray, *, targets: np.ndarray, ignore_index: int | None
    ) -> np.ndarray:
        """The loss, 0-D, of the logits' dtype.

        logits: (…, classes), any strides; -inf says that a class is impossible (a target that is
        impossible costs inf, a row of nothing but -inf is nan).
        targets: integers of shape logits.shape[:-1]; 0-D for logits of shape (classes,).
        ignore_index: positions with this target (it need not be a class, and may be negative) count
        for nothing: not in the sum, not in the mean's divisor. None: none is ignored.
        With no position left the loss is nan (0 / 0) and every gradient 0, as torch has it.

        Raises TypeError if targets are not integers, ValueError if their shape is wrong, and
        IndexError that names the first target (not ignored) outside 0..classes-1, negative ones
        too.
        """
        # BEGIN SOLUTION 1.9
        _check_targets(logits, targets, ignore_index)
        classes = logits.shape[-1]
        flat = targets.reshape(-1).astype(np.int64)
        kept = np.ones(len(flat), bool) if ignore_index is None else flat != ignore_index
        largest = logits.max(axis=-1, keepdims=True)
        # Row-major, whatever the strides of the logits: `rows` below must be a view of it.
        weights = np.empty(logits.shape, logits.dtype)
        np.subtract(logits, largest, out=weights)
        rows = weights.reshape(len(flat), classes)
        places = np.flatnonzero(kept)
        shifted_target = rows[places, flat[places]]
        np.exp(rows, out=rows)
        totals = rows.sum(axis=-1, keepdims=True)
        losses = np.log(totals[places, 0]) - shifted_target
        context.save(rows, totals, flat, kept)
        context.shape = logits.shape
        with np.errstate(invalid="ignore"):
            return np.asarray(losses.sum() / logits.dtype.type(len(places)))
        # END SOLUTION

    @staticmethod
    def backward(context: Context, upstream: np.ndarray) -> tuple[Any, ...]:
        """upstream: 0-D. The gradient of an ignored position is exactly 0, whatever its logits."""
        # BEGIN SOLUTION 1.9
        rows, totals, flat, kept = context.saved
        places = np.flatnonzero(kept)
        # The saved array is ours alone and backward runs once: it becomes the gradient.
        rows /= totals
        rows[places, flat[places]] -= 1
        if len(places):
            rows *= upstream / rows.dtype.type(len(places))
        rows[~kept] = 0
        return (rows.reshape(context.shape),)
        # END SOLUTION


def _check_targets(logits: np.ndarray, targets: np.ndarray, ignore_index: int | None) -> None:
    """Raise what `CrossEntropy.forward` promises for wrong targets.

    A helper you may use in it, or leave.
    """
    # BEGIN SOLUTION 1.9
    if targets.dtype.kind not in "iu":
        raise TypeError(f"targets must be integers, not {targets.dtype}")
    if targets.shape != logits.shape[:-1]:
        raise ValueError(f"targets of shape {targets.shape} do not fit logits {logits.shape}")
    wrong = (targets < 0) | (targets >= logits.shape[-1])
    if ignore_index is not None:
        wrong &= targets != ignore_index
    if wrong.any():
        first = int(targets[wrong][0])
        raise IndexError(f"target {first} is not a class; there are {logits.shape[-1]}")
    # END SOLUTION


def cross_entropy(logits: Tensor, targets: Any, ignore_index: int | None = None) -> Tensor:
    """The mean cross-entropy of `logits` (…, classes) against integer `targets` (…).

    See CrossEntropy.forward for ignored positions and for what is refused.
    """
    targets = np.asarray(targets)
    if targets.size == 0:
        targets = targets.astype(np.int64)
    return CrossEntropy.apply(logits, targets=targets, ignore_index=ignore_index)
