"""A corpus on disk: what its files are, and how they are written. Given.

A corpus is a folder of shards and a manifest. A shard is three files of little-endian numbers:

    shard-00000.tokens     uint16, or uint32 for a vocabulary above 65,536; document after document
    shard-00000.documents  int64: where each document starts in .tokens, then where the last ends
    shard-00000.samples    int64: where each sample starts in .documents, then where the last ends

A sample is what a training step takes one or several of: one document, or where documents were
packed, a row of them. So documents k of sample i are those from samples[i] to samples[i + 1], and
document d is tokens[documents[d] : documents[d + 1]]. `manifest.json` says how many of each there
are, how large each file is and what its checksum is. It is written last: a folder without one was
never finished.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

VERSION = 1
KINDS = ("tokens", "documents", "samples")


class CorpusError(ValueError):
    """A corpus on disk is not what its manifest says; the message names the file."""


@dataclass(frozen=True)
class FileEntry:
    """One file of a shard: its name in the folder, its size in bytes, its CRC-32."""

    name: str
    size: int
    checksum: int


@dataclass(frozen=True)
class Shard:
    """One shard: how many samples, documents and tokens it has, and its files by kind."""

    samples: int
    documents: int
    tokens: int
    files: dict[str, FileEntry]


@dataclass(frozen=True)
class Manifest:
    """What a corpus is. `row_length`: what samples were packed for, or None if they were not."""

    vocab_size: int
    dtype: str
    row_length: int | None = None
    shards: list[Shard] = field(default_factory=list)

    @property
    def samples(self) -> int:
        """In all shards."""
        return sum(shard.samples for shard in self.shards)

    @property
    def documents(self) -> int:
        """In all shards."""
        return sum(shard.documents for shard in self.shards)

    @property
    def tokens(self) -> int:
        """In all shards."""
        return sum(shard.tokens for shard in self.shards)

    @property
    def fingerprint(self) -> int:
        """A number that another corpus almost surely does not have."""
        sums = [shard.files[kind].checksum for shard in self.shards for kind in KINDS]
        return zlib.crc32(np.array([self.samples, *sums], "<i8").tobytes())


def read_manifest(folder: str | os.PathLike[str]) -> Manifest:
    """The manifest of a corpus. Raises CorpusError if there is none or it can't be understood."""
    path = Path(folder) / "manifest.json"
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if data.pop("version") != VERSION:
            raise CorpusError(f"{path} is of another version of this format")
        shards = [
            Shard(**{**shard, "files": {k: FileEntry(**f) for k, f in shard["files"].items()}})
            for shard in data.pop("shards")
        ]
        return Manifest(shards=shards, **data)
    except FileNotFoundError:
        raise CorpusError(f"{path} does not exist: the corpus was not written to its end") from None
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise CorpusError(f"{path} is damaged: {error!r}") from None


class CorpusWriter:
    """Writes a corpus of any size, holding one sample at a time.

    with CorpusWriter(folder, vocab_size=49152) as writer:
        writer.add([document])               # a sample of one document
        writer.add([first, second, third])   # a packed row

    If the block ends by an exception there is no manifest, and nobody mistakes the rest for a
    corpus. Raises CorpusError if the folder holds a corpus already. durable: wait until the files
    are on the disk, so that a corpus with a manifest survives a power cut.
    """

    def __init__(
        self, folder: str | os.PathLike[str], vocab_size: int, row_length: int | None = None,
        shard_bytes: int = 64 << 20, durable: bool = True,
    ) -> None:  # fmt: skip
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / "manifest.json").exists():
            raise CorpusError(f"{self.folder} holds a corpus already")
        dtype = "<u2" if vocab_size <= 1 << 16 else "<u4"
        self.manifest = Manifest(vocab_size, dtype, row_length)
        self.shard_bytes, self.durable = shard_bytes, durable
        self._files: dict[str, _File] = {}
        self._counts = dict.fromkeys(KINDS, 0)

    def add(self, sample: Sequence[Sequence[int] | np.ndarray]) -> None:
        """Append a sample, a list of documents, each a sequence of token ids; none may be lost.

        Raises ValueError for an id that the vocabulary does not have: as uint16, 65,536 would
        silently become 0.
        """
        if not self._files:
            self._open()
        for document in sample:
            ids = np.asarray(document, dtype=np.int64)
            if ids.size and not (0 <= ids.min() and ids.max() < self.manifest.vocab_size):
                wrong = ids[(ids < 0) | (ids >= self.manifest.vocab_size)][0]
                size = self.manifest.vocab_size
                raise ValueError(f"token {wrong} is not in a vocabulary of {size}")
            self._files["tokens"].write(ids.astype(self.manifest.dtype))
            self._counts["tokens"] += ids.size
            self._counts["documents"] += 1
            self._files["documents"].write(np.array([self._counts["tokens"]], "<i8"))
        self._counts["samples"] += 1
        self._files["samples"].write(np.array([self._counts["documents"]], "<i8"))
        if self._files["tokens"].size >= self.shard_bytes:
            self._close()

    def finish(self) -> Manifest:
        """Close the last shard and write the manifest, whole or not at all."""
        if self._files:
            self._close()
        text = json.dumps({"version": VERSION, **asdict(self.manifest)}, indent=1)
        temporary = self.folder / ".manifest.json.part"
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            if self.durable:
                os.fsync(file.fileno())
        os.replace(temporary, self.folder / "manifest.json")
        return self.manifest

    def __enter__(self) -> CorpusWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.finish()
        for file in self._files.values():
            file.close(durable=False)

    def _open(self) -> None:
        number = len(self.manifest.shards)
        self._files = {k: _File(self.folder / f"shard-{number:05d}.{k}") for k in KINDS}
        self._counts = dict.fromkeys(KINDS, 0)
        for kind in ("documents", "samples"):
            self._files[kind].write(np.zeros(1, "<i8"))

    def _close(self) -> None:
        entries = {kind: file.close(self.durable) for kind, file in self._files.items()}
        self.manifest.shards.append(Shard(**self._counts, files=entries))
        self._files = {}


class _File:
    """A file being written, with its size and checksum so far."""

    def __init__(self, path: Path) -> None:
        self.name, self.size, self.checksum = path.name, 0, 0
        self._file: BinaryIO = open(path, "wb", buffering=1 << 20)

    def write(self, array: np.ndarray) -> None:
        """Append an array's bytes."""
        data = array.tobytes()
        self._file.write(data)
        self.size += len(data)
        self.checksum = zlib.crc32(data, self.checksum)

    def close(self, durable: bool) -> FileEntry:
        """Close it, on the disk if `durable`; the entry for the manifest."""
        self._file.flush()
        if durable:
            os.fsync(self._file.fileno())
        self._file.close()
        return FileEntry(self.name, self.size, self.checksum)
