"""Task 3.2: near-duplicate documents: MinHash signatures, banding, exact confirmation, clusters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from language_model.dedup_hashing import mix64, word_values

# How many documents' shingles are in memory at once while signatures are made.
CHUNK = 1024


def shingles(text: str, width: int = 3) -> np.ndarray:
    """The set of runs of `width` words in `text`: sorted uint64 numbers, each once.

    The words are `text.lower().split()`, numbered by `word_values`. A run's number starts as
    h = 0 and becomes h = mix64(h ^ value) for each of its words in order (`^` is exclusive or). A
    text of fewer than `width` words, but at least one, is a single run of all its words; a text
    without words has the empty set. Work is in arrays: `width` passes over all runs at once.
    Raises ValueError if width < 1.
    """
    raise NotImplementedError("task 3.2: shingles")


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """|a ∩ b| / |a ∪ b| of two sets as `shingles` gives them; 1.0 for two empty sets."""
    raise NotImplementedError("task 3.2: jaccard")


def minhash(sets: Sequence[np.ndarray], permutations: int = 128, seed: int = 0) -> np.ndarray:
    """MinHash signatures (Broder, 1997), (len(sets), permutations) uint32.

    Entry [i, p] is the least value of hash function p over set i, so that two sets agree in an
    entry with a probability equal to their Jaccard similarity. The hash functions differ from each
    other and depend on `seed` alone; (a * x + b) mod 2**64 with odd random a, of which the upper
    32 bits are kept, is good enough for numbers that are well mixed already. The empty set has
    the largest uint32 everywhere. No Python loop over shingles, and temporary memory that does not
    grow with `permutations` times all shingles.
    """
    raise NotImplementedError("task 3.2: minhash")


def _groups(sets: Sequence[np.ndarray], at_most: int) -> Iterator[list[int]]:
    """Indices of sets that are not empty, in groups of about `at_most` elements together.

    A helper you may use in `minhash`, or leave.
    """
    raise NotImplementedError("task 3.2: _groups")


def collision_probability(similarity: np.ndarray, bands: int, rows: int) -> np.ndarray:
    """How likely two sets of this Jaccard similarity share a band: 1 - (1 - s**rows)**bands."""
    raise NotImplementedError("task 3.2: collision_probability")


def choose_bands(permutations: int, threshold: float, recall: float = 0.99) -> tuple[int, int]:
    """(bands, rows) with bands * rows ≤ permutations: as selective as `recall` allows.

    The most rows for which bands = permutations // rows still makes a pair of similarity
    `threshold` a candidate with a probability of at least `recall`. Raises ValueError if not even
    rows = 1 does.
    """
    raise NotImplementedError("task 3.2: choose_bands")


def candidate_pairs(signatures: np.ndarray, bands: int, rows: int) -> np.ndarray:
    """Pairs (i, j), i < j, of documents whose signatures agree in all `rows` of some band.

    signatures: (documents, permutations), of which band k is columns k * rows to (k + 1) * rows;
    columns beyond the last band are not used. Returns (pairs, 2) int64, each pair once, in
    lexicographic order. Cost: a sort of the documents for each band, never a comparison of all
    pairs. Raises ValueError if bands * rows is 0 or more than there are columns.
    """
    raise NotImplementedError("task 3.2: candidate_pairs")


@dataclass(frozen=True)
class Deduplication:
    """What `deduplicate` found in n documents.

    cluster: (n,) int64, the first document of the cluster that each belongs to (itself, where it
    has no duplicate). candidates: (m, 2) int64 pairs (i, j), i < j, each once, in any order: those
    of equal sets, which need no comparison, and those that were compared exactly. duplicates:
    (k, 2) int64, those of them that are similar enough; similarity: (k,) float64, how similar each
    of the duplicates is, in their order (1 for equal sets).
    """

    cluster: np.ndarray
    candidates: np.ndarray
    duplicates: np.ndarray
    similarity: np.ndarray

    @property
    def keep(self) -> np.ndarray:
        """(kept,) int64, the documents to keep: the first of each cluster, in order."""
        return np.flatnonzero(self.cluster == np.arange(len(self.cluster)))


def clusters(count: int, pairs: np.ndarray) -> np.ndarray:
    """(count,) int64: the smallest member of the connected component of each of `count` documents.

    pairs: (k, 2) links between them, in any order and direction. A chain counts as one component,
    however long: no recursion, and about linear cost.
    """
    raise NotImplementedError("task 3.2: clusters")


def deduplicate(
    documents: Sequence[str], threshold: float = 0.8, width: int = 3, permutations: int = 128,
    recall: float = 0.99, seed: int = 0,
) -> Deduplication:  # fmt: skip
    """Find documents whose Jaccard similarity is at least `threshold`, and cluster them.

    documents: anything with a length that gives texts by index; a text is asked for again rather
    than kept, so that memory holds signatures (4 * permutations bytes a document) and not shingles.

    1. Documents with equal sets of shingles are duplicates without any comparison of pairs: the
       first of them stands for all, and each other one is one candidate, (first, other).
       Otherwise a thousand copies of one page would be half a million candidates.
    2. Of the others, signatures, bands by `choose_bands(permutations, threshold, recall)`,
       candidates.
    3. Each candidate's exact Jaccard similarity; those at or above `threshold` are duplicates.
    4. Clusters of what is linked by duplicates, directly or over others.
    """
    raise NotImplementedError("task 3.2: deduplicate")


def _digest(members: np.ndarray) -> bytes:
    """A short name of a set of shingles; equal sets have equal names. A helper you may leave."""
    raise NotImplementedError("task 3.2: _digest")


def _similarities(documents: Sequence[str], pairs: np.ndarray, width: int) -> np.ndarray:
    """(pairs,) float64 exact Jaccard similarities. A helper you may use, or leave."""
    raise NotImplementedError("task 3.2: _similarities")
