"""Task 3.2, hidden: edges of deduplication: odd texts, copies, chains, memory."""

from __future__ import annotations

import drivers_data as drivers
import numpy as np
from data_cases import changed, check_deduplication, check_pairs, check_shingles, near_duplicates
from gradescope_utils.autograder_utils.decorators import number, weight

from autograder.testing import Measure, assert_equal

MB = 1 << 20


@number("3.2")
@weight(0.5)
def test_shingles_of_odd_texts(student, rng):
    """shingles of other alphabets, odd spaces, one word again and again, and of any width."""
    texts = [
        "ÉTÉ été Straße 東京 東京 \u00a0 zero\u2003width", "na " * 50, "x", "a b", "b a",
        "tab\tand\x0bline\x1cbreaks\u2028here", "A B C", "a  b  c ", "c b a",
        " ".join(f"w{n}" for n in rng.integers(0, 12, 300)),
    ]  # fmt: skip
    check_shingles(student, texts, [1, 3, 5])
    student.raises(drivers.shingle_sets, "ValueError", texts=["a b c"], width=0)


@number("3.2")
@weight(0.5)
def test_pairs_of_bands(student, rng):
    """candidate_pairs: any band counts, spare columns do not, each pair once and in order."""
    cases = []
    sizes = [(40, 12, 4, 3), (30, 13, 4, 3), (25, 6, 6, 1), (12, 5, 1, 5), (1, 4, 2, 2),
             (0, 4, 2, 2), (300, 16, 5, 3)]  # fmt: skip
    for count, columns, bands, rows in sizes:
        cases.append([rng.integers(0, 3, (count, columns)).astype(np.uint32), bands, rows])
    swapped = np.array([[1, 2, 3, 4], [2, 1, 4, 3], [3, 4, 1, 2], [1, 2, 9, 9]], np.uint32)
    cases.append([swapped, 2, 2])
    large = np.full((3, 4), np.iinfo(np.uint32).max, np.uint32)
    cases.append([large, 2, 2])
    for (matrix, bands, rows), got in zip(
        cases, student.run(drivers.banded, cases=cases), strict=True
    ):
        count = len(matrix)
        split = matrix[:, : bands * rows].reshape(count, bands, rows)
        equal = (split[:, None] == split[None]).all(axis=3).any(axis=2)
        wanted = np.argwhere(np.triu(equal, 1)).astype(np.int64).reshape(-1, 2)
        name = f"candidates of {count} documents in {bands} bands of {rows}"
        assert check_pairs(got, count, name) == {tuple(p) for p in wanted.tolist()}, (
            f"{name}: {len(got)} pairs, expected {len(wanted)}\n"
            "hint: band k is columns k * rows to (k + 1) * rows, and is compared with band k only"
        )
        assert_equal(got, wanted, name=name, hint="in lexicographic order")
    for bands, rows in ((0, 2), (2, 0), (3, 2)):
        student.raises(drivers.banded, "ValueError", cases=[[swapped, bands, rows]])
    _many_signatures(student, rng)


def _many_signatures(student, rng):
    """Candidates among 30,000 documents: there are 450 million pairs, no time to look at each."""
    # Sorting takes 0.1 s; to compare all pairs in 8 bands is 3.6 thousand million comparisons, 3 s
    # at the very best. One byte for each pair of a matrix would be 900 MB.
    count, bands = 30_000, 8
    matrix = rng.integers(0, 2**32, (count, 16), dtype=np.uint32)
    first, second = np.sort(rng.permutation(count).reshape(-1, 2)[:500], axis=1).T
    for i, j, band in zip(first, second, rng.integers(0, bands, 500), strict=True):
        matrix[j, 2 * band : 2 * band + 2] = matrix[i, 2 * band : 2 * band + 2]
    wanted = np.stack([first, second], axis=1)
    wanted = wanted[np.lexsort(wanted.T[::-1])]
    before = sum(student.thread_seconds())
    memory = student.memory(drivers.banded, cases=[[matrix, bands, 2]], allowance_mb=32)
    seconds = sum(student.thread_seconds()) - before
    name = f"candidates of {count} documents"
    # By chance one pair more agrees in a band with a probability of 2e-10.
    assert check_pairs(memory.value[0], count, name) == {tuple(p) for p in wanted.tolist()}, (
        f"{name}: {len(memory.value[0])} pairs, expected {len(wanted)}"
    )
    hint = "\nhint: sort the documents by their band; equal ones then stand side by side"
    student.measure(Measure(name=name, value=seconds, unit="s", full=1.5, better="lower"))
    assert memory.extra_bytes <= 128 * MB, (
        f"{name} took {memory.extra_bytes / MB:.0f} MB, 128 are allowed{hint}"
    )
    assert seconds <= 1.5, f"{name} took {seconds:.1f} s of CPU time, 1.5 are allowed{hint}"


