"""What is timed on a GPU: operations of homework 2 at sizes worth timing, with truths and tolerances.

Tolerances are derived, not tuned. A sum of n terms in float32 is off by at most 4 sqrt(n) u times the
sum of their sizes, u = 2**-24, but for one case in thousands of millions (rounding errors taken as
random, as in Higham and Mary, "A new approach to probabilistic rounding error analysis", 2019).
Where two float32 results are compared, it is twice that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from autograder.kernels import DeviceArray

UNIT = 2.0**-24
EPS = 1e-5
Arrays = list[np.ndarray]


@dataclass(frozen=True)
class Case:
    """One operation at one size.

    make: fresh inputs. extra: shapes of further device memory, behind the output. arguments: of the
    entry point `entry` of `file`, from inputs and [output, *extra]. bound: how far the output may be
    from a float32 peer's, by the inputs and that output. truth: the float64 result on the host, where
    that is cheap. torch: the peer, from the module and its tensors. flops, bytes: of one call.
    """

    name: str
    file: str
    entry: str
    make: Callable[[np.random.Generator], Arrays]
    shape: tuple[int, ...]
    arguments: Callable[[Sequence[DeviceArray], Sequence[DeviceArray]], list[Any]]
    bound: Callable[[Arrays, np.ndarray], Any]
    extra: tuple[tuple[int, ...], ...] = ()
    truth: Callable[[Arrays], np.ndarray] | None = None
    torch: Callable[..., Any] | None = None
    flops: float = 0.0
    bytes: float = 0.0


def normal(*shapes: tuple[int, ...]) -> Callable[[np.random.Generator], Arrays]:
    """Makes arrays of standard normals."""
    return lambda rng: [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]


def off(terms: float, size: float) -> float:
    """How far a float32 sum of `terms` may be from the truth; size: the sum of the terms' sizes."""
    return 4 * sqrt(terms) * UNIT * size


def largest_row(x: np.ndarray, axis: int) -> float:
    """The largest Euclidean norm along an axis."""
    return float(np.sqrt(np.einsum("ij,ij->i" if axis else "ij,ij->j", x, x)).max())


def matmul(n: int) -> Case:
    """A square product; the sum of |a||b| is at most the product of the row's and column's norms."""
    return Case(
        f"matmul_{n}", "matmul", "matmul_register", normal((n, n), (n, n)), (n, n),
        lambda given, made: [*given, made[0], n, n, n, 1, 0, 0],
        lambda given, _: 2 * off(n, largest_row(given[0], 1) * largest_row(given[1], 0)),
        torch=lambda torch, a, b: torch.matmul(a, b), flops=2.0 * n**3,
    )  # fmt: skip


def transpose(n: int) -> Case:
    """A square matrix turned over: exact."""
    return Case(
        "transpose", "transpose", "transpose", normal((n, n)), (n, n),
        lambda given, made: [2, *given, made[0], 1, n, n], lambda *_: 0.0,
        truth=lambda given: given[0].T, torch=lambda torch, x: x.t().contiguous(),
        bytes=8.0 * n * n,
    )  # fmt: skip


def softmax_truth(given: Arrays) -> np.ndarray:
    """Softmax of rows in float64."""
    x = given[0].astype(np.float64)
    x = np.exp(x - x.max(axis=1, keepdims=True))
    return x / x.sum(axis=1, keepdims=True)


def softmax(rows: int, cols: int) -> Case:
    """Rows of softmax: off by the relative error of the sum, and of exp at arguments of up to 16.

    exp's argument is rounded (16 u), its fast form adds some 20 ulp; then a division.
    """
    return Case(
        "softmax", "softmax", "softmax_forward", normal((rows, cols)), (rows, cols),
        lambda given, made: [*given, made[0], rows, cols],
        lambda _, out: 2 * (off(cols, 1.0) + 64 * UNIT) * np.abs(out) + 1e-30,
        truth=softmax_truth, torch=lambda torch, x: torch.softmax(x, -1), bytes=8.0 * rows * cols,
    )  # fmt: skip


def layernorm_truth(given: Arrays) -> np.ndarray:
    """LayerNorm of rows in float64."""
    x, gamma, beta = (one.astype(np.float64) for one in given)
    x = x - x.mean(axis=1, keepdims=True)
    return x / np.sqrt((x * x).mean(axis=1, keepdims=True) + EPS) * gamma + beta


