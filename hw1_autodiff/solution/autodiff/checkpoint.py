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
    # BEGIN SOLUTION 1.12
    if not graph.is_recording():
        return function(*inputs)
    states = [generator.bit_generator.state for generator in generators]
    value, wanted = _run_and_forget(function, inputs)
    if not wanted:
        return Tensor(value)
    tensors = tuple(x for x in inputs if isinstance(x, Tensor))
    context = Context(tuple(x.requires_grad for x in tensors))
    context.save(function, inputs, tuple(generators), states)
    return Tensor(value, requires_grad=True, node=Node(Recompute, context, tensors))
    # END SOLUTION


class Recompute(Function):
    """The one node that stands for a checkpointed function; made by `checkpoint`."""

    @staticmethod
    def backward(context: Context, upstream: np.ndarray) -> tuple[Any, ...]:
        """One gradient per tensor input (None where none is needed), by running forward again."""
        # BEGIN SOLUTION 1.12
        function, inputs, generators, states = context.saved
        leaves = [_detached(x) for x in inputs]
        with _replayed(generators, states), graph.set_recording(True):
            result = function(*leaves)
        result.backward(upstream)
        return tuple(leaf.grad for leaf in leaves if isinstance(leaf, Tensor))
        # END SOLUTION


def _run_and_forget(
    function: Callable[..., Tensor], inputs: tuple[Any, ...]
) -> tuple[np.ndarray, bool]:
    """The function's value, and whether it needs a gradient; its graph is gone on return.

    A helper you may use in `checkpoint`, or leave.
    """
    # BEGIN SOLUTION 1.12
    result = function(*(_detached(x) for x in inputs))
    return result.data, result.requires_grad
    # END SOLUTION


def _detached(x: Any) -> Any:
    """A leaf with x's array that needs a gradient if x does; anything but a tensor unchanged.

    A helper you may use, or leave.
    """
    # BEGIN SOLUTION 1.12
    return Tensor(x.data, requires_grad=x.requires_grad) if isinstance(x, Tensor) else x
    # END SOLUTION


@contextmanager
def _replayed(
    generators: Sequence[np.random.Generator], states: Sequence[Any]
) -> Iterator[None]:
    """Inside the block the generators are in `states`; after it, in the states they had before.

    A helper you may use in `Recompute.backward`, or leave.
    """
    # BEGIN SOLUTION 1.12
    found = [generator.bit_generator.state for generator in generators]
    try:
        for generator, state in zip(generators, states, strict=True):
            generator.bit_generator.state = state
        yield
    finally:
        for generator, state in zip(generators, found, strict=True):
            generator.bit_generator.state = state
    # END SOLUTION
