"""Task 5.9: an inverted file: vectors in lists by their nearest centroid; a query reads a few lists."""

from __future__ import annotations

import numpy as np

from serving.product_quantization import squared_distances


def build_lists(vectors: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(order, offsets): list c is rows order[offsets[c] : offsets[c + 1]], in ascending order.

    Every row is in the list of its nearest centroid, of the first of equal ones. offsets has one
    element more than there are centroids; lists may be empty. Both are int64.
    """
    raise NotImplementedError("task 5.9: build_lists")


def probe(queries: np.ndarray, centroids: np.ndarray, probes: int) -> np.ndarray:
    """(queries, probes) int64: the lists of the nearest centroids, nearest first; all where there
    are fewer. Raises ValueError for probes < 1."""
    raise NotImplementedError("task 5.9: probe")


def nearest_first(distances: np.ndarray, ids: np.ndarray, k: int) -> np.ndarray:
    """Places of the min(k, n) smallest distances, nearest first, equal ones by smaller id."""
    raise NotImplementedError("task 5.9: nearest_first")
