"""The glue between tests and the student's package: plain functions, arrays in, arrays out.

Staff files: a submission can't replace them. A driver imports the package inside its body, because
this module is also loaded where no student code may run.
"""

from __future__ import annotations

import gc
import importlib
import weakref
from pathlib import Path
from typing import Any

import numpy as np


def _operation(name: str) -> Any:
    """Operations that need no task but 1.4: they are written out here on `Function`."""
    from autodiff import Function

    class Add(Function):
        @staticmethod
        def forward(context, a, b):
            return a + b

        @staticmethod
        def backward(context, upstream):
            # The same array twice: whoever accumulates in place corrupts one of them.
            return upstream, upstream

    class Multiply(Function):
        @staticmethod
        def forward(context, a, b):
            context.save(a, b)
            return a * b

        @staticmethod
        def backward(context, upstream):
            a, b = context.saved
            return upstream * b, upstream * a

    class Scale(Function):
        @staticmethod
        def forward(context, a, *, by):
            context.by = by
            return a * by

        @staticmethod
        def backward(context, upstream):
            return (upstream * context.by,)

    class Identity(Function):
        @staticmethod
        def forward(context, a):
            return a.copy()

        @staticmethod
        def backward(context, upstream):
            return (upstream,)

    class Blocked(Function):
        @staticmethod
        def forward(context, a):
            return a * 2

        @staticmethod
        def backward(context, upstream):
            return (None,)

    return {c.__name__: c for c in (Add, Multiply, Scale, Identity, Blocked)}[name].apply


def evaluate_program(program: list[list[Any]], leaves: list[Any], wanted: list[bool]) -> list[Any]:
    """Runs a straight-line program over leaves, sums the last value backward; gradients of leaves.

    program: [operation, index, …] a line; each appends one value to the list that starts as leaves.
    """
    from autodiff import Tensor

    values = [Tensor(x, requires_grad=w) for x, w in zip(leaves, wanted, strict=True)]
    inputs = list(values)
    for name, *places in program:
        if name == "Scale":
            values.append(_operation(name)(values[places[0]], by=places[1]))
        else:
            values.append(_operation(name)(*(values[place] for place in places)))
    values[-1].backward(np.ones(values[-1].shape))
    interior = [value.grad for value in values[len(inputs) :] if value.node is not None]
    return [[x.grad for x in inputs], all(grad is None for grad in interior)]


def order_of_program(program: list[list[Any]], leaves: int, wanted: list[bool]) -> list[int]:
    """topological_order of the last value, as indices into the program's list of values."""
    from autodiff import Tensor
    from autodiff.engine import topological_order

    values = [Tensor(np.ones(2), requires_grad=wanted[place]) for place in range(leaves)]
    for name, *places in program:
        values.append(_operation(name)(*(values[place] for place in places)))
    place_of = {id(value): place for place, value in enumerate(values)}
    return [place_of[id(value)] for value in topological_order(values[-1])]


def chain_gradient(x: np.ndarray, length: int, by: float) -> np.ndarray:
    """The gradient through a chain of `length` scalings by `by`."""
    from autodiff import Tensor

    scale = _operation("Scale")
    leaf = Tensor(x, requires_grad=True)
    value = leaf
    for _ in range(length):
        value = scale(value, by=by)
    value.backward(np.ones(x.shape))
    return leaf.grad


def ladder_gradient(x: np.ndarray, rungs: int) -> np.ndarray:
    """The gradient through v = v + v, `rungs` times: 2**rungs paths, rungs nodes."""
    from autodiff import Tensor

    add = _operation("Add")
    leaf = Tensor(x, requires_grad=True)
    value = leaf
    for _ in range(rungs):
        value = add(value, value)
    value.backward(np.ones(x.shape))
    return leaf.grad


def accumulated_gradients(x: np.ndarray, times: int) -> list[Any]:
    """leaf.grad after each of `times` forward and backward passes without clearing it."""
    from autodiff import Tensor

    leaf = Tensor(x, requires_grad=True)
    seen = []
    for _ in range(times):
        _operation("Multiply")(leaf, leaf).backward(np.ones(x.shape))
        seen.append(leaf.grad)
    return [seen[0], seen[-1]]


