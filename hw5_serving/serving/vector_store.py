"""Task 5.9: a durable store of embeddings: segments that never change, and a manifest of them."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.inverted_index import build_lists, nearest_first, probe
from serving.product_quantization import ProductQuantizer, kmeans, quantize_int8
from serving.storage import Storage, StoreError, checksum, pack_arrays, to_json, view_arrays

MANIFEST = re.compile(r"version-(\d{12})\.manifest")
TRAINING_ROWS = 4096


@dataclass(frozen=True)
class StoreConfig:
    """Given. lists: of an indexed segment; pieces: bytes of a product code; exact: how vectors for
    the last comparison are kept, "float32" or "int8"; index_from: rows that make an index worth it."""

    dims: int
    lists: int = 64
    pieces: int = 8
    exact: str = "float32"
    index_from: int = 1024
    seed: int = 0


@dataclass(frozen=True)
class Segment:
    """Given: a file's arrays, and which of its rows are alive.

    arrays: "ids" (n,) int64; "vectors" (n, dims) float32, or "codes8" int8 and "scales" float32; in
    an indexed segment also "centroids", "offsets", "codebooks", "codes", with rows list by list.
    """

    name: str
    arrays: dict[str, np.ndarray]
    alive: np.ndarray

    def exact(self, rows: np.ndarray) -> np.ndarray:
        """(rows, dims) float32 of these rows only."""
        if "vectors" in self.arrays:
            return self.arrays["vectors"][rows]
        return self.arrays["codes8"][rows].astype(np.float32) * self.arrays["scales"][rows, None]


def manifest_name(version: int) -> str:
    """Given: the file that makes a version one: it names every file of it, with its checksum."""
    return f"version-{version:012d}.manifest"


def file_name(kind: str, data: bytes) -> str:
    """Given: a segment's or a deletion file's name holds its checksum: other content, other file."""
    return f"{kind}-{checksum(data)[:16]}"


class Snapshot:
    """The store as it was at one moment; what is deleted or compacted later does not change it."""

    def __init__(self, config: StoreConfig, version: int, segments: tuple[Segment, ...]) -> None:
        self.config, self.version, self.segments = config, version, segments

    def __len__(self) -> int:
        """Living vectors."""
        return sum(int(segment.alive.sum()) for segment in self.segments)

    def search(
        self, queries: np.ndarray, k: int, probes: int = 8, candidates: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """((queries, k) int64 ids, (queries, k) float32 squared distances), nearest first.

        Of an indexed segment the nearest `probes` lists are read, of others everything. candidates:
        so many living rows of each indexed segment, the nearest by product codes, are compared
        exactly; 0: all of the lists are. Equal distances: the smaller id first. Where
        fewer than k are found: id −1 and distance inf. Raises ValueError for other dims or k < 1.
        """
        raise NotImplementedError("task 5.9: Snapshot.search")


def _scan(
    segment: Segment, query: np.ndarray, probes: int, candidates: int
) -> tuple[np.ndarray, np.ndarray]:
    """Ids and exact distances of what a query finds in one segment. Use it or leave it."""
    raise NotImplementedError("task 5.9: _scan")


class VectorStore:
    """Appends, deletions and compactions, each safe when its call returns, whatever crashes after.

    A change makes new files, then a new version by its manifest; readers hold snapshots. `refused`:
    what was wrong with newer versions that were not loaded, each text with the file's name.
    """

    def __init__(self, storage: Storage, config: StoreConfig) -> None:
        """Given. A store is made by `open`."""
        self.storage = storage
        self.refused: list[str] = []
        self._current = Snapshot(config, 0, ())
        self._writing = threading.Lock()

    @property
    def config(self) -> StoreConfig:
        """Given."""
        return self._current.config

    @classmethod
    def open(cls, storage: Storage, config: StoreConfig) -> VectorStore:
        """The newest version that is whole, or an empty store of `config` where there was none.

        Every file of it is checked: size and checksum. Where a version is not whole, its damage goes
        into `refused` and the version before is tried; where none is, StoreError with the newest's
        damage. A stored config counts before `config`. Files are mapped, not read.
        """
        raise NotImplementedError("task 5.9: VectorStore.open")

    def snapshot(self) -> Snapshot:
        """The store as it is now."""
        raise NotImplementedError("task 5.9: VectorStore.snapshot")

    def append(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """Add vectors as one new segment, indexed if it has `index_from` rows. None at all: nothing
        happens. Raises ValueError, before anything is written, for an id that is alive already or
        is there twice, a negative id, other shapes, or values that are not finite."""
        raise NotImplementedError("task 5.9: VectorStore.append")

    def delete(self, ids: np.ndarray) -> int:
        """Mark the vectors with these ids as deleted; how many were alive. None: nothing is written."""
        raise NotImplementedError("task 5.9: VectorStore.delete")

    def compact(self) -> None:
        """All living vectors in one segment (none where nothing lives), indexed anew if there are
        `index_from`; int8 codes are kept as they are, not rounded a second time."""
        raise NotImplementedError("task 5.9: VectorStore.compact")

    def _write_segment(self, arrays: dict[str, np.ndarray]) -> Segment:
        """Write a segment so that it survives a crash, and map it. Use it or leave it."""
        raise NotImplementedError("task 5.9: VectorStore._write_segment")

    def _write_safely(self, name: str, data: bytes) -> None:
        """A file with its content in its name is not written over with the same. Use it or leave it."""
        raise NotImplementedError("task 5.9: VectorStore._write_safely")

    def _commit(self, segments: tuple[Segment, ...]) -> None:
        """Make these segments the next version, then let go what neither it nor the version it was
        made from names: manifests, names synced, then other files named version-, segment-,
        deleted-. Files with other names are not touched. Segments in which nothing lives are left
        out: what was deleted and comes again would be a file of the same name. Use it or leave it."""
        raise NotImplementedError("task 5.9: VectorStore._commit")


def _versions(storage: Storage) -> list[int]:
    """Versions that have a manifest, the newest first. Use it or leave it."""
    raise NotImplementedError("task 5.9: _versions")


def _read_manifest(storage: Storage, version: int) -> dict[str, Any]:
    """A manifest whose checksum and version are right; StoreError names it. Use it or leave it."""
    raise NotImplementedError("task 5.9: _read_manifest")


def _load(storage: Storage, version: int) -> Snapshot:
    """A whole version, every file checked. Raises StoreError. Use it or leave it."""
    raise NotImplementedError("task 5.9: _load")


def _living_ids(snapshot: Snapshot) -> np.ndarray:
    """Use it or leave it."""
    raise NotImplementedError("task 5.9: _living_ids")


def _exact_arrays(config: StoreConfig, vectors: np.ndarray) -> dict[str, np.ndarray]:
    """The vectors as the config keeps them. Use it or leave it."""
    raise NotImplementedError("task 5.9: _exact_arrays")


def _segment_arrays(
    config: StoreConfig, ids: np.ndarray, exact: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """A segment's arrays, with an index if there are enough rows. Use it or leave it."""
    raise NotImplementedError("task 5.9: _segment_arrays")
