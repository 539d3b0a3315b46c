"""Peers that tasks 1.2 and 1.3 are timed against: the given naive kernels, one thread.

They are those of autodiff/naive_kernels.py, here on their own because a peer runs where no file of
a submission can be read. Compiled at the first call, which is not timed.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np


@functools.cache
def _compiled(name: str) -> Any:
    from numba import njit

    return njit(fastmath={"contract"})({"add": _add, "matmul": _matmul}[name])


def _add(a, a_strides, b, b_strides, shape, out):  # type: ignore[no-untyped-def]
    for index in range(out.size):
        rest = index
        a_position = b_position = 0
        for dimension in range(len(shape) - 1, -1, -1):
            place = rest % shape[dimension]
            rest //= shape[dimension]
            a_position += place * a_strides[dimension]
            b_position += place * b_strides[dimension]
        out[index] = a[a_position] + b[b_position]


def _matmul(a, b):  # type: ignore[no-untyped-def]
    rows, inner = a.shape
    c = np.zeros((rows, b.shape[1]), np.float32)
    for i in range(rows):
        out = c[i]
        for p in range(inner):
            factor = a[i, p]
            row = b[p]
            for j in range(row.size):
                out[j] += factor * row[j]
    return c


def add_repeatedly(a: np.ndarray, b: np.ndarray, times: int) -> np.ndarray:
    """a + b + b + … by the kernel that treats every array as strided."""
    shape, strides = np.array(a.shape), np.array(a.strides) // a.itemsize
    flat_b = b.reshape(-1)
    for _ in range(times):
        out = np.empty(a.shape, np.float32)
        _compiled("add")(a.reshape(-1), strides, flat_b, strides, shape, out.reshape(-1))
        a = out
    return a


def product_chain(kind: str, a: np.ndarray, b: np.ndarray, times: int) -> np.ndarray:
    """a @ b @ b @ … by the ikj kernel, whatever `kind` is; see the driver of that name."""
    for _ in range(times):
        a = _compiled("matmul")(np.ascontiguousarray(a[:, : b.shape[0]]), b)
    return a


def blas_chain(kind: str, a: np.ndarray, b: np.ndarray, times: int) -> np.ndarray:
    """a @ b @ b @ … by numpy's BLAS, for the report's picture; worth no points."""
    for _ in range(times):
        a = np.matmul(a, b)
    return a
