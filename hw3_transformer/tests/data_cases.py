"""Texts, documents and corpora for task 3.2's tests, and what is true of them. Trusted side."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import drivers_data as drivers
import numpy as np
from scipy import sparse

from autograder.testing import assert_equal

# --- deduplication

WORDS = 20_000
_MASK = (1 << 64) - 1


def _words(rng: np.random.Generator, count: int) -> list[str]:
    """Words with the frequencies of a language: few are common, most are rare."""
    ranks = np.floor(WORDS ** rng.random(count)).astype(int)  # density 1/rank
    return [f"w{rank}" for rank in ranks]


def changed(rng: np.random.Generator, words: Sequence[str], share: float) -> list[str]:
    """The words with about `share` of them replaced."""
    other = _words(rng, len(words))
    replace = rng.random(len(words)) < share
    return [new if r else old for old, new, r in zip(words, other, replace, strict=True)]


def near_duplicates(rng: np.random.Generator, originals: int, copies: int) -> list[str]:
    """Texts that begin with one of a dozen boilerplates, `copies` of them edited copies of others.

    Up to a tenth of a copy's words were replaced: of three-word shingles up to about a quarter.
    """
    # With one boilerplate for all, a band in which it happens to hash low would link them all.
    headers = [_words(rng, 12) for _ in range(12)]
    texts = [
        [*headers[int(rng.integers(12))], *_words(rng, int(rng.integers(80, 160)))]
        for _ in range(originals)
    ]
    for source in rng.permutation(originals)[:copies]:
        texts.append(changed(rng, texts[source], float(rng.uniform(0, 0.1))))
    return [" ".join(texts[i]) for i in rng.permutation(len(texts))]


def runs_of(text: str, width: int = 3) -> set[tuple[str, ...]]:
    """The set of runs of `width` words, as tuples of words."""
    words = text.lower().split()
    width = min(width, len(words))
    return {tuple(words[i : i + width]) for i in range(len(words) - width + 1)} if words else set()


def exact_pairs(texts: Sequence[str], threshold: float) -> dict[tuple[int, int], float]:
    """Every pair of texts whose Jaccard similarity is at least `threshold`, by counting sets.

    Texts without words are similar to each other, with 1. A product of incidence matrices counts
    what each pair has in common.
    """
    number: dict[tuple[str, ...], int] = {}
    rows, columns = [], []
    sizes = np.zeros(len(texts))
    for i, text in enumerate(texts):
        runs = runs_of(text)
        sizes[i] = len(runs)
        rows += [i] * len(runs)
        columns += [number.setdefault(run, len(number)) for run in runs]
    shape = (len(texts), max(len(number), 1))
    incidence = sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)
    common = sparse.triu(incidence @ incidence.T, k=1).tocoo()
    union = sizes[common.row] + sizes[common.col] - common.data
    found = {
        (int(i), int(j)): c / u
        for i, j, c, u in zip(common.row, common.col, common.data, union, strict=True)
        if c / u >= threshold
    }
    empty = np.flatnonzero(sizes == 0).tolist()
    return found | {(i, j): 1.0 for i in empty for j in empty if i < j}


def components(count: int, pairs: Any) -> np.ndarray:
    """(count,) the least member of each one's connected component."""
    links = defaultdict(set)
    for i, j in pairs:
        links[i].add(j)
        links[j].add(i)
    least = np.full(count, -1, np.int64)
    for start in range(count):
        waiting = [start] if least[start] < 0 else []
        while waiting:
            i = waiting.pop()
            if least[i] < 0:
                least[i] = start
                waiting += links[i]
    return least