def _layernorm_bound(given: Arrays, out: np.ndarray) -> float:
    """The mean is off by a sum's error over rows of size 1, the scale by as much of at most 8.

    Inputs are standard normals: below 8, rows of standard deviation near 1.
    """
    return 2 * (off(given[0].shape[1], 1 + 8) + 8 * UNIT * 8) * float(np.abs(given[1]).max())


def layernorm(rows: int, cols: int) -> Case:
    """LayerNorm of rows, with the mean and the scale saved as in training."""
    return Case(
        "layernorm", "normalization", "layernorm_forward", normal((rows, cols), (cols,), (cols,)),
        (rows, cols), lambda given, made: [*given, *made, rows, cols, EPS], _layernorm_bound,
        extra=((rows,), (rows,)), truth=layernorm_truth,
        torch=lambda torch, x, gamma, beta: torch.nn.functional.layer_norm(
            x, (cols,), gamma, beta, EPS),
        bytes=8.0 * rows * cols,
    )  # fmt: skip


def attention(batch: int, heads: int, time: int, width: int) -> Case:
    """Causal attention: scores off by their sums' error, and so the weights; then a mean of values."""
    shape = (batch, heads, time, width)
    scale = 1 / sqrt(width)

    def bound(given: Arrays, out: np.ndarray) -> float:
        q, k, v = (one.reshape(-1, width) for one in given)
        scores = off(width, largest_row(q, 1) * largest_row(k, 1) * scale)
        return 2 * (2 * scores + 2 * off(time, 1.0) + 64 * UNIT) * float(np.abs(v).max())

    pairs = batch * heads * time * (time + 1) / 2
    return Case(
        "attention", "attention", "attention_flash", normal(shape, shape, shape), shape,
        lambda given, made: [*given, made[0], None, batch * heads, time, width, scale], bound,
        torch=lambda torch, q, k, v: torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=True),
        flops=4.0 * width * pairs,
    )  # fmt: skip


def torch_block(torch: Any, heads: int, x: Any, *weights: Any) -> Any:
    """The block of task 2.12 by torch's operations."""
    gamma1, beta1, w_qkv, w_out, gamma2, beta2, w_up, b_up, w_down, b_down = weights
    functions = torch.nn.functional
    batch, time, dim = x.shape
    y = functions.layer_norm(x, (dim,), gamma1, beta1, EPS) @ w_qkv
    q, k, v = y.reshape(batch, time, 3, heads, dim // heads).permute(2, 0, 3, 1, 4)
    y = functions.scaled_dot_product_attention(q, k, v, is_causal=True)
    x = x + y.transpose(1, 2).reshape(batch, time, dim) @ w_out
    y = functions.layer_norm(x, (dim,), gamma2, beta2, EPS) @ w_up + b_up
    return x + functions.gelu(y, approximate="tanh") @ w_down + b_down


def block(batch: int, time: int, dim: int, heads: int) -> Case:
    """A transformer block as before training: matrices that keep a row's size.

    Its six sums one behind the other are of at most `hidden` terms, of size at most the norms of a
    row (8 sqrt(hidden)/8, as entries are near 1) and a column (near 1); each later one passes an
    error on at most doubled by its residual connection.
    """
    hidden = 4 * dim
    shapes = [(dim,), (dim,), (dim, 3 * dim), (dim, dim), (dim,), (dim,), (dim, hidden), (hidden,),
              (hidden, dim), (dim,)]  # fmt: skip

    def make(rng: np.random.Generator) -> Arrays:
        x, *weights = normal((batch, time, dim), *shapes)(rng)
        return [x, *(one * np.float32(one.shape[0] ** -0.5 if one.ndim == 2 else 0.5)
                     for one in weights)]  # fmt: skip

    rows = batch * time
    inside = 4 * dim * dim + 2 * dim * hidden
    return Case(
        "block", "block", "transformer_block", make, (batch, time, dim),
        lambda given, made: [given[0], made[0], *given[1:], made[1], batch, time, dim, heads, hidden],
        lambda *_: 2 * 6 * 2 * off(hidden, sqrt(hidden)),
        extra=((rows * (dim + 2 * hidden + 2),),),
        torch=lambda torch, *given: torch_block(torch, heads, *given),
        flops=2.0 * rows * inside + 2.0 * rows * (time + 1) * dim,
    )  # fmt: skip
