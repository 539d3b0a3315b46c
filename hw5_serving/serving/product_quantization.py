"""Task 5.9: vectors in fewer bytes: k-means, product quantization, int8."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Given: (rows of a, rows of b) float32, |a − b|², never below 0."""
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    norms = (a * a).sum(1)[:, None] + (b * b).sum(1)[None]
    return np.maximum(norms - 2 * (a @ b.T), 0)


def kmeans(points: np.ndarray, count: int, iterations: int = 10, seed: int = 0) -> np.ndarray:
    """Lloyd's k-means: (count, dims) float32 centroids of (n, dims) points.

    Starts from min(count, n) different rows that `np.random.default_rng(seed)` chooses. In every
    iteration each point goes to its nearest centroid and each centroid to the mean of its points;
    one without points moves to the point that is farthest from its own centroid (several take
    different points), so that no centroid is wasted while some point lies elsewhere. With fewer
    points than centroids the rest repeat the first. Raises ValueError for no points or count < 1.
    """
    raise NotImplementedError("task 5.9: kmeans")


def quantize_int8(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """((n, dims) int8 codes, (n,) float32 scales): vector ≈ code · scale, each row by itself.

    The largest magnitude of a row becomes 127; codes are rounded to the nearest, within ±127. A row
    of zeros has scale 1.
    """
    raise NotImplementedError("task 5.9: quantize_int8")


@dataclass
class ProductQuantizer:
    """A vector in pieces, each piece the number of its nearest codeword (Jégou et al., 2011).

    codebooks: (pieces, codewords, dims / pieces) float32, at most 256 codewords.
    """

    codebooks: np.ndarray

    @classmethod
    def train(
        cls, vectors: np.ndarray, pieces: int, codewords: int = 256, iterations: int = 8, seed: int = 0
    ) -> ProductQuantizer:
        """One k-means for each piece of consecutive dims. Raises ValueError where dims are no
        multiple of pieces or codewords are not in 1..256."""
        raise NotImplementedError("task 5.9: ProductQuantizer.train")

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """(n, pieces) uint8: the nearest codeword of each piece."""
        raise NotImplementedError("task 5.9: ProductQuantizer.encode")

    def tables(self, query: np.ndarray) -> np.ndarray:
        """(pieces, codewords) float32: squared distance from each piece of one query, which is not
        quantized itself (asymmetric), to every codeword."""
        raise NotImplementedError("task 5.9: ProductQuantizer.tables")

    def distances(self, query: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """(n,) float32 squared distances from the query to coded vectors, by looking up and adding."""
        raise NotImplementedError("task 5.9: ProductQuantizer.distances")
