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
    # BEGIN SOLUTION 3.2
    if width < 1:
        raise ValueError(f"a shingle has at least one word, not {width}")
    values = word_values(text.lower().split())
    width = min(width, len(values))
    if width == 0:
        return np.empty(0, np.uint64)
    runs = len(values) - width + 1
    h = np.zeros(runs, np.uint64)
    for place in range(width):
        h = mix64(h ^ values[place : place + runs])
    return np.unique(h)
    # END SOLUTION


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """|a ∩ b| / |a ∪ b| of two sets as `shingles` gives them; 1.0 for two empty sets."""
    # BEGIN SOLUTION 3.2
    common = len(np.intersect1d(a, b, assume_unique=True))
    union = len(a) + len(b) - common
    return common / union if union else 1.0
    # END SOLUTION


def minhash(sets: Sequence[np.ndarray], permutations: int = 128, seed: int = 0) -> np.ndarray:
    """MinHash signatures (Broder, 1997), (len(sets), permutations) uint32.

    Entry [i, p] is the least value of hash function p over set i, so that two sets agree in an
    entry with a probability equal to their Jaccard similarity. The hash functions differ from each
    other and depend on `seed` alone; (a * x + b) mod 2**64 with odd random a, of which the upper
    32 bits are kept, is good enough for numbers that are well mixed already. The empty set has
    the largest uint32 everywhere. No Python loop over shingles, and temporary memory that does not
    grow with `permutations` times all shingles.
    """
    # BEGIN SOLUTION 3.2
    rng = np.random.default_rng(seed)
    multipliers = rng.integers(2**64, size=permutations, dtype=np.uint64) | np.uint64(1)
    offsets = rng.integers(2**64, size=permutations, dtype=np.uint64)
    result = np.full((len(sets), permutations), np.iinfo(np.uint32).max, np.uint32)
    for chosen in _groups(sets, at_most=1 << 16):
        x = np.concatenate([sets[i] for i in chosen])
        # reduceat gives no identity for an empty stretch but its first neighbour: none is in here.
        starts = np.cumsum([0] + [len(sets[i]) for i in chosen[:-1]])
        for p in range(permutations):
            hashed = (multipliers[p] * x + offsets[p]) >> np.uint64(32)
            result[chosen, p] = np.minimum.reduceat(hashed, starts)
    return result
    # END SOLUTION


def _groups(sets: Sequence[np.ndarray], at_most: int) -> Iterator[list[int]]:
    """Indices of sets that are not empty, in groups of about `at_most` elements together.

    A helper you may use in `minhash`, or leave.
    """
    # BEGIN SOLUTION 3.2
    group: list[int] = []
    held = 0
    for i, members in enumerate(sets):
        if not len(members):
            continue
        if group and held + len(members) > at_most:
            yield group
            group, held = [], 0
        group.append(i)
        held += len(members)
    if group:
        yield group
    # END SOLUTION


def collision_probability(similarity: np.ndarray, bands: int, rows: int) -> np.ndarray:
    """How likely two sets of this Jaccard similarity share a band: 1 - (1 - s**rows)**bands."""
    # BEGIN SOLUTION 3.2
    return 1 - (1 - np.asarray(similarity, np.float64) ** rows) ** bands
    # END SOLUTION


def choose_bands(permutations: int, threshold: float, recall: float = 0.99) -> tuple[int, int]:
    """(bands, rows) with bands * rows ≤ permutations: as selective as `recall` allows.

    The most rows for which bands = permutations // rows still makes a pair of similarity
    `threshold` a candidate with a probability of at least `recall`. Raises ValueError if not even
    rows = 1 does.
    """
    # BEGIN SOLUTION 3.2
    for rows in range(permutations, 0, -1):
        bands = permutations // rows
        if collision_probability(np.float64(threshold), bands, rows) >= recall:
            return bands, rows
    raise ValueError(f"{permutations} permutations can't find {threshold} with recall {recall}")
    # END SOLUTION


