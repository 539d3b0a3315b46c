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
    # BEGIN SOLUTION 5.9
    points = np.asarray(points, np.float32)
    if count < 1 or len(points) == 0:
        raise ValueError(f"k-means of {len(points)} points with {count} centroids")
    rng = np.random.default_rng(seed)
    used = min(count, len(points))
    centroids = points[rng.choice(len(points), used, replace=False)].copy()
    for _ in range(iterations):
        distances = squared_distances(points, centroids)
        nearest = distances.argmin(1)
        sizes = np.bincount(nearest, minlength=used)
        order = np.argsort(nearest, kind="stable")
        starts = (np.cumsum(sizes) - sizes)[sizes > 0]
        sums = np.add.reduceat(points[order].astype(np.float64), starts, axis=0)
        centroids[sizes > 0] = sums / sizes[sizes > 0, None]
        empty = np.flatnonzero(sizes == 0)
        if len(empty):
            far = np.argsort(-distances[np.arange(len(points)), nearest], kind="stable")
            centroids[empty] = points[far[: len(empty)]]
    return np.concatenate([centroids, np.repeat(centroids[:1], count - used, axis=0)])
    # END SOLUTION


def quantize_int8(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """((n, dims) int8 codes, (n,) float32 scales): vector ≈ code · scale, each row by itself.

    The largest magnitude of a row becomes 127; codes are rounded to the nearest, within ±127. A row
    of zeros has scale 1.
    """
    # BEGIN SOLUTION 5.9
    vectors = np.asarray(vectors, np.float32)
    largest = np.abs(vectors).max(1, initial=0)
    scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    codes = np.clip(np.rint(vectors / scales[:, None]), -127, 127)
    return codes.astype(np.int8), scales
    # END SOLUTION


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
        # BEGIN SOLUTION 5.9
        count, dims = vectors.shape
        if dims % pieces or not 1 <= codewords <= 256:
            raise ValueError(f"{dims} dims in {pieces} pieces with {codewords} codewords")
        parts = vectors.reshape(count, pieces, dims // pieces)
        books = [kmeans(parts[:, p], codewords, iterations, seed + p) for p in range(pieces)]
        return cls(np.stack(books))
        # END SOLUTION

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """(n, pieces) uint8: the nearest codeword of each piece."""
        # BEGIN SOLUTION 5.9
        pieces, _, width = self.codebooks.shape
        parts = vectors.reshape(len(vectors), pieces, width)
        codes = np.empty((len(vectors), pieces), np.uint8)
        for p in range(pieces):
            codes[:, p] = squared_distances(parts[:, p], self.codebooks[p]).argmin(1)
        return codes
        # END SOLUTION

    def tables(self, query: np.ndarray) -> np.ndarray:
        """(pieces, codewords) float32: squared distance from each piece of one query, which is not
        quantized itself (asymmetric), to every codeword."""
        # BEGIN SOLUTION 5.9
        pieces, _, width = self.codebooks.shape
        return ((self.codebooks - query.reshape(pieces, 1, width)) ** 2).sum(2)
        # END SOLUTION

    def distances(self, query: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """(n,) float32 squared distances from the query to coded vectors, by looking up and adding."""
        # BEGIN SOLUTION 5.9
        table = self.tables(query)
        return table[np.arange(len(table)), codes].sum(1)
        # END SOLUTION
