"""Task 1.12: activation checkpointing: keep a block's inputs, compute its inside again in backward.

    for block in blocks:
        x = checkpoint(block, x, generators=[dropout_rng])
    x.backward(gradient)            # the same gradients; memory for one block instead of all

Source: Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from autodiff import function as graph
from autodiff.function import Context, Function, Node
from autodiff.tensor import Tensor


def checkpoint(
    function: Callable[..., Tensor],
    *inputs: Any,
    generators: Sequence[np.random.Generator] = (),
) -> Tensor:
    """function(*inputs), without keeping what its operations saved for backward.

    function: maps the inputs to one tensor. It may use parameters (leaves) from outside, by closure
        or as `self`; any other tensor that needs a gradient must come in through `inputs`.
    inputs: tensors; anything else (an array of ids, a number) is handed on unchanged.
    generators: every random generator that `function` draws from.

    Forward: call the function on the inputs' values and return its value as a tensor with *one*
    node, `Recompute`. What is kept: the inputs, and the generators' states before the call
    (`generator.bit_generator.state`, read and assigned). The result requires a gradient exactly
    when the function's own result does, be it only because of a parameter in the closure: call the
    function on detached inputs with recording on, look, and drop that graph.
    Where recording is off (`no_grad`), it is just function(*inputs).

    Backward: call the function again on detached inputs (leaves) with recording switched on and
    the generators as they were, so that dropout drops the same elements; run backward through the
    fresh graph; return the gradients of the leaves. Parameters in the closure collect theirs in
    `grad` by that. Afterwards the generators are in the state that backward found them in: the
    next forward must not draw the same numbers once more.

    Gradients are bit-equal to those without checkpoint (where a parameter is used once). May be
    nested, and an input may need no gradient.
    """
    raise NotImplementedError("task 1.12: checkpoint")


class Recompute(Function):
    """The one node that stands for a checkpointed function; made by `checkpoint`."""

    @staticmethod
    def backward(context: Context, upstream: np.ndarray) -> tuple[Any, ...]:
        """One gradient per tensor input (None where none is needed), by running forward again."""
        raise NotImplementedError("task 1.12: Recompute.backward")


def _run_and_forget(
    function: Callable[..., Tensor], inputs: tuple[Any, ...]
) -> tuple[np.ndarray, bool]:
    """The function's value, and whether it needs a gradient; its graph is gone on return.

    A helper you may use in `checkpoint`, or leave.
    """
    raise NotImplementedError("task 1.12: _run_and_forget")


def _detached(x: Any) -> Any:
    """A leaf with x's array that needs a gradient if x does; anything but a tensor unchanged.

    A helper you may use, or leave.
    """
    raise NotImplementedError("task 1.12: _detached")


@contextmanager
def _replayed(
    generators: Sequence[np.random.Generator], states: Sequence[Any]
) -> Iterator[None]:
    """Inside the block the generators are in `states`; after it, in the states they had before.

    A helper you may use in `Recompute.backward`, or leave.
    """
    raise NotImplementedError("task 1.12: _replayed")