def candidate_pairs(signatures: np.ndarray, bands: int, rows: int) -> np.ndarray:
    """Pairs (i, j), i < j, of documents whose signatures agree in all `rows` of some band.

    signatures: (documents, permutations), of which band k is columns k * rows to (k + 1) * rows;
    columns beyond the last band are not used. Returns (pairs, 2) int64, each pair once, in
    lexicographic order. Cost: a sort of the documents for each band, never a comparison of all
    pairs. Raises ValueError if bands * rows is 0 or more than there are columns.
    """
    # BEGIN SOLUTION 3.2
    count, permutations = signatures.shape
    if bands < 1 or rows < 1 or bands * rows > permutations:
        raise ValueError(f"{bands} bands of {rows} rows do not fit {permutations} permutations")
    found = np.empty(0, np.int64)
    for band in range(bands):
        key = np.zeros(count, np.uint64)
        for column in range(band * rows, (band + 1) * rows):
            key = mix64(key ^ signatures[:, column].astype(np.uint64))
        order = np.argsort(key, kind="stable")
        key = key[order]
        # Equal keys stand side by side: where none is equal `lag` places on, none is further on.
        for lag in range(1, count):
            first = np.flatnonzero(key[:-lag] == key[lag:])
            if not len(first):
                break
            i, j = order[first], order[first + lag]  # stable: i < j
            found = np.union1d(found, i.astype(np.int64) * count + j)
    return np.stack([found // max(count, 1), found % max(count, 1)], axis=1)
    # END SOLUTION


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
    # BEGIN SOLUTION 3.2
    parent = list(range(count))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, j in pairs.tolist():
        one, other = root(i), root(j)
        parent[max(one, other)] = min(one, other)
    return np.array([root(i) for i in range(count)], np.int64)
    # END SOLUTION


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
    # BEGIN SOLUTION 3.2
    bands, rows = choose_bands(permutations, threshold, recall)
    first_with: dict[bytes, int] = {}
    copies: list[tuple[int, int]] = []
    unique: list[int] = []
    signatures = [np.empty((0, permutations), np.uint32)]
    for start in range(0, len(documents), CHUNK):
        sets = []
        for i in range(start, min(start + CHUNK, len(documents))):
            members = shingles(documents[i], width)
            first = first_with.setdefault(_digest(members), i)
            if first != i:
                copies.append((first, i))
                continue
            unique.append(i)
            sets.append(members)
        signatures.append(minhash(sets, permutations, seed))
    pairs = np.array(unique, np.int64)[candidate_pairs(np.concatenate(signatures), bands, rows)]
    similarity = _similarities(documents, pairs, width)
    near = similarity >= threshold
    identical = np.array(copies, np.int64).reshape(-1, 2)
    duplicates = np.concatenate([identical, pairs[near]])
    return Deduplication(
        clusters(len(documents), duplicates),
        np.concatenate([identical, pairs]),
        duplicates,
        np.concatenate([np.ones(len(identical)), similarity[near]]),
    )
    # END SOLUTION


def _digest(members: np.ndarray) -> bytes:
    """A short name of a set of shingles; equal sets have equal names. A helper you may leave."""
    # BEGIN SOLUTION 3.2
    import hashlib

    return hashlib.blake2b(members.tobytes(), digest_size=16).digest()
    # END SOLUTION


def _similarities(documents: Sequence[str], pairs: np.ndarray, width: int) -> np.ndarray:
    """(pairs,) float64 exact Jaccard similarities. A helper you may use, or leave."""
    # BEGIN SOLUTION 3.2
    shingles_of = lru_cache(maxsize=CHUNK)(lambda i: shingles(documents[i], width))
    found = (jaccard(shingles_of(i), shingles_of(j)) for i, j in pairs.tolist())
    return np.fromiter(found, np.float64, len(pairs))
    # END SOLUTION
