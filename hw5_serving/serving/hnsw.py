"""Task 5.10: hierarchical navigable small worlds (Malkov & Yashunin, 2018).

A search is a generator: it yields nodes whose distances it wants, and is sent the distances. So the
same search runs on vectors in memory, on a disk, or over a wire, and whoever answers can count.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Generator, Sequence

import numpy as np

Distances = Sequence[float]
Found = list[tuple[float, int]]
Search = Generator[list[int], Distances, Found]


def draw_level(rng: np.random.Generator, m: int) -> int:
    """floor(−ln(u) / ln(m)), u uniform in (0, 1]: a share of 1/m of each level's nodes is one higher."""
    raise NotImplementedError("task 5.10: draw_level")


def select_neighbors(
    candidates: Found, count: int, between: Callable[[int, int], float]
) -> list[int]:
    """Algorithm 4 without its extensions: at most `count` nodes, so that links go in all directions.

    candidates: (distance to the node that gets the links, node), in any order. The nearest first, one
    is taken if it is nearer to the node than to every one taken before (equal: not taken).
    between: distance of two candidates; ask for no pair that does not matter.
    """
    raise NotImplementedError("task 5.10: select_neighbors")


class HNSW:
    """The graph. neighbors[node][level]: the links of a node on each of its levels 0, 1, ….

    m: links that an insertion makes on each level, and the most that a node has above level 0; on
    level 0 a node has at most 2 m. Distances are squared Euclidean.
    """

    def __init__(self, dims: int, m: int = 16, ef_construction: int = 100, seed: int = 0) -> None:
        """Given."""
        self.dims, self.m, self.ef_construction = dims, m, ef_construction
        self.rng = np.random.default_rng(seed)
        self.vectors = np.empty((0, dims), np.float32)
        self.neighbors: list[list[list[int]]] = []
        self.deleted: set[int] = set()
        self.entry = -1

    def links_allowed(self, level: int) -> int:
        """Given."""
        return 2 * self.m if level == 0 else self.m

    def distances(self, vector: np.ndarray, nodes: Sequence[int]) -> np.ndarray:
        """Given: squared distances from a vector to these nodes."""
        difference = self.vectors[nodes] - vector
        return np.einsum("nd,nd->n", difference, difference)

    def answer(self, steps: Search, vector: np.ndarray) -> Found:
        """Given: run a search on the vectors in memory."""
        try:
            wanted = next(steps)
            while True:
                wanted = steps.send(self.distances(vector, wanted).tolist())
        except StopIteration as end:
            return end.value

    def search_layer(self, entries: Found, ef: int, level: int) -> Search:
        """Algorithm 2: the `ef` nearest that a best-first walk from `entries` finds, nearest first.

        entries: (distance, node), not asked for again. Each yield is the links of one node that were
        not seen yet, in one list and never an empty one; no node is asked for twice. The walk ends
        when the nearest node left is further than the furthest of ef found. Deleted nodes
        are walked through and found like others.
        """
        raise NotImplementedError("task 5.10: HNSW.search_layer")

    def search_steps(self, k: int, ef: int) -> Search:
        """Algorithm 5: the k nearest that are not deleted, nearest first; an empty graph yields nothing.

        First the entry alone is asked for; from its top level down to 1 the walk keeps one node, on
        level 0 it keeps max(ef, k). Deleted nodes are left out of the answer only then, and of the
        max(ef, k) some may be: see `search`. Raises ValueError for k < 1.
        """
        raise NotImplementedError("task 5.10: HNSW.search_steps")

    def search(self, query: np.ndarray, k: int, ef: int = 64) -> tuple[np.ndarray, np.ndarray]:
        """((≤ k,) int64 nodes, (≤ k,) float32 squared distances) of the nearest that are not deleted.

        Where fewer than k come back though more live, again with twice the ef, until ef reaches the
        number of nodes; where that is not enough (equal vectors are linked to few of their like, and
        some may be out of reach), all that live are compared.
        """
        raise NotImplementedError("task 5.10: HNSW.search")

    def insert(self, vector: np.ndarray, level: int | None = None) -> int:
        """Algorithm 1: add a vector; its node, the next number. level: drawn where it is None.

        Above the new node's level the walk keeps one node; from min(its level, the top) down it keeps
        ef_construction, and of those `select_neighbors` chooses m. Links go both ways; a
        neighbor that then has more than `links_allowed` keeps what `select_neighbors` chooses of
        its links. A node higher than the top becomes the entry. Raises ValueError for other dims.
        """
        raise NotImplementedError("task 5.10: HNSW.insert")

    def _keep(self, node: int, vector: np.ndarray) -> None:
        """Store a vector; room is doubled when it is used up. Use it or leave it."""
        raise NotImplementedError("task 5.10: HNSW._keep")

    def _select(self, candidates: Found, count: int) -> list[int]:
        """select_neighbors with distances between the candidates at hand. Use it or leave it."""
        raise NotImplementedError("task 5.10: HNSW._select")

    def _link(self, node: int, other: int, level: int) -> None:
        """One more link from a node; too many are thinned out. Use it or leave it."""
        raise NotImplementedError("task 5.10: HNSW._link")

    def delete(self, node: int) -> None:
        """Mark a node: it stays in the graph for others to be reached, but is in no answer. Raises
        KeyError for a node that is not there or is marked already."""
        raise NotImplementedError("task 5.10: HNSW.delete")