@number("3.2")
@weight(0.75)
def test_copies_chains_and_empty_texts(student, rng):
    """Copies of a page cost a candidate each; chains are followed; empty texts are copies."""
    page, chain = near_duplicates(rng, 1, 0)[0], [near_duplicates(rng, 1, 0)[0].split()]
    for _ in range(30):
        chain.append(changed(rng, chain[-1], 0.03))
    others = near_duplicates(rng, 60, 20)
    texts = [page] * 300 + [" ".join(words) for words in chain] + others + ["", " ", "one", "One"]
    texts = [texts[i] for i in rng.permutation(len(texts))]
    got = student.run(
        drivers.deduplicated, texts=texts, threshold=0.6, permutations=256, recall=0.9999999,
        seed=int(rng.integers(2**31)),
    )  # fmt: skip
    check_pairs(got["candidates"], len(texts))
    assert len(got["candidates"]) <= 2_000, (
        f"{len(got['candidates'])} candidates for {len(texts)} documents, 300 of them equal\n"
        "hint: documents with the same set of shingles need no pairs but (first, other)"
    )
    first = next(i for i, text in enumerate(texts) if text == page)
    copies = [i for i, text in enumerate(texts) if text == page]
    assert_equal(got["cluster"][copies], np.full(300, first), name="the clusters of the copies")
    rest = [i for i, text in enumerate(texts) if text != page or i == first]
    place = {i: k for k, i in enumerate(rest)}
    inside = [k for k, (i, j) in enumerate(got["duplicates"].tolist()) if {i, j} <= place.keys()]
    reduced = {
        "candidates": _renumbered(got["candidates"], place),
        "duplicates": _renumbered(got["duplicates"][inside], place),
        "similarity": got["similarity"][inside],
        "cluster": np.array([place.get(int(c), -1) for c in got["cluster"][rest]]),
        "keep": np.array([place.get(int(i), -1) for i in got["keep"]]),
    }
    check_deduplication(reduced, [texts[i] for i in rest], 0.6)
    path = np.stack([np.arange(1, 30_000), np.arange(30_000 - 1)], axis=1)
    lines = [(30_000, path), (30_000, path[::-1]), (3, np.empty((0, 2), np.int64))]
    for (count, pairs), found in zip(
        lines, student.run(drivers.clusters, cases=lines), strict=True
    ):
        wanted = np.zeros(count, np.int64) if len(pairs) else np.arange(count)
        assert_equal(found, wanted, name=f"clusters of a chain of {len(pairs)} links")


def _renumbered(pairs: np.ndarray, place: dict[int, int]) -> np.ndarray:
    """The pairs that are among the documents of `place`, by their new numbers."""
    kept = [(place[i], place[j]) for i, j in pairs.tolist() if i in place and j in place]
    return np.array(kept, np.int64).reshape(-1, 2)


@number("3.2")
@weight(0.5)
def test_signatures_of_a_large_corpus(student, rng):
    """A million shingles are signed in bounded memory; a document's signature is its own."""
    count, size, permutations = 500, 2_000, 128
    seed = int(rng.integers(2**31))
    memory = student.memory(
        drivers.signatures_of_many, count=count, size=size, permutations=permutations, seed=seed,
        allowance_mb=32,
    )  # fmt: skip
    together = memory.value
    assert np.shape(together) == (count, permutations), f"signatures of shape {np.shape(together)}"
    # Which documents are made again, alone, is said only now.
    some = rng.permutation(count)[:20]
    sets = drivers.random_sets(count, size, seed)
    (alone,) = student.run(
        drivers.signatures, sets=[sets[i] for i in some], permutations=permutations, seeds=[1]
    )
    assert_equal(
        together[some], alone, name="signatures of 20 of 500 documents, among all and by themselves"
    )
    assert len(np.unique(alone)) > permutations, "signatures are all the same"
    all_at_once = 8 * count * size * permutations
    student.measure(
        Measure(name="memory / all hashes at once", value=memory.extra_bytes / all_at_once)
    )
    assert memory.extra_bytes <= 160 * MB, (
        f"{memory.extra_bytes / MB:.0f} MB for {8 * count * size / MB:.0f} MB of shingles; all "
        f"their hashes at once would be {all_at_once / MB:.0f} MB; 160 MB are allowed\n"
        "hint: hash function after hash function, over a limited number of shingles at a time"
    )
    empty = np.empty(0, np.uint64)
    x = np.unique(rng.integers(2**64, size=50, dtype=np.uint64))
    sets = [empty, x, empty, empty, x[:1], empty]
    (got,) = student.run(drivers.signatures, sets=sets, permutations=16, seeds=[5])
    (one,) = student.run(drivers.signatures, sets=[x, x[:1]], permutations=16, seeds=[5])
    assert_equal(got[[1, 4]], one, name="signatures beside empty documents")
    full = np.full((4, 16), np.iinfo(np.uint32).max, np.uint32)
    assert_equal(got[[0, 2, 3, 5]], full, name="signatures of empty documents")
