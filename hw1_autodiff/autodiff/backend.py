"""Which code does the arithmetic: numpy, or your own numba kernels. Given.

Every operation's forward goes through the four functions here. With the `numpy` back end (the
default) they call numpy; with `numba` they call the kernels of tasks 1.2 and 1.3:

    with backend.use("numba"):
        train(…)

Your kernels take float32; float64 arrays (used for checking gradients) always go to numpy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

_name = "numpy"
_GELU_SCALE = math.sqrt(2.0 / math.pi)


def _gelu(x: np.ndarray) -> np.ndarray:
    inner = np.asarray(x * x)  # an array even without axes: the steps below work in place
    inner *= 0.044715
    inner += 1.0
    inner *= x
    inner *= _GELU_SCALE
    np.tanh(inner, out=inner)
    inner += 1.0
    inner *= x
    inner *= 0.5
    return inner


_MAPS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "neg": np.negative,
    "exp": np.exp,
    "log": np.log,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "gelu": _gelu,
}
_ZIPS = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}
_REDUCTIONS = {"sum": np.sum, "max": np.max}


@contextmanager
def use(name: str) -> Iterator[None]:
    """Use the back end `name` ("numpy" or "numba") inside the block."""
    global _name
    if name not in ("numpy", "numba"):
        raise ValueError(f"no back end {name!r}; there are 'numpy' and 'numba'")
    before = _name
    _name = name
    try:
        yield
    finally:
        _name = before


def current() -> str:
    """The name of the back end in use."""
    return _name


def map_array(name: str, x: np.ndarray) -> np.ndarray:
    """Apply one of neg, exp, log, tanh, relu, gelu to every element; a new array."""
    if _ours(x):
        from autodiff import kernels

        return kernels.map_array(name, x)
    return _MAPS[name](x)


def zip_arrays(name: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """add, sub, mul or div of two arrays, broadcast against each other; a new array."""
    if _ours(a, b):
        from autodiff import kernels

        return kernels.zip_arrays(name, a, b)
    return _ZIPS[name](a, b)


def reduce_array(
    name: str, x: np.ndarray, axis: int | tuple[int, ...] | None, keepdims: bool
) -> np.ndarray:
    """sum or max over `axis` (all axes for None); a new array."""
    if not _ours(x) or x.ndim == 0:
        return np.asarray(_REDUCTIONS[name](x, axis=axis, keepdims=keepdims))
    from autodiff import kernels

    axes = range(x.ndim) if axis is None else np.atleast_1d(axis) % x.ndim
    result = x
    for one in axes:
        result = kernels.reduce_array(name, result, int(one), True)
    return result if keepdims else np.squeeze(result, axis=tuple(int(one) for one in axes))


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Matrix product over the last two axes, the leading ones broadcast; a new array."""
    if not _ours(a, b) or a.ndim < 2 or b.ndim < 2:
        return np.matmul(a, b)
    from autodiff import matmul_kernel

    if a.ndim == 2 and b.ndim == 2:
        return matmul_kernel.matmul_register(a, b)
    if b.ndim == 2:  # (…, m, k) @ (k, n) is one tall product
        flat = np.ascontiguousarray(a).reshape(-1, a.shape[-1])
        return matmul_kernel.matmul_register(flat, b).reshape(*a.shape[:-1], b.shape[-1])
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    left = np.broadcast_to(a, lead + a.shape[-2:])
    right = np.broadcast_to(b, lead + b.shape[-2:])
    result = np.empty((*lead, a.shape[-2], b.shape[-1]), np.float32)
    for index in np.ndindex(*lead):
        result[index] = matmul_kernel.matmul_register(left[index], right[index])
    return result


def _ours(*arrays: np.ndarray) -> bool:
    return _name == "numba" and all(array.dtype == np.float32 for array in arrays)