def gradient_is_own_array(x: np.ndarray, upstream: np.ndarray) -> list[Any]:
    """Writes into the leaf's gradient, then returns the upstream array and a second leaf's grad."""
    from autodiff import Tensor

    first, second = Tensor(x, requires_grad=True), Tensor(x, requires_grad=True)
    _operation("Add")(first, second).backward(upstream)
    first.grad += 100.0
    return [upstream, second.grad]


def backward_of_leaf(x: np.ndarray, upstream: np.ndarray) -> np.ndarray:
    """backward called on a leaf itself."""
    from autodiff import Tensor

    leaf = Tensor(x, requires_grad=True)
    leaf.backward(upstream)
    return leaf.grad


def freed_after_backward(x: np.ndarray) -> dict[str, Any]:
    """What is still alive after backward, with the garbage collector off."""
    from autodiff import Function, Tensor

    alive: list[Any] = []

    class Saving(Function):
        @staticmethod
        def forward(context, a):
            kept = a * 2.0
            alive.append(weakref.ref(kept))
            context.save(kept)
            return kept.copy()

        @staticmethod
        def backward(context, upstream):
            return (upstream * 2.0,)

    gc.disable()
    leaf = Tensor(x, requires_grad=True)
    value = leaf
    for _ in range(6):
        value = Saving.apply(value)
    before = sum(reference() is not None for reference in alive)
    value.backward(np.ones(x.shape))
    after = sum(reference() is not None for reference in alive)
    return {"before": before, "after": after, "grad": leaf.grad, "freed": value.node.freed}


def backward_twice(x: np.ndarray) -> None:
    """A second backward over the same graph."""
    from autodiff import Tensor

    leaf = Tensor(x, requires_grad=True)
    result = _operation("Multiply")(leaf, leaf)
    result.backward(np.ones(x.shape))
    result.backward(np.ones(x.shape))


def shared_part_after_backward(x: np.ndarray) -> None:
    """Backward through a part of the graph that an earlier backward freed."""
    from autodiff import Tensor

    leaf = Tensor(x, requires_grad=True)
    shared = _operation("Multiply")(leaf, leaf)
    first, second = _operation("Scale")(shared, by=2.0), _operation("Scale")(shared, by=3.0)
    first.backward(np.ones(x.shape))
    second.backward(np.ones(x.shape))


def graph_of_expression() -> dict[str, Any]:
    """Nodes and edges of (x·w + b)·(x·w) for the report's picture, with their backward order."""
    from autodiff import Tensor
    from autodiff.engine import topological_order

    x, w, b = (Tensor(np.ones(1), requires_grad=True) for _ in "xwb")
    product = _operation("Multiply")(x, w)
    total = _operation("Add")(product, b)
    result = _operation("Multiply")(total, product)
    names = {id(x): "x", id(w): "w", id(b): "b"}
    nodes, edges = [], []
    for place, tensor in enumerate(topological_order(result)):
        label = names.get(id(tensor)) or tensor.node.function.__name__
        kind = "leaf" if tensor.node is None else "operation"
        nodes.append({"id": str(id(tensor)), "label": label, "order": place, "kind": kind})
        inputs = () if tensor.node is None else tensor.node.inputs
        edges += [[str(id(tensor)), str(id(source))] for source in inputs]
    return {"nodes": nodes, "edges": edges}


# The drivers of the other tasks, so that a test names all of them as `drivers.…`.
for _path in sorted(Path(__file__).parent.glob("drivers_*.py")):
    _found = vars(importlib.import_module(_path.stem))
    globals().update({name: value for name, value in _found.items() if name[0] != "_"})

# Task -> driver that compiles its kernels: run once a submission, in a worker that may write the
# cache which later workers only read.
WARM_UP: dict[str, Any] = {
    task: driver
    for name, drivers in list(globals().items())
    if name.startswith("WARM_UP_")
    for task, driver in drivers.items()
}
