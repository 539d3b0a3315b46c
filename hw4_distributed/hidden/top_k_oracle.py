"""Top-k of all ranks in one process, whole: for hidden tests of task 4.7."""

from __future__ import annotations

from typing import Any

import numpy as np
from compression_cases import kept


def largest_of(values: np.ndarray, count: int) -> np.ndarray:
    """Places of the `count` largest magnitudes, in rising order; the lower place first of equals."""
    return np.sort(np.argsort(-np.abs(values), kind="stable")[:count])


class TopKOracle:
    """Top-k of all ranks in one process, in float64: exact for gradients of small whole numbers."""

    def __init__(self, fraction: float, error_feedback: bool = True) -> None:
        self.fraction, self.error_feedback = fraction, error_feedback
        self.residuals: list[np.ndarray] = []

    def __call__(self, gradients: list[np.ndarray], shapes: Any = None) -> np.ndarray:
        """The mean of what the ranks send of (elements,) gradients, one a rank."""
        if not self.residuals or not self.error_feedback:
            self.residuals = [np.zeros(len(g)) for g in gradients]
        total = np.zeros(len(gradients[0]))
        for rank, gradient in enumerate(gradients):
            corrected = gradient.astype(np.float64) + self.residuals[rank]
            places = largest_of(corrected, kept(len(corrected), self.fraction))
            total[places] += corrected[places]
            corrected[places] = 0.0
            self.residuals[rank] = corrected
        return total / len(gradients)