def mix64(x: int) -> int:
    """The given scrambler, on Python's integers."""
    z = (x + 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def expected_shingles(text: str, width: int) -> np.ndarray:
    """What `shingles` must return, run by run on Python's integers."""
    found = set()
    for run in runs_of(text, width):
        h = 0
        for word in run:
            digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
            h = mix64(h ^ int.from_bytes(digest, "little"))
        found.add(h)
    return np.array(sorted(found), np.uint64)


def check_shingles(student: Any, texts: Sequence[str], widths: Sequence[int]) -> None:
    """The shingles of all texts, for each width, are exactly those of the specification."""
    for width in widths:
        got = student.run(drivers.shingle_sets, texts=list(texts), width=width)
        for text, found in zip(texts, got, strict=True):
            assert getattr(found, "dtype", None) == np.uint64, "shingles are an array of uint64"
            name = f"shingles({text[:40]!r}, {width})"
            wanted = expected_shingles(text, width)
            assert len(found) == len(wanted), (
                f"{name} has {len(found)} numbers, expected {len(wanted)}\n"
                f"hint: a set: each run once; the words are {text.lower().split()[:8]}"
            )
            assert_equal(
                found, wanted, name=name,
                hint="sorted; h = mix64(h ^ value) for each word in order; never Python's hash",
            )  # fmt: skip


def check_pairs(pairs: Any, count: int, name: str = "candidates") -> set[tuple[int, int]]:
    """Pairs as an (n, 2) array of i < j below count, each once; as a set."""
    assert isinstance(pairs, np.ndarray) and pairs.dtype == np.int64 and pairs.ndim == 2, (
        f"{name} are a two-dimensional array of int64"
    )
    assert pairs.shape[1] == 2, f"{name} have shape {pairs.shape}, expected (pairs, 2)"
    assert np.all(pairs[:, 0] < pairs[:, 1]), f"{name}: i < j in each pair (i, j)"
    assert pairs.size == 0 or (pairs.min() >= 0 and pairs.max() < count), f"{name}: no such index"
    found = {(int(i), int(j)) for i, j in pairs}
    assert len(found) == len(pairs), f"{name}: {len(pairs) - len(found)} pairs are there twice"
    return found


def check_deduplication(got: dict[str, Any], texts: Sequence[str], threshold: float) -> None:
    """`deduplicate` found exactly the pairs that it may report, and what follows from them."""
    count = len(texts)
    exact = exact_pairs(texts, threshold)
    proposed = check_pairs(got["candidates"], count)
    similar = check_pairs(got["duplicates"], count, "duplicates")
    for pair in sorted(similar):
        assert pair in exact, (
            f"documents {pair} are called duplicates, but their similarity is below {threshold}\n"
            "hint: agreeing in a band only proposes a pair: compare its sets of shingles"
        )
    missed = sorted((proposed & exact.keys()) - similar)
    assert not missed, f"{missed[0]} is a candidate of similarity {exact[missed[0]]:.2f}, not found"
    for pair, value in zip(got["duplicates"].tolist(), got["similarity"], strict=True):
        assert abs(value - exact[tuple(pair)]) < 1e-12, f"similarity of {pair} is {value}"
    wanted = components(count, exact)
    assert_equal(
        got["cluster"], wanted, name="cluster",
        hint="all that is linked, directly or over others, belongs to the first of them",
    )  # fmt: skip
    assert_equal(got["keep"], np.flatnonzero(wanted == np.arange(count)), name="keep")


# --- packing


def documents_of(lengths: Sequence[int], start: int = 1) -> list[np.ndarray]:
    """Documents whose tokens are all different: they count on from `start`."""
    ends = np.cumsum([start, *lengths])
    return [np.arange(a, b, dtype=np.int64) for a, b in zip(ends, ends[1:], strict=False)]


def natural_lengths(rng: np.random.Generator, count: int, mean: float) -> np.ndarray:
    """Lengths as documents have them: log-normal, most short, some many times the mean."""
    return np.maximum(rng.lognormal(np.log(mean) - 0.5, 1.0, count).astype(int), 1)


def pieces_of(document: np.ndarray, row_length: int) -> list[np.ndarray]:
    """What a document is split into: whole rows and a rest."""
    return [document[i : i + row_length] for i in range(0, len(document), row_length)]


class Ledger:
    """Counts what was given to a packer and what came out of it, token by token."""

    def __init__(self, row_length: int) -> None:
        self.row_length = row_length
        self.waiting: dict[int, np.ndarray] = {}  # first token -> piece
        self.rows = 0
        self.tokens = 0

    def give(self, documents: Sequence[np.ndarray]) -> None:
        """These documents go in."""
        for document in documents:
            for piece in pieces_of(document, self.row_length):
                self.waiting[int(piece[0])] = piece

    def take(self, rows: dict[str, Any]) -> None:
        """These rows came out: each piece is one that waits, and they fit."""
        for row in drivers.unflat(rows["tokens"], rows["lengths"], rows["counts"]):
            length = sum(map(len, row))
            assert 0 < length <= self.row_length, (
                f"a row of {length} tokens where 1 to {self.row_length} fit"
            )
            for piece in row:
                assert len(piece), "an empty document is in a row: it should vanish"
                wanted = self.waiting.pop(int(piece[0]), None)
                assert wanted is not None, (
                    f"a row holds a piece that starts with token {piece[0]}, which is no start of "
                    "a document that waits\nhint: rows hold copies of the tokens, whole documents "
                    "(pieces of row_length and a rest, if longer), each once"
                )
                assert_equal(piece, wanted, name="a document's tokens in a row")
            self.rows += 1
            self.tokens += length

    @property
    def efficiency(self) -> float:
        """Tokens over places."""
        return self.tokens / (self.rows * self.row_length)


def pack(
    student: Any, documents: Sequence[np.ndarray], row_length: int, window: int, chunk: int
) -> Ledger:
    """Feed a packer `chunk` documents at a time and check all that comes out."""
    ledger = Ledger(row_length)
    session = student.session(drivers.packer, row_length=row_length, window=window)
    for start in range(0, len(documents), chunk):
        some = documents[start : start + chunk]
        ledger.give(some)
        tokens = np.concatenate(some)
        ledger.take(session.call("add", tokens=tokens, lengths=[len(d) for d in some]))
        assert len(ledger.waiting) <= window, (
            f"{len(ledger.waiting)} pieces wait after add, where the window is {window}\n"
            "hint: when more than `window` wait, rows must leave, full or not"
        )
    ledger.take(session.call("flush"))
    shortest = min(map(len, ledger.waiting.values()), default=0)
    assert not ledger.waiting, f"{len(ledger.waiting)} pieces were lost, one of length {shortest}"
    return ledger


def fewest_rows(lengths: Sequence[int], row_length: int) -> int:
    """The least number of rows, by trying all ways to fill them. For a dozen documents."""
    order = sorted(lengths, reverse=True)
    best = len(order)

    def place(index: int, rooms: list[int]) -> None:
        nonlocal best
        if len(rooms) >= best:
            return
        if index == len(order):
            best = len(rooms)
            return
        for room in {r for r in rooms if r >= order[index]}:
            rest = list(rooms)
            rest[rest.index(room)] -= order[index]
            place(index + 1, rest)
        place(index + 1, [*rooms, row_length - order[index]])

    place(0, [])
    return best


def expected_batch(
    rows: Sequence[Sequence[np.ndarray]], row_length: int, pad_id: int
) -> dict[str, np.ndarray]:
    """A batch, position by position."""
    names = {"ids": pad_id, "targets": -100, "documents": -1, "positions": 0}
    batch = {
        name: np.full((len(rows), row_length), value, np.int64) for name, value in names.items()
    }
    for r in range(len(rows)):
        t = number = 0
        for document in rows[r]:
            for place, token in enumerate(document):
                batch["ids"][r, t] = token
                if place + 1 < len(document):
                    batch["targets"][r, t] = document[place + 1]
                batch["documents"][r, t] = number
                batch["positions"][r, t] = place
                t += 1
            number += len(document) > 0
    return batch


def check_batch(
    student: Any, rows: Sequence[Sequence[np.ndarray]], row_length: int, pad_id: int
) -> None:
    """`collate` of rows, each a list of documents."""
    rows = [[np.asarray(d, np.int64) for d in row] for row in rows]
    got = student.run(drivers.collated, **drivers.flat(rows), row_length=row_length, pad_id=pad_id)
    hints = {
        "ids": "documents one after another, then pad_id",
        "targets": "the next token, but -100 at each document's last token and in the padding: "
        "a document must not be trained to predict its neighbour",
        "documents": "0, 1, 2, … within the row, -1 in the padding",
        "positions": "each document starts at 0 again",
    }
    for name, wanted in expected_batch(rows, row_length, pad_id).items():
        assert getattr(got[name], "dtype", None) == np.int64, f"{name} must be an array of int64"
        assert_equal(got[name], wanted, name=name, hint=hints[name])


# --- the stream


def corpus_of(
    samples: Sequence[Sequence[np.ndarray]], vocab_size: int = 1 << 16, shard_bytes: int = 1 << 12
) -> dict[str, Any]:
    """A corpus as the drivers take it."""
    return {**drivers.flat(samples), "vocab_size": vocab_size, "shard_bytes": shard_bytes}


def random_samples(
    rng: np.random.Generator, count: int, most: int = 1, vocab_size: int = 1 << 16
) -> list[list[np.ndarray]]:
    """Samples of up to `most` documents, some documents empty; a sample starts with its number."""
    samples = []
    for number in range(count):
        extra = int(rng.integers(0, most))
        lengths = [int(rng.integers(2, 30)), *rng.integers(0, 12, extra).tolist()]
        sample = [rng.integers(0, vocab_size, n) for n in lengths]
        sample[0][0], sample[0][1] = number % 50_000, vocab_size - 1
        samples.append(sample)
    return samples


def numbers(batch: dict[str, Any]) -> list[int]:
    """Which samples of `random_samples` a batch holds, each checked to be whole by `same`."""
    samples = drivers.unflat(batch["tokens"], batch["lengths"], batch["counts"])
    return [int(sample[0][0]) for sample in samples]


def check_batch_samples(batch: dict[str, Any], samples: Sequence[Sequence[np.ndarray]]) -> None:
    """Every sample of the batch is the corpus's, token for token."""
    found = drivers.unflat(batch["tokens"], batch["lengths"], batch["counts"])
    for sample in found:
        assert sample and len(sample[0]), "a sample without its first document"
        wanted = samples[int(sample[0][0]) % len(samples)]
        check_sample(sample, wanted, "a sample of the stream")


def check_sample(found: Sequence[np.ndarray], wanted: Sequence[np.ndarray], name: str) -> None:
    """The documents of one sample."""
    assert [len(d) for d in found] == [len(d) for d in wanted], (
        f"{name} has documents of lengths {[len(d) for d in found]}, "
        f"expected {[len(d) for d in wanted]}"
    )
    for place, (one, other) in enumerate(zip(found, wanted, strict=True)):
        assert_equal(one, other, name=f"document {place} of {name}")


def global_steps(
    steps: Sequence[Sequence[dict[str, Any]]], samples: Sequence[Sequence[np.ndarray]]
) -> list[list[int]]:
    """For each step the numbers of the samples that its ranks got, rank after rank, all whole."""
    found = []
    for ranks in steps:
        for batch in ranks:
            check_batch_samples(batch, samples)
        found.append([sample for batch in ranks for sample in numbers(batch)])
    return found
