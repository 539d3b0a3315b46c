"""Drivers of tasks 1.5 to 1.9: arrays in, arrays out. The student's package is imported inside.

A question is a dictionary:
    function: "module.name" of the operation; inputs: arrays; options: keyword arguments.
    upstream: the gradient that flows into the result; left out to ask for the value alone.
    layouts: how each input lies in memory (see `laid_out`); default "plain".
    constants: places of the inputs that are plain constants and need no gradient.
    same: True to pass the first input, one tensor, in every place.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np


def laid_out(array: np.ndarray, layout: str) -> np.ndarray:
    """An array equal to `array`, in memory of its own, with the strides that `layout` names."""
    if layout == "plain" or array.ndim == 0:
        return array.copy()
    if layout == "transposed":
        return np.ascontiguousarray(array.T).T
    if layout == "reversed":
        return np.flip(np.flip(array).copy())
    if layout == "strided":
        # Every second element of a larger array whose other elements are traps.
        wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), np.nan, array.dtype)
        wide[..., ::2] = array
        return wide[..., ::2]
    raise ValueError(layout)


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """One question's value, gradients, and what became of the arrays that went in."""
    from autodiff import Tensor

    arrays = question["inputs"]
    layouts = question.get("layouts", ["plain"] * len(arrays))
    constants = question.get("constants", [])
    tensors = [
        Tensor(laid_out(array, layout), requires_grad=place not in constants)
        for place, (array, layout) in enumerate(zip(arrays, layouts, strict=True))
    ]
    module, name = question["function"].split(".")
    function = getattr(importlib.import_module(f"autodiff.{module}"), name)
    operands = [tensors[0], tensors[0]] if question.get("same") else tensors
    value = function(*operands, **question.get("options", {}))
    reply = {"value": np.array(value.data), "gradients": [], "upstream": None}
    if "upstream" in question:
        upstream = question["upstream"].copy()
        value.backward(upstream)
        reply["upstream"] = upstream
        reply["gradients"] = [_plain(tensor.grad) for tensor in tensors]
    reply["inputs"] = [np.array(tensor.data) for tensor in tensors]
    return reply


