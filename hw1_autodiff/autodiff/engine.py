"""Task 1.4: reverse-mode automatic differentiation over the recorded graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff.function import Node
from autodiff.tensor import Tensor


def topological_order(root: Tensor) -> list[Tensor]:
    """Tensors that `root` was computed from and that need a gradient, `root` first.

    Every tensor stands after all of its consumers (the tensors computed from it), so that walking
    the list from its start meets each tensor when its gradient is complete. Each tensor appears
    once, however many paths lead to it. Tensors with `requires_grad=False` are left out.

    The inputs of a tensor `t` are `t.node.inputs`; a leaf has `t.node is None`.

    Must work on a chain of 50,000 operations: no recursion (Python's stack is 1,000 deep), and
    time linear in the number of tensors and edges.
    Source: depth-first search, reverse postorder (Cormen et al., Introduction to Algorithms, 22.4).
    """
    raise NotImplementedError("task 1.4: topological_order")


def _inputs(tensor: Tensor) -> tuple[Tensor, ...]:
    """The tensors that `tensor` was computed from; none for a leaf."""
    return () if tensor.node is None else tensor.node.inputs


def backward(root: Tensor, gradient: np.ndarray) -> None:
    """Add to the `grad` of every leaf that `root` depends on, then free the graph.

    gradient: the gradient that flows into `root`, an array of root's shape and dtype.

    For each tensor in topological order: a leaf adds the gradient that arrived to its `grad`
    (which may hold an earlier one, and may be None); any other tensor asks
    `tensor.node.gradients(arrived)` for one gradient per input and passes them on. Gradients that
    arrive at the same tensor over several paths are added up.

    Never write into an array that someone else may hold: an operation may return `upstream`
    itself, or one array for two inputs, and the caller keeps `gradient`. A gradient may be a
    RowSparseGradient (task 1.8), which supports `+` but not `+=`.
    Only leaves keep a `grad`. When the walk is done, every node that was visited is freed
    (`node.free()`), so that saved arrays can be reused before the next forward pass; a second
    backward over the same graph raises RuntimeError, which `node.gradients` does for you.
    """
    raise NotImplementedError("task 1.4: backward")


def _send_to_inputs(node: Node, upstream: np.ndarray, arrived: dict[int, Any]) -> None:
    """Add the gradient of each of `node`'s inputs to what has arrived at it, keyed by `id`.

    A helper you may use in `backward`, or leave.
    """
    raise NotImplementedError("task 1.4: _send_to_inputs")
