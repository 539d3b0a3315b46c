"""Drivers of task 3.2: deduplication, packing, and the stream over a corpus on disk.

Lists of arrays travel flat: samples are tokens, the lengths of their documents, and how many
documents each sample has.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def flat(samples: Sequence[Sequence[np.ndarray]]) -> dict[str, Any]:
    """Samples, each a list of arrays, in the form in which they travel."""
    documents = [np.asarray(document) for sample in samples for document in sample]
    return {
        "tokens": np.concatenate([np.zeros(0, np.int64), *(d.astype(np.int64) for d in documents)]),
        "lengths": [len(document) for document in documents],
        "counts": [len(sample) for sample in samples],
    }


def unflat(tokens: np.ndarray, lengths: list, counts: list) -> list[list[np.ndarray]]:
    """Samples from the form in which they travel."""
    documents = iter(np.split(tokens, np.cumsum(lengths, dtype=np.int64)))
    return [[next(documents) for _ in range(count)] for count in counts]


# --- deduplication


def shingle_sets(texts: list, width: int) -> list[np.ndarray]:
    """The shingles of each text, made without Python's hash of a string."""
    from language_model import dedup

    return [dedup.shingles(text, width) for text in texts]


def jaccards(pairs: list) -> list[float]:
    """The similarity of each pair of sets."""
    from language_model import dedup

    return [float(dedup.jaccard(a, b)) for a, b in pairs]


def signatures(sets: list, permutations: int, seeds: list) -> list[np.ndarray]:
    """MinHash signatures of the sets, for each seed."""
    from language_model import dedup

    return [dedup.minhash(sets, permutations, seed) for seed in seeds]


def random_sets(count: int, size: int, seed: int) -> list[np.ndarray]:
    """`count` sets of `size` random numbers."""
    rng = np.random.default_rng(seed)
    return [np.unique(rng.integers(2**64, size=size, dtype=np.uint64)) for _ in range(count)]


def signatures_of_many(count: int, size: int, seed: int, permutations: int) -> np.ndarray:
    """Signatures of `random_sets`, which are made here: (count, permutations)."""
    from language_model import dedup

    return dedup.minhash(random_sets(count, size, seed), permutations, 1)


def bands(cases: list) -> list[dict[str, Any]]:
    """choose_bands for (permutations, threshold, recall), and the curve it follows."""
    from language_model import dedup

    results = []
    for permutations, threshold, recall in cases:
        try:
            count, rows = dedup.choose_bands(permutations, threshold, recall)
        except ValueError:
            results.append({"raised": True})
            continue
        grid = np.linspace(0, 1, 11)
        curve = dedup.collision_probability(grid, count, rows)
        results.append({"raised": False, "bands": int(count), "rows": int(rows), "curve": curve})
    return results


def banded(cases: list) -> list[np.ndarray]:
    """candidate_pairs of (signatures, bands, rows)."""
    from language_model import dedup

    return [dedup.candidate_pairs(matrix, count, rows) for matrix, count, rows in cases]


def candidates(
    texts: list, permutations: int, threshold: float, recall: float, seed: int
) -> np.ndarray:
    """The pairs that shingles, signatures and bands propose; nothing is confirmed."""
    from language_model import dedup

    sets = [dedup.shingles(text) for text in texts]
    matrix = dedup.minhash(sets, permutations, seed)
    return dedup.candidate_pairs(matrix, *dedup.choose_bands(permutations, threshold, recall))


def clusters(cases: list) -> list[np.ndarray]:
    """The clusters of (count, pairs)."""
    from language_model import dedup

    return [dedup.clusters(count, pairs) for count, pairs in cases]


def deduplicated(texts: list, **options: Any) -> dict[str, Any]:
    """Everything that `deduplicate` says about the texts."""
    from language_model import dedup

    found = dedup.deduplicate(texts, **options)
    return {
        "cluster": found.cluster, "candidates": found.candidates, "duplicates": found.duplicates,
        "similarity": found.similarity, "keep": found.keep,
    }  # fmt: skip


# --- packing


