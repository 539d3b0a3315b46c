"""What the tests of task 2.5 share: what is expected, in float64, and how close."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from autograder.testing import Hint, assert_close, cuda

ON_CHIP_COLS = 8192  # as softmax.cu has it: longer rows are read twice

# exp(x - max): x - max rounds by 2**-24 of itself, so where it is -25 (the tests' widest rows, but
# for those whose entries vanish) exp is off by 25 * 2**-24 = 1.5e-6 of itself; exp itself, its sum
# (at most 20 additions in a row, then trees) and the division add about as much.
RTOL, ATOL = 1e-5, 1e-12

LARGEST = 88.0  # exp of more is no float32
NAN = (
    "-inf - (-inf) and inf / inf are nan: look at what the max starts with, and at threads that have "
    "no element of the row"
)
OVERFLOW = "exp overflows above 88, and inf / inf is nan: subtract the row's max before exp"
SUMS = "each row must sum to 1; compare the version with three_pass, which is given"
RESCALE = (
    "a sum is measured from the max that it was made with: where the max grows from m to M, in a "
    "thread or where threads meet, the sum so far is multiplied by exp(m - M)"
)


def expected_softmax(x: np.ndarray) -> np.ndarray:
    """torch's softmax of the rows in float64, and zeros for rows of nothing but -inf."""
    if x.size == 0:
        return x.astype(np.float64)
    out = torch.softmax(torch.from_numpy(x.astype(np.float64)), dim=-1).numpy()
    masked = np.isneginf(x).all(axis=-1, keepdims=True)
    return np.where(masked, 0.0, out)


def expected_gradient(x: np.ndarray, upstream: np.ndarray) -> np.ndarray:
    """torch's gradient with respect to x, in float64."""
    leaf = torch.from_numpy(x.astype(np.float64)).requires_grad_()
    torch.softmax(leaf, dim=-1).backward(torch.from_numpy(upstream.astype(np.float64)))
    assert leaf.grad is not None, "torch made no gradient"
    return leaf.grad.numpy()


def check_softmax(got: dict[str, Any], x: np.ndarray, name: str) -> None:
    """Assert that the kernels ran clean, and that out is softmax(x)."""
    cuda.check(got["report"])
    large = bool((np.where(np.isfinite(x), np.abs(x), 0.0) > LARGEST).any())
    hint = Hint(values=RESCALE if name.startswith("online") else SUMS, not_finite=NAN)
    if large and not np.isfinite(np.asarray(got["out"], float)).all():
        hint = Hint(values=OVERFLOW, not_finite=OVERFLOW)
    assert_close(got["out"], expected_softmax(x), rtol=RTOL, atol=ATOL, name=name, hint=hint)


def check_gradient(
    got: dict[str, Any], expected: np.ndarray, upstream: np.ndarray, name: str
) -> None:
    """Assert that the kernels ran clean, and that grad is the gradient.

    y * (upstream - dot): dot is off by a few 2**-24 of the largest |upstream|, about 5 here.
    """
    cuda.check(got["report"])
    scale = float(np.abs(upstream).max(initial=1.0))
    assert_close(
        got["grad"], expected, rtol=1e-5, atol=2.5e-7 * scale, name=name,
        hint="grad[i] = y[i] * (upstream[i] - sum_j y[j] * upstream[j]), summed over the whole row",
    )  # fmt: skip


def normal(rng: np.random.Generator, rows: int, cols: int, scale: float = 3.0) -> np.ndarray:
    """Rows of normal random numbers."""
    return (scale * rng.standard_normal((rows, cols))).astype(np.float32)
