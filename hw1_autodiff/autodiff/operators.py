"""Binds +, *, @, .sum() and the rest to Tensor. Given; importing it is what makes them work."""

from __future__ import annotations

from typing import Any

from autodiff import elementwise, linear_algebra, reductions, views
from autodiff.tensor import Tensor


def _swapped(operation: Any) -> Any:
    return lambda self, other: operation(other, self)


_METHODS: dict[str, Any] = {
    "__add__": elementwise.add,
    "__radd__": _swapped(elementwise.add),
    "__sub__": elementwise.subtract,
    "__rsub__": _swapped(elementwise.subtract),
    "__mul__": elementwise.multiply,
    "__rmul__": _swapped(elementwise.multiply),
    "__truediv__": elementwise.divide,
    "__rtruediv__": _swapped(elementwise.divide),
    "__pow__": elementwise.power,
    "__neg__": elementwise.negate,
    "__matmul__": linear_algebra.matmul,
    "__rmatmul__": _swapped(linear_algebra.matmul),
    "__getitem__": views.getitem,
    "exp": elementwise.exp,
    "log": elementwise.log,
    "tanh": elementwise.tanh,
    "relu": elementwise.relu,
    "gelu": elementwise.gelu,
    "sum": reductions.sum,
    "mean": reductions.mean,
    "max": reductions.max,
    "logsumexp": reductions.logsumexp,
    "softmax": reductions.softmax,
    "reshape": views.reshape,
    "permute": views.permute,
    "transpose": views.transpose,
    "broadcast_to": views.broadcast_to,
}

for _name, _method in _METHODS.items():
    setattr(Tensor, _name, _method)