class PackerSession:
    """A Packer that is fed chunk by chunk, through one array that is written over each time."""

    def __init__(self, row_length: int, window: int) -> None:
        from language_model import packing

        self.packer = packing.Packer(row_length, window)

    def add(self, tokens: np.ndarray, lengths: list) -> dict[str, Any]:
        """Documents one after another; the rows that came out."""
        rows: list[Any] = []
        buffer = np.zeros(max(lengths, default=0), tokens.dtype)
        for document in np.split(tokens, np.cumsum(lengths)[:-1]):
            buffer[: len(document)] = document
            rows += self.packer.add(buffer[: len(document)])
            buffer[:] = 0
        return flat(rows)

    def flush(self) -> dict[str, Any]:
        """The rows that were still waiting."""
        return flat(self.packer.flush())


def packer(row_length: int, window: int) -> PackerSession:
    """A session around a Packer."""
    return PackerSession(row_length, window)


def packer_refused(row_length: int, window: int) -> None:
    """A Packer that can't be."""
    from language_model import packing

    packing.Packer(row_length, window)


def collated(
    tokens: np.ndarray, lengths: list, counts: list, row_length: int, pad_id: int
) -> dict[str, np.ndarray]:
    """The arrays of a batch of rows."""
    from language_model import packing

    batch = packing.collate(unflat(tokens, lengths, counts), row_length, pad_id)
    return {
        "ids": batch.ids, "targets": batch.targets, "documents": batch.documents,
        "positions": batch.positions,
    }  # fmt: skip


# --- the stream


def permuted(cases: list) -> list[np.ndarray]:
    """Permutation(size, seed, epoch) at some positions, for each case; None asks for all."""
    from language_model import stream

    results = []
    for size, seed, epoch, positions in cases:
        order = stream.Permutation(size, seed, epoch)
        results.append(order(np.arange(size) if positions is None else positions))
    return results


def orders(size: int, seed: int, epochs: int) -> np.ndarray:
    """(epochs, size) the whole order of each epoch."""
    from language_model import stream

    return np.stack([stream.Permutation(size, seed, e)(np.arange(size)) for e in range(epochs)])


def _written(folder: str | Path, corpus: dict[str, Any]) -> Path:
    """The corpus on disk; keys: tokens, lengths, counts, vocab_size, shard_bytes."""
    from language_model.stream_format import CorpusWriter

    samples = unflat(corpus["tokens"], corpus["lengths"], corpus["counts"])
    made = {"vocab_size": corpus["vocab_size"], "shard_bytes": corpus["shard_bytes"]}
    with CorpusWriter(folder, **made, durable=False) as writer:
        for sample in samples:
            writer.add(sample)
    return Path(folder)


def read_samples(corpus: dict[str, Any], indices: list) -> dict[str, Any]:
    """Samples by index, and what else a corpus says of itself."""
    from language_model import stream

    with tempfile.TemporaryDirectory() as folder:
        opened = stream.Corpus(_written(folder, corpus))
        samples = [opened[index] for index in indices]
        kinds = sorted({str(np.asarray(d).dtype) for sample in samples for d in sample})
        names = list(opened.verify())
        return {**flat(samples), "kinds": kinds, "size": len(opened), "files": names}


def _steps(streams: list, count: int) -> list[list[dict[str, Any]]]:
    """The next `count` steps: for each, each rank's samples."""
    return [[flat(next(stream)) for stream in streams] for _ in range(count)]


