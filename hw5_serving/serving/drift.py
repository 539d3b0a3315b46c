"""Task 5.12: does what the model is asked, or answers, still look like what it was tested on?

Two measures of the distance between a reference sample and a window of live values (prompt lengths,
log-probabilities, an embedding's distance to the nearest known one), and a detector that watches
window after window without crying wolf more often as it gets older.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def quantile_edges(reference: np.ndarray, bins: int) -> np.ndarray:
    """Inner edges of at most `bins` bins that hold about equal parts of the reference: rising.

    The quantiles 1/bins … (bins − 1)/bins as numpy gives them; equal edges (many equal values) are
    one edge. A bin holds the values above its lower edge up to and with its upper edge; the
    outer bins are open.
    """
    raise NotImplementedError("task 5.12: quantile_edges")


def bin_counts(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """How many values lie in each bin: (len(edges) + 1,) int64; infinities lie in the outer bins."""
    raise NotImplementedError("task 5.12: bin_counts")


def population_stability_index(
    reference: np.ndarray, counts: np.ndarray, smoothing: float = 0.5
) -> float:
    """Σ (p − q) · ln(p / q) over bins, of two arrays of counts; 0 for equal shares, symmetric.

    `smoothing` is added to every count before shares are made: an empty bin must not give infinity.
    A rule of thumb: below 0.1 nothing, above 0.25 something has happened.
    """
    raise NotImplementedError("task 5.12: population_stability_index")


def kolmogorov_smirnov(a: np.ndarray, b: np.ndarray) -> float:
    """The largest distance between the two samples' distribution functions; ties are one step."""
    raise NotImplementedError("task 5.12: kolmogorov_smirnov")


def kolmogorov_p_value(statistic: float, n: int, m: int) -> float:
    """Asymptotic probability of a distance ≥ `statistic` between samples of n and m that agree.

    With x = statistic · sqrt(n m / (n + m)): 2 Σ (−1)^(k−1) exp(−2 k² x²) over k ≥ 1. For small x the
    terms hardly fall; there use 1 − sqrt(2π)/x · Σ exp(−(2k − 1)² π² / (8 x²)), the same function.
    """
    raise NotImplementedError("task 5.12: kolmogorov_p_value")


@dataclass(frozen=True)
class Report:
    """One window: its number from 1, both distances, the p-value, and whether it is an alarm."""

    window: int
    stability_index: float
    statistic: float
    p_value: float
    drifted: bool


class DriftDetector:
    """Compares each full window of live values, one after the other, with a reference sample.

    Window i may spend 6 / (π² i²) of `alpha`: those add up to alpha, so that with an unchanged
    stream the probability of *ever* a false alarm is ≤ alpha. A window is an alarm where its p-value
    is below that and its stability index is above `index_limit`: sure, and large enough to matter.
    Raises ValueError for NaN, and for a reference or window without values.
    """

    def __init__(
        self, reference: np.ndarray, window: int, bins: int = 10, alpha: float = 0.01,
        index_limit: float = 0.1,
    ) -> None:  # fmt: skip
        self.reference = np.sort(np.asarray(reference, np.float64))
        if not len(self.reference) or window < 1:
            raise ValueError("the reference and the window need values")
        if np.isnan(self.reference).any():
            raise ValueError("the reference holds NaN")
        self.window, self.alpha, self.index_limit = window, alpha, index_limit
        self.edges = quantile_edges(self.reference, bins)
        self.counts = bin_counts(self.reference, self.edges)
        self.waiting: list[float] = []
        self.windows = 0

    def observe(self, values: Sequence[float] | np.ndarray) -> list[Report]:
        """Take values in; a report for each window that is full with them (maybe none, or many).

        What does not fill a window waits for the next call. NaN is refused before anything is taken.
        """
        raise NotImplementedError("task 5.12: DriftDetector.observe")

    def _report(self, values: np.ndarray) -> Report:
        """Both distances of one window, and the verdict."""
        raise NotImplementedError("task 5.12: DriftDetector._report")
