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
        # BEGIN SOLUTION 5.9
        queries = np.asarray(queries, np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.config.dims or k < 1:
            raise ValueError(f"queries {queries.shape}, k={k}, dims={self.config.dims}")
        ids = np.full((len(queries), k), -1, np.int64)
        distances = np.full((len(queries), k), np.inf, np.float32)
        for place, query in enumerate(queries):
            found = [_scan(s, query, probes, candidates) for s in self.segments]
            if not found:
                continue
            all_ids = np.concatenate([f[0] for f in found])
            all_distances = np.concatenate([f[1] for f in found])
            best = nearest_first(all_distances, all_ids, k)
            ids[place, : len(best)] = all_ids[best]
            distances[place, : len(best)] = all_distances[best]
        return ids, distances
        # END SOLUTION


def _scan(
    segment: Segment, query: np.ndarray, probes: int, candidates: int
) -> tuple[np.ndarray, np.ndarray]:
    """Ids and exact distances of what a query finds in one segment. Use it or leave it."""
    # BEGIN SOLUTION 5.9
    arrays = segment.arrays
    rows = np.flatnonzero(segment.alive)
    if "centroids" in arrays:
        chosen = probe(query[None], arrays["centroids"], probes)[0]
        bounds = arrays["offsets"]
        rows = np.concatenate([np.arange(bounds[c], bounds[c + 1]) for c in chosen])
        rows = rows[segment.alive[rows]]
        if candidates:
            by_codes = ProductQuantizer(arrays["codebooks"]).distances(query, arrays["codes"][rows])
            rows = rows[nearest_first(by_codes, arrays["ids"][rows], candidates)]
    difference = segment.exact(rows) - query
    return arrays["ids"][rows], (difference * difference).sum(1)
    # END SOLUTION


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
        # BEGIN SOLUTION 5.9
        store = cls(storage, config)
        for version in _versions(storage):
            try:
                store._current = _load(storage, version)
                return store
            except StoreError as error:
                store.refused.append(str(error))
        if store.refused:
            raise StoreError(store.refused[0])
        return store
        # END SOLUTION

    def snapshot(self) -> Snapshot:
        """The store as it is now."""
        # BEGIN SOLUTION 5.9
        return self._current
        # END SOLUTION

    def append(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """Add vectors as one new segment, indexed if it has `index_from` rows. None at all: nothing
        happens. Raises ValueError, before anything is written, for an id that is alive already or
        is there twice, a negative id, other shapes, or values that are not finite."""
        # BEGIN SOLUTION 5.9
        ids, vectors = np.asarray(ids, np.int64), np.asarray(vectors, np.float32)
        if ids.ndim != 1 or vectors.shape != (len(ids), self.config.dims):
            raise ValueError(f"ids {ids.shape}, vectors {vectors.shape}, dims={self.config.dims}")
        if not np.isfinite(vectors).all() or (ids < 0).any() or len(np.unique(ids)) < len(ids):
            raise ValueError("vectors must be finite, ids not negative, each there once")
        with self._writing:
            there = np.isin(ids, _living_ids(self._current))
            if there.any():
                raise ValueError(f"id {ids[there][0]} is in the store already")
            if len(ids):
                arrays = _segment_arrays(self.config, ids, _exact_arrays(self.config, vectors))
                segment = self._write_segment(arrays)
                self._commit((*self._current.segments, segment))
        # END SOLUTION

    def delete(self, ids: np.ndarray) -> int:
        """Mark the vectors with these ids as deleted; how many were alive. None: nothing is written."""
        # BEGIN SOLUTION 5.9
        with self._writing:
            marked, count = [], 0
            for segment in self._current.segments:
                gone = segment.alive & np.isin(segment.arrays["ids"], ids)
                count += int(gone.sum())
                marked.append(Segment(segment.name, segment.arrays, segment.alive & ~gone))
            if count:
                self._commit(tuple(marked))
            return count
        # END SOLUTION

    def compact(self) -> None:
        """All living vectors in one segment (none where nothing lives), indexed anew if there are
        `index_from`; int8 codes are kept as they are, not rounded a second time."""
        # BEGIN SOLUTION 5.9
        with self._writing:
            parts: dict[str, list[np.ndarray]] = {}
            for segment in self._current.segments:
                for name in ("ids", "vectors", "codes8", "scales"):
                    if name in segment.arrays:
                        parts.setdefault(name, []).append(segment.arrays[name][segment.alive])
            exact = {name: np.concatenate(found) for name, found in parts.items()}
            ids = exact.pop("ids", np.empty(0, np.int64))
            segments: tuple[Segment, ...] = ()
            if len(ids):
                segments = (self._write_segment(_segment_arrays(self.config, ids, exact)),)
            self._commit(segments)
        # END SOLUTION

    def _write_segment(self, arrays: dict[str, np.ndarray]) -> Segment:
        """Write a segment so that it survives a crash, and map it. Use it or leave it."""
        # BEGIN SOLUTION 5.9
        data = pack_arrays(arrays)
        name = file_name("segment", data)
        self._write_safely(name, data)
        mapped = view_arrays(self.storage.map(name))
        return Segment(name, mapped, np.ones(len(mapped["ids"]), bool))
        # END SOLUTION

    def _write_safely(self, name: str, data: bytes) -> None:
        """A file with its content in its name is not written over with the same. Use it or leave it."""
        # BEGIN SOLUTION 5.9
        if name not in self.storage.names() or self.storage.read(name) != data:
            self.storage.write(name, data)
        self.storage.sync(name)
        self.storage.sync_names()
        # END SOLUTION

    def _commit(self, segments: tuple[Segment, ...]) -> None:
        """Make these segments the next version, then let go what neither it nor the version it was
        made from names: manifests, names synced, then other files named version-, segment-,
        deleted-. Files with other names are not touched. Segments in which nothing lives are left
        out: what was deleted and comes again would be a file of the same name. Use it or leave it."""
        # BEGIN SOLUTION 5.9
        storage, before = self.storage, self._current.version
        segments = tuple(segment for segment in segments if segment.alive.any())
        version = max([before, *_versions(storage)]) + 1
        dead = {s.name: np.flatnonzero(~s.alive) for s in segments if not s.alive.all()}
        names = [s.name for s in segments]
        if dead:
            data = pack_arrays(dead)
            names.append(file_name("deleted", data))
            self._write_safely(names[-1], data)
        files = []
        for file in names:
            data = storage.map(file)
            files.append({"file": file, "bytes": len(data), "sha256": checksum(data)})
        body = {"version": version, "config": vars(self.config), "files": files}
        manifest = manifest_name(version)
        storage.write(f"{manifest}.partial", to_json({**body, "sha256": checksum(to_json(body))}))
        storage.sync(f"{manifest}.partial")
        storage.rename(f"{manifest}.partial", manifest)
        storage.sync_names()
        self._current = Snapshot(self.config, version, segments)
        kept = set(names)
        if before:
            kept |= {entry["file"] for entry in _read_manifest(storage, before)["files"]}
        for old in set(_versions(storage)) - {version, before}:
            storage.remove(manifest_name(old))
        storage.sync_names()
        kept |= {manifest, manifest_name(before)}
        for name in set(storage.names()) - kept:
            if name.startswith(("version-", "segment-", "deleted-")):
                storage.remove(name)
        storage.sync_names()
        # END SOLUTION


def _versions(storage: Storage) -> list[int]:
    """Versions that have a manifest, the newest first. Use it or leave it."""
    # BEGIN SOLUTION 5.9
    found = [MANIFEST.fullmatch(name) for name in storage.names()]
    return sorted((int(match[1]) for match in found if match), reverse=True)
    # END SOLUTION


def _read_manifest(storage: Storage, version: int) -> dict[str, Any]:
    """A manifest whose checksum and version are right; StoreError names it. Use it or leave it."""
    # BEGIN SOLUTION 5.9
    name = manifest_name(version)
    try:
        body = json.loads(storage.read(name))
        written = body.pop("sha256")
    except (ValueError, KeyError, AttributeError, TypeError, FileNotFoundError):
        raise StoreError(f"{name} is damaged: it can't be read") from None
    if written != checksum(to_json(body)) or body["version"] != version:
        raise StoreError(f"{name} is damaged: its checksum or its version is another")
    return body
    # END SOLUTION


def _load(storage: Storage, version: int) -> Snapshot:
    """A whole version, every file checked. Raises StoreError. Use it or leave it."""
    # BEGIN SOLUTION 5.9
    body = _read_manifest(storage, version)
    mapped: dict[str, dict[str, np.ndarray]] = {}
    dead: dict[str, np.ndarray] = {}
    for entry in body["files"]:
        name = entry["file"]
        try:
            data = storage.map(name)
        except FileNotFoundError:
            raise StoreError(f"{name} is missing") from None
        if len(data) != entry["bytes"]:
            raise StoreError(f"{name} has {len(data):,} bytes, {entry['bytes']:,} were written")
        if checksum(data) != entry["sha256"]:
            raise StoreError(f"{name} is damaged: its checksum is another")
        if name.startswith("deleted-"):
            dead = view_arrays(data)
        else:
            mapped[name] = view_arrays(data)
    segments = []
    for name, arrays in mapped.items():
        alive = np.ones(len(arrays["ids"]), bool)
        alive[dead.get(name, [])] = False
        segments.append(Segment(name, arrays, alive))
    return Snapshot(StoreConfig(**body["config"]), version, tuple(segments))
    # END SOLUTION


def _living_ids(snapshot: Snapshot) -> np.ndarray:
    """Use it or leave it."""
    # BEGIN SOLUTION 5.9
    parts = [s.arrays["ids"][s.alive] for s in snapshot.segments]
    return np.concatenate([np.empty(0, np.int64), *parts])
    # END SOLUTION


def _exact_arrays(config: StoreConfig, vectors: np.ndarray) -> dict[str, np.ndarray]:
    """The vectors as the config keeps them. Use it or leave it."""
    # BEGIN SOLUTION 5.9
    if config.exact == "float32":
        return {"vectors": vectors}
    codes, scales = quantize_int8(vectors)
    return {"codes8": codes, "scales": scales}
    # END SOLUTION


def _segment_arrays(
    config: StoreConfig, ids: np.ndarray, exact: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """A segment's arrays, with an index if there are enough rows. Use it or leave it."""
    # BEGIN SOLUTION 5.9
    if len(ids) < config.index_from:
        return {"ids": ids, **exact}
    everything = Segment("", {"ids": ids, **exact}, np.ones(len(ids), bool))
    vectors = everything.exact(np.arange(len(ids)))
    sample = np.random.default_rng(config.seed).permutation(len(ids))[:TRAINING_ROWS]
    centroids = kmeans(vectors[sample], min(config.lists, len(ids)), seed=config.seed)
    order, offsets = build_lists(vectors, centroids)
    quantizer = ProductQuantizer.train(vectors[sample], config.pieces, seed=config.seed)
    rows = {name: array[order] for name, array in {"ids": ids, **exact}.items()}
    return {**rows, "centroids": centroids, "offsets": offsets, "codebooks": quantizer.codebooks,
            "codes": quantizer.encode(vectors[order])}  # fmt: skip
    # END SOLUTION