def stepped(
    corpus: dict[str, Any], batch_size: int, seed: int, plan: list, indices: list | None = None
) -> dict[str, Any]:
    """Steps of the stream; plan: (ranks, steps) runs, each of fresh objects resumed as JSON.

    The state is taken from the last rank and given to all; the fresh objects' seeds differ.
    indices: (epoch, step, rank, ranks) of which the stream's indices are asked for as well.
    """
    from language_model import stream

    steps: list[Any] = []
    text, sizes = "", []
    with tempfile.TemporaryDirectory() as folder:
        opened = stream.Corpus(_written(folder, corpus))

        def made(number: int, rank: int = 0, ranks: int = 1) -> Any:
            return stream.TokenStream(opened, batch_size, seed + number, rank, ranks)

        for number, (ranks, count) in enumerate(plan):
            streams = [made(number, rank, ranks) for rank in range(ranks)]
            if text:
                for one in streams:
                    one.load_state_dict(json.loads(text))
            steps += _steps(streams, count)
            text = json.dumps(streams[-1].state_dict())
            sizes.append(len(text))
        asked = [made(0, r, n).indices(e, s) for e, s, r, n in indices or []]
        return {
            "steps": steps, "per_epoch": made(0).steps_per_epoch, "indices": asked,
            "state_sizes": sizes,
        }  # fmt: skip


def make_stream(corpus: dict[str, Any], **options: Any) -> None:
    """A stream that may be refused; `state` is loaded into it, `step` is asked of it."""
    from language_model import stream

    changes, step = options.pop("state", {}), options.pop("step", None)
    with tempfile.TemporaryDirectory() as folder:
        made = stream.TokenStream(stream.Corpus(_written(folder, corpus)), **options)
        if changes:
            made.load_state_dict({**made.state_dict(), **changes})
        if step is not None:
            made.indices(0, step)


def open_damaged(corpus: dict[str, Any], name: str, damage: str, verify: bool = False) -> None:
    """Write a corpus, damage one file, and open it (and verify it, if asked)."""
    from language_model import stream

    with tempfile.TemporaryDirectory() as folder:
        path = _written(folder, corpus) / name
        if damage == "missing":
            path.unlink()
        elif damage == "flipped":
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(bytes(data))
        else:
            with open(path, "r+b") as file:
                file.truncate(path.stat().st_size + int(damage))
        opened = stream.Corpus(folder)
        if verify:
            list(opened.verify())


DOCUMENT = 8192  # tokens of a large corpus's documents, 16 kB


def write_large(megabytes: int, shards: int) -> str:
    """A corpus of any size on disk, written fast: its folder, which lives as long as the worker.

    Document d is (d * 31 + position) % 65,521, so that whoever knows d knows its sum.
    """
    from language_model.stream_format import FileEntry, Manifest, Shard

    folder = Path(tempfile.mkdtemp())
    each = (megabytes << 20) // (2 * DOCUMENT * shards)
    manifest = Manifest(1 << 16, "<u2")
    pattern = (np.arange(65_521 + DOCUMENT) % 65_521).astype("<u2")
    for number in range(shards):
        first = np.arange(number * each, (number + 1) * each) * 31 % 65_521
        tokens = np.concatenate([pattern[start : start + DOCUMENT] for start in first])
        starts = np.arange(each + 1, dtype="<i8")
        files = {}
        for kind, array in (("tokens", tokens), ("documents", starts * DOCUMENT),
                            ("samples", starts)):  # fmt: skip
            name = f"shard-{number:05d}.{kind}"
            array.tofile(folder / name)
            files[kind] = FileEntry(name, array.nbytes, 0)
        manifest.shards.append(Shard(each, each, each * DOCUMENT, files))
    _write_manifest(folder, manifest)
    return str(folder)


def _write_manifest(folder: Path, manifest: Any) -> None:
    from dataclasses import asdict

    text = json.dumps({"version": 1, **asdict(manifest)})
    (folder / "manifest.json").write_text(text, encoding="utf-8")


def read_large(folder: str, batch_size: int, seed: int) -> np.ndarray:
    """One epoch of a large corpus, all of it read: (samples, 2) first token and sum of each."""
    from language_model import stream

    batches = stream.TokenStream(stream.Corpus(folder), batch_size, seed)
    seen = []
    for _ in range(batches.steps_per_epoch):
        for (tokens,) in next(batches):
            seen.append([int(tokens[0]), int(tokens.sum(dtype=np.int64))])
    return np.array(seen)


def remove_large(folder: str) -> None:
    """Make room on the worker's disk."""
    import shutil

    shutil.rmtree(folder)
