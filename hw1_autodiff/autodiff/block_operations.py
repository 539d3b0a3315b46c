"""What is computed, element by element; how arrays are walked is for your kernels. Given.

A function here takes one-dimensional, contiguous float32 blocks and runs on one thread. The
operation is a number, looked up once per block: its loop has no branch, so the compiler turns it
into vector instructions. One compiled kernel thus serves every operation, where a kernel for each
would take a second of compilation apiece. Every function is at the top level of its module: a
closure (a function made inside a function) can't be cached, and would be compiled anew in every
process.

`exp`, `log` and `tanh` of the C library are calls, which no loop can vectorise; those here are
arithmetic only, after Cephes (Moshier), and agree with numpy to a few units in the last place.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from autodiff import wide_vectors  # noqa: F401  before anything is compiled

NEG, EXP, LOG, TANH, RELU, GELU = range(6)
ADD, SUB, MUL, DIV, MAXIMUM = range(5)
SUM, MAX = range(2)
MAPS = {"neg": NEG, "exp": EXP, "log": LOG, "tanh": TANH, "relu": RELU, "gelu": GELU}
ZIPS = {"add": ADD, "sub": SUB, "mul": MUL, "div": DIV, "maximum": MAXIMUM}
REDUCTIONS = {"sum": SUM, "max": MAX}

BLOCK = 8192
"""Elements one thread takes at a time: 32 KB, which the first-level cache holds."""

_F = np.float32
_LOG2_E, _LN_2_HIGH, _LN_2_LOW = _F(1.44269504), _F(0.693359375), _F(-2.12194440e-4)
_INFINITY, _NAN = _F(np.inf), _F(np.nan)
_GELU_SCALE = _F(2.0 * np.sqrt(2.0 / np.pi))


@njit
def _bits_of(x: np.float32) -> np.int32:
    return np.float32(x).view(np.int32)


@njit
def _float_of(bits: np.int32) -> np.float32:
    return np.int32(bits).view(np.float32)


@njit(fastmath={"contract"}, error_model="numpy", forceinline=True)
def exp(x: np.float32) -> np.float32:
    """e**x, as 2**n times a polynomial on the rest, which lies within half a ln 2."""
    clipped = min(max(x, _F(-104.0)), _F(89.0))
    n = np.floor(clipped * _LOG2_E + _F(0.5))
    rest = clipped - n * _LN_2_HIGH - n * _LN_2_LOW
    p = _F(1.9875691500e-4)
    p = p * rest + _F(1.3981999507e-3)
    p = p * rest + _F(8.3334519073e-3)
    p = p * rest + _F(4.1665795894e-2)
    p = p * rest + _F(1.6666665459e-1)
    p = p * rest + _F(5.0000001201e-1)
    p = p * rest * rest + rest + _F(1.0)
    # 2**n in two halves, each written into the exponent bits of a float: n may lie below -126.
    half = np.int32(n) >> np.int32(1)
    low = _float_of((half + np.int32(127)) << np.int32(23))
    high = _float_of((np.int32(n) - half + np.int32(127)) << np.int32(23))
    return x if x != x else p * low * high


@njit(fastmath={"contract"}, error_model="numpy", forceinline=True)
def log(x: np.float32) -> np.float32:
    """The natural logarithm: of 0 -inf, of a negative number NaN."""
    scaled = x * _F(16777216.0) if x < _F(1.17549435e-38) else x  # a subnormal number, times 2**24
    bits = _bits_of(scaled)
    exponent = _F((bits >> np.int32(23)) - np.int32(126)) - (
        _F(24.0) if x < _F(1.17549435e-38) else _F(0.0)
    )
    mantissa = _float_of((bits & np.int32(0x7FFFFF)) | np.int32(0x3F000000))
    below = mantissa < _F(0.70710678)
    exponent = exponent - _F(1.0) if below else exponent
    z = mantissa + mantissa - _F(1.0) if below else mantissa - _F(1.0)
    p = _F(7.0376836292e-2)
    p = p * z + _F(-1.1514610310e-1)
    p = p * z + _F(1.1676998740e-1)
    p = p * z + _F(-1.2420140846e-1)
    p = p * z + _F(1.4249322787e-1)
    p = p * z + _F(-1.6668057665e-1)
    p = p * z + _F(2.0000714765e-1)
    p = p * z + _F(-2.4999993993e-1)
    p = p * z + _F(3.3333331174e-1)
    square = z * z
    result = z + (p * z * square + exponent * _LN_2_LOW - _F(0.5) * square) + exponent * _LN_2_HIGH
    result = -_INFINITY if x == _F(0.0) else result
    result = _INFINITY if x == _INFINITY else result
    return result if x >= _F(0.0) else _NAN


@njit(fastmath={"contract"}, error_model="numpy", forceinline=True)
def tanh(x: np.float32) -> np.float32:
    """An odd polynomial near 0, where 1 - 2 / (exp(2x) + 1) would cancel, and that elsewhere."""
    size = abs(x)
    far = _F(1.0) - _F(2.0) / (exp(size + size) + _F(1.0))
    square = x * x
    p = _F(-5.70498872745e-3)
    p = p * square + _F(2.06390887954e-2)
    p = p * square + _F(-5.37397155531e-2)
    p = p * square + _F(1.33314422036e-1)
    p = p * square + _F(-3.33332819422e-1)
    near = p * square * x + x
    return near if size < _F(0.625) else (far if x > _F(0.0) else -far)


@njit(fastmath={"contract"}, error_model="numpy", forceinline=True)
def gelu(x: np.float32) -> np.float32:
    """x / 2 * (1 + tanh(u)) with u = sqrt(2 / pi) * (x + 0.044715 x**3), which is x / (1 + exp(-2u)).

    Source: Hendrycks and Gimpel, Gaussian Error Linear Units, 2016.
    """
    twice = _GELU_SCALE * x * (_F(1.0) + _F(0.044715) * x * x)
    return x / (_F(1.0) + exp(-twice)) if x > _F(-30.0) else (x if x != x else _F(-0.0))


@njit(cache=True, fastmath={"contract"}, error_model="numpy")
def map_block(operation: int, x: np.ndarray, out: np.ndarray) -> None:
    """out[i] = operation(x[i]); x and out may not overlap (they would not be vectorised)."""
    if operation == NEG:
        for i in range(out.size):
            out[i] = -x[i]
    elif operation == EXP:
        for i in range(out.size):
            out[i] = exp(x[i])
    elif operation == LOG:
        for i in range(out.size):
            out[i] = log(x[i])
    elif operation == TANH:
        for i in range(out.size):
            out[i] = tanh(x[i])
    elif operation == RELU:
        for i in range(out.size):
            out[i] = _F(0.0) if x[i] < _F(0.0) else x[i]
    else:
        for i in range(out.size):
            out[i] = gelu(x[i])


@njit(cache=True, error_model="numpy")
def zip_block(operation: int, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """out[i] = operation(a[i], b[i]). MAXIMUM of a NaN and anything is NaN, as in numpy."""
    if operation == ADD:
        for i in range(out.size):
            out[i] = a[i] + b[i]
    elif operation == SUB:
        for i in range(out.size):
            out[i] = a[i] - b[i]
    elif operation == MUL:
        for i in range(out.size):
            out[i] = a[i] * b[i]
    elif operation == DIV:
        for i in range(out.size):
            out[i] = a[i] / b[i]
    else:
        for i in range(out.size):
            out[i] = a[i] if a[i] >= b[i] or a[i] != a[i] else b[i]


@njit(fastmath={"nnan", "nsz"})
def _largest(x: np.ndarray) -> np.float32:
    """The maximum of a block without NaNs, 64 of them side by side where it is long."""
    best = -_INFINITY
    rest = 0
    if x.size >= 256:
        lanes = x[:64].copy()
        for start in range(64, x.size - 63, 64):
            piece = x[start : start + 64]
            for i in range(64):
                lanes[i] = piece[i] if piece[i] > lanes[i] else lanes[i]
        for i in range(64):
            best = lanes[i] if lanes[i] > best else best
        rest = x.size // 64 * 64
    for i in range(rest, x.size):
        best = x[i] if x[i] > best else best
    return best


@njit
def _count_nan(x: np.ndarray) -> int:
    count = np.int32(0)
    for i in range(x.size):
        count += np.int32(x[i] != x[i])
    return count


@njit(cache=True, fastmath={"contract", "reassoc"})
def fold_block(operation: int, x: np.ndarray) -> float:
    """The sum or the maximum of a block, in float64; of no elements 0 or -inf.

    A float32 sum of a million elements is off in the fourth digit: it adds small to large. In
    float64 the error is below what the float32 result can show.
    """
    if operation == SUM:
        total = 0.0
        for i in range(x.size):
            total += np.float64(x[i])
        return total
    return np.nan if _count_nan(x) else np.float64(_largest(x))


@njit
def combine(operation: int, a: float, b: float) -> float:
    """One value from the folds of two blocks; NaN in a maximum stays NaN."""
    if operation == SUM:
        return a + b
    return a if a >= b or a != a else b


@njit(cache=True)
def fold_rows(operation: int, x: np.ndarray, length: int, out: np.ndarray) -> None:
    """out[r] = the fold of row r of x, which holds out.size rows of `length` one by one."""
    for row in range(out.size):
        out[row] = fold_block(operation, x[row * length : (row + 1) * length])
