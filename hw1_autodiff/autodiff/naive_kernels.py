"""What your kernels are measured against: correct, compiled, one thread, and naive. Given.

`map_strided_only` treats every array alike: it divides its way to the position of each element, and
so never sees that most arrays lie in memory one element after the other. `matmul_ikj` runs the inner
loop along rows of B and C, which lie in memory in that order (the textbook's i, j, k order jumps
through B, and is ten times slower), but reads all of B again for each row of A.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from autodiff import wide_vectors  # noqa: F401  before anything is compiled


@njit(cache=True)
def add_strided_only(
    a: np.ndarray, a_strides: np.ndarray, b: np.ndarray, b_strides: np.ndarray,
    shape: np.ndarray, out: np.ndarray,
) -> None:  # fmt: skip
    """out = a + b over one-dimensional buffers, any strides (in elements), out in row-major order."""
    for index in range(out.size):
        rest = index
        a_position = b_position = 0
        for dimension in range(len(shape) - 1, -1, -1):
            place = rest % shape[dimension]
            rest //= shape[dimension]
            a_position += place * a_strides[dimension]
            b_position += place * b_strides[dimension]
        out[index] = a[a_position] + b[b_position]


@njit(cache=True, fastmath={"contract"})
def matmul_ikj(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b for contiguous float32 matrices (m, k) and (k, n)."""
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
