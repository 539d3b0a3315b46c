"""What the tests of task 2.8 share: numbers whose sums are exact, and what is expected."""

from __future__ import annotations

import numpy as np


def eighths(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Multiples of 1/8 up to 16: sums of 2**16 of them are exact in float32, in any order.

    In units of 1/8 they are integers up to 2**7, and float32 holds all integers up to 2**24.
    """
    return (rng.integers(-128, 129, shape) / 8).astype(np.float32)


def expected_rows(table: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """table[ids], with zeros for ids that are no rows."""
    inside = (ids >= 0) & (ids < len(table))
    return np.where(inside[..., None], table[np.where(inside, ids, 0)], np.float32(0))


def expected_grad(upstream: np.ndarray, ids: np.ndarray, grad: np.ndarray) -> np.ndarray:
    """grad with upstream added to its rows `ids`; ids that are no rows add nothing."""
    total = grad.astype(np.float64)
    inside = (ids >= 0) & (ids < len(grad))
    np.add.at(total, ids[inside], upstream[inside].astype(np.float64))
    return total.astype(np.float32)
