"""Task 1.3: the matrix product in two steps, first for the cache, then for the registers.

A product of n × n matrices does 2 n**3 operations on 3 n**2 numbers: each number is used 2 n / 3
times. A processor adds and multiplies tens of numbers in the time that it takes to fetch one from
memory, so speed is a matter of using a number again while it is near: in the cache (`matmul_blocked`)
and then in a register (`matmul_register`).

Everything here runs on one thread. `fastmath={"contract"}` lets the compiler join a multiplication
and an addition into one instruction, and nothing else.

Hint for every inner loop: take the slice first, then index it by the loop variable alone,

    row = b[p, j0:j1]                   # not b[p, j] in the loop: numba would have to ask at each
    for j in range(row.size):           # element whether the index is negative (counted from the
        out[j] += factor * row[j]       # end), and such a loop is not turned into vector code

Source: Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, 2008.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from autodiff import wide_vectors  # noqa: F401  before anything is compiled

INNER = 256
"""How many columns of A, and rows of B, are worked on at a time. A multiple of DEPTH."""
WIDTH = 512
"""How many columns of B, and of C, are worked on at a time."""
ROWS = 3
"""Rows of A in a register block."""
DEPTH = 4
"""Columns of A in a register block."""


@njit(cache=True)
def scratch(rows: int) -> np.ndarray:
    """An array (rows, WIDTH + 32) of float32, for WIDTH columns of use. Given.

    Its rows begin at multiples of 64 bytes, so that no vector straddles two lines of the cache; and
    they are 32 elements longer than a power of two, so that they do not share places in the cache.
    """
    length = rows * (WIDTH + 32)
    memory = np.empty(length + 16, np.float32)
    skip = -(memory.ctypes.data // 4) % 16
    return memory[skip : skip + length].reshape(rows, WIDTH + 32)


@njit(cache=True)
def pack_b(b: np.ndarray, p0: int, p1: int, j0: int, j1: int, packed: np.ndarray) -> None:
    """Copy a block of B next to itself, so that its rows no longer lie a whole row of B apart.

    b (k, n), contiguous. packed (at least p1 - p0 rows, at least j1 - j0 columns): packed[p, j] is
    b[p0 + p, j0 + j]. The rows after that, up to the next multiple of DEPTH, become 0: the register
    blocks of A end in zeros there, but 0 times whatever lay in memory may be NaN.
    """
    raise NotImplementedError("task 1.3: pack_b")


@njit(cache=True, fastmath={"contract"})
def blocked_kernel(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    """c += a @ b, with B taken in blocks that stay in the cache while all of A passes by.

    a (m, k), b (k, n), c (m, n): float32, contiguous, of any size.

    For each block of INNER rows and WIDTH columns of B (half a megabyte; fewer at the edges): pack it
    into `scratch(INNER)`; then take every row of A and add its share of that block to its row of C.
    The innermost loop runs along a row of the packed block and a stretch of a row of C, as the one of
    `naive_kernels.matmul_ikj` does along whole rows.
    """
    raise NotImplementedError("task 1.3: blocked_kernel")


@njit(cache=True)
def pack_a(a: np.ndarray, p0: int, p1: int, packed: np.ndarray) -> None:
    """Copy the columns p0 to p1 of A into register blocks, in the order they will be read.

    a (m, k), contiguous. packed (panels, blocks, ROWS, DEPTH): packed[t, q, r, s] is the element of A
    in row t * ROWS + r and column p0 + q * DEPTH + s, and 0 where A has no such row or where the
    column is p1 or more. panels = m / ROWS and blocks = (p1 - p0) / DEPTH, both rounded up.
    """
    raise NotImplementedError("task 1.3: pack_a")


@njit(cache=True, fastmath={"contract"})
def micro_kernel(a: np.ndarray, b: np.ndarray, c: np.ndarray, width: int) -> None:
    """c[:, :width] = the product of one packed panel of A and one packed block of B.

    a (blocks, ROWS, DEPTH), b (blocks * DEPTH or more, width or more), c (ROWS, width or more).

    For each register block q: load its ROWS * DEPTH = 12 elements into 12 local variables, take
    slices of `width` of the 4 rows of B it meets and of the 3 rows of C, and run one loop over j:
    load 4 elements of B, and for each of the 3 rows of C

        c0[j] = c0[j] + a00 * x0 + a01 * x1 + a02 * x2 + a03 * x3

    from left to right, which is four multiply-adds (c0[j] += … would sum first and add afterwards: one
    more). The compiler runs the loop for 8 or 16 j at once and keeps the 12 elements of A in
    registers: 12 multiply-adds for 7 loads and 3 stores, where the ikj loop has 1 for 2 and 1.
    """
    raise NotImplementedError("task 1.3: micro_kernel")


@njit(cache=True)
def register_kernel(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    """c += a @ b from packed blocks, by `micro_kernel`.

    a (m, k), b (k, n), c (m, n): float32, contiguous, of any size.

    For each INNER columns of A (the last time fewer): pack them. For each WIDTH columns of B: pack
    the block of B that meets them. For each panel of ROWS rows of A: `micro_kernel` into a small
    array of sums, then add the rows that C has (the last panel may reach beyond C) to C.
    `scratch` makes the packed block of B and the array of sums; A's is a plain array of zeros.
    Why the sums are not kept in C itself: the rows of C may lie a power of two apart, where they
    compete for the same places in the cache.
    """
    raise NotImplementedError("task 1.3: register_kernel")


def matmul_blocked(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b by `blocked_kernel`: float32 (m, k) and (k, n), any sizes and strides. Given."""
    a, b, c = _prepared(a, b)
    blocked_kernel(a, b, c)
    return c


def matmul_register(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b by `register_kernel`: float32 (m, k) and (k, n), any sizes and strides. Given."""
    a, b, c = _prepared(a, b)
    register_kernel(a, b, c)
    return c


def _prepared(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The factors, contiguous (copied if they are not: m k + k n against 2 m k n), and zeros for c.

    Raises ValueError unless the shapes are (m, k) and (k, n), TypeError unless both are float32.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(f"shapes {a.shape} and {b.shape} are not (m, k) and (k, n)")
    if a.dtype != np.float32 or b.dtype != np.float32:
        raise TypeError(f"the kernels take float32, not {a.dtype} and {b.dtype}")
    # Writeable, too: numba would compile the kernels once more for read-only arrays.
    a, b = (np.require(x, requirements=["C", "W"]) for x in (a, b))
    return a, b, np.zeros((a.shape[0], b.shape[1]), np.float32)