def answers(questions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`answer` for each."""
    return [answer(question) for question in questions]


def _plain(gradient: Any) -> np.ndarray | None:
    return None if gradient is None else np.array(gradient)


def unbroadcast(gradients: list[np.ndarray], shapes: list[list[int]]) -> list[np.ndarray]:
    """elementwise.unbroadcast of each gradient to each shape."""
    from autodiff import elementwise

    return [
        np.array(elementwise.unbroadcast(gradient, tuple(shape)))
        for gradient, shape in zip(gradients, shapes, strict=True)
    ]


def composite(x: np.ndarray, y: np.ndarray, upstream: np.ndarray) -> dict[str, Any]:
    """1 / (1 + exp(-x)) * gelu(y) - tanh(2xy) / 3 + (y - 1) ** 2 + relu(x), by operators."""
    from autodiff import Tensor

    x, y = Tensor(x, requires_grad=True), Tensor(y, requires_grad=True)
    value = (1 / (1 + (-x).exp()) * y.gelu() - (2 * x * y).tanh() / 3 + (y - 1) ** 2) + x.relu()
    value.backward(upstream)
    return {"value": np.array(value.data), "x": _plain(x.grad), "y": _plain(y.grad)}


def with_numbers(x: np.ndarray, upstream: np.ndarray) -> list[dict[str, Any]]:
    """Operators between a tensor and a Python number, the number on either side."""
    from autodiff import Tensor

    results = []
    for operation in (
        lambda t: t + 2,
        lambda t: 2 + t,
        lambda t: t - 3,
        lambda t: 3 - t,
        lambda t: t * 4,
        lambda t: 0.5 * t,
        lambda t: t / 5,
        lambda t: 5 / t,
        lambda t: -t,
    ):
        tensor = Tensor(x.copy(), requires_grad=True)
        value = operation(tensor)
        value.backward(upstream)
        results.append({"value": np.array(value.data), "gradient": _plain(tensor.grad)})
    return results


def lookups(table: np.ndarray, batches: list[Any]) -> list[np.ndarray]:
    """embedding(table, ids) for each of the batches of ids."""
    from autodiff import Tensor
    from autodiff.embedding import embedding

    return [np.array(embedding(Tensor(table), ids).data) for ids in batches]


def lookup_gradient(
    table: np.ndarray,
    batches: list[Any],
    upstreams: list[np.ndarray],
    overwrite_ids: bool = False,
    dense_term: np.ndarray | None = None,
) -> dict[str, Any]:
    """The table's gradient after looking up each batch of ids and sending each upstream back.

    overwrite_ids: put other ids into the caller's array between forward and backward.
    dense_term: a dense gradient that reaches the same table between the lookups.
    """
    from autodiff import Tensor
    from autodiff.embedding import embedding

    tensor = Tensor(table, requires_grad=True)
    for place, (ids, upstream) in enumerate(zip(batches, upstreams, strict=True)):
        value = embedding(tensor, ids)
        if overwrite_ids:
            ids[...] = 0
        value.backward(upstream)
        if place == 0 and dense_term is not None:
            _dense_path().apply(tensor).backward(dense_term)
    described = described_gradient(tensor.grad)
    return {**described, "table": np.array(tensor.data), "upstreams": upstreams}


def _dense_path() -> Any:
    """An operation that passes its gradient on as it is: a second, dense use of a table."""
    from autodiff import Function

    class Same(Function):
        @staticmethod
        def forward(context: Any, x: np.ndarray) -> np.ndarray:
            return x.copy()

        @staticmethod
        def backward(context: Any, upstream: np.ndarray) -> tuple[Any, ...]:
            return (upstream,)

    return Same


def described_gradient(gradient: Any) -> dict[str, Any]:
    """Rows, values and dense form of a RowSparseGradient, or the array of a dense gradient."""
    from autodiff.embedding import RowSparseGradient

    if isinstance(gradient, RowSparseGradient):
        return {
            "kind": "row-sparse",
            "rows": np.array(gradient.rows),
            "values": np.array(gradient.values),
            "dense": np.array(gradient.to_dense()),
            "shape": list(gradient.shape),
        }
    return {"kind": "dense", "dense": np.array(gradient)}


def from_lookups(ids: np.ndarray, values: np.ndarray, shape: list[int]) -> dict[str, Any]:
    """RowSparseGradient.from_lookups, and its arguments as they are afterwards."""
    from autodiff.embedding import RowSparseGradient

    gradient = RowSparseGradient.from_lookups(ids, values, tuple(shape))
    return {**described_gradient(gradient), "ids_after": ids, "values_after": values}


def rows_of_huge_table(ids: np.ndarray, values: np.ndarray, rows: int) -> list[np.ndarray]:
    """The rows of a gradient for a table that fits no memory, and of that gradient twice over."""
    from autodiff.embedding import RowSparseGradient

    gradient = RowSparseGradient.from_lookups(ids, values, (rows, values.shape[1]))
    return [gradient.rows, (gradient + gradient).rows]


def gradient_sum(terms: list[dict[str, Any]], shape: list[int]) -> dict[str, Any]:
    """terms[0] + terms[1] + …; a term has `rows` and `values`, or `dense`.

    Also describes the terms as they are after the sum was made and overwritten with NaN: a sum
    that shares memory with a term shows in it.
    """
    from autodiff.embedding import RowSparseGradient

    made = [
        term["dense"]
        if "dense" in term
        else RowSparseGradient(term["rows"], term["values"], tuple(term.get("shape", shape)))
        for term in terms
    ]
    total = made[0]
    for term in made[1:]:
        total = total + term
    described = described_gradient(total)
    (total.values if described["kind"] == "row-sparse" else total)[...] = np.nan
    described["terms"] = [described_gradient(term)["dense"] for term in made]
    return described


def sparse_step(
    rows: int, dim: int, batches: list[np.ndarray], upstreams: list[np.ndarray]
) -> dict[str, Any]:
    """Lookups into a large table and their backward; the few rows of the gradient that matter."""
    from autodiff import Tensor
    from autodiff.embedding import embedding

    table = Tensor(np.ones((rows, dim), np.float32), requires_grad=True)
    for ids, upstream in zip(batches, upstreams, strict=True):
        embedding(table, ids).backward(upstream)
    return {"rows": np.array(table.grad.rows), "values": np.array(table.grad.values)}


def linear_step(
    a: np.ndarray, b: np.ndarray, upstream: np.ndarray, constant: str
) -> dict[str, Any]:
    """a @ b and the gradient of the operand that is not `constant` ("a" or "b")."""
    from autodiff import Tensor
    from autodiff.linear_algebra import matmul

    left = Tensor(a, requires_grad=constant != "a")
    right = Tensor(b, requires_grad=constant != "b")
    value = matmul(left, right)
    value.backward(upstream)
    wanted, other = (right, left) if constant == "a" else (left, right)
    return {"gradient": _plain(wanted.grad), "constant": _plain(other.grad)}


def loss_and_gradient_rows(
    logits: np.ndarray, targets: np.ndarray, upstream: float, rows: list[int]
) -> dict[str, Any]:
    """The loss of large logits, and some rows of the gradient that flows out of it.

    The gradient ends in an operation that keeps those rows only, as in a network, where it flows
    on and is freed; a leaf would keep a copy of its own and blur the measurement.
    """
    from autodiff import Function, Tensor
    from autodiff.loss import cross_entropy

    seen = []

    class Source(Function):
        @staticmethod
        def forward(context: Any, switch: np.ndarray) -> np.ndarray:
            return logits

        @staticmethod
        def backward(context: Any, gradient: np.ndarray) -> tuple[Any, ...]:
            seen.append(np.array(gradient[rows]))
            return (None,)

    switch = Tensor(np.zeros((), logits.dtype), requires_grad=True)
    loss = cross_entropy(Source.apply(switch), targets)
    value = np.array(loss.data)
    loss.backward(np.asarray(upstream, logits.dtype))
    return {"loss": value, "rows": seen[0], "logits": np.array(logits[rows])}
