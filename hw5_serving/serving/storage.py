"""What a disk promises, and no more: the storage that the embedding store is written through. Given.

After a crash, a file that was written and not synced may hold anything or nothing, and a name that
was made or changed may be there or not until its folder was synced. Files can be mapped: read
where they lie, a page when it is touched. Beside it, how arrays lie in one file.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

ALIGNMENT = 64


class StoreError(Exception):
    """A file of the store is missing or damaged; the text names it."""


class Storage(ABC):
    """A flat folder of named files. Names have no slashes."""

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Make or replace the file's content; survives a crash only once the file is synced."""

    @abstractmethod
    def sync(self, name: str) -> None:
        """The file's content as it is now survives a crash, if its name does."""

    @abstractmethod
    def rename(self, old: str, new: str) -> None:
        """Give a file another name, atomically replacing one that has it; see `sync_names`."""

    @abstractmethod
    def sync_names(self) -> None:
        """The names as they are now survive a crash: what was made, renamed and removed."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """A copy of the file's content. Raises FileNotFoundError."""

    @abstractmethod
    def map(self, name: str) -> memoryview:
        """The file's content where it lies, read-only. Stays valid when the file is removed, not
        when it is written again. Raises FileNotFoundError."""

    @abstractmethod
    def names(self) -> list[str]:
        """The names of all files, sorted."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file; see `sync_names`. Raises FileNotFoundError."""


class FileStorage(Storage):
    """Files in a folder of the file system."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def _path(self, name: str) -> Path:
        if not name or "/" in name or name in (".", ".."):
            raise ValueError(f"{name!r} is not a file's name")
        return self.folder / name

    def write(self, name: str, data: bytes) -> None:
        self._path(name).write_bytes(data)

    def sync(self, name: str) -> None:
        self._sync(self._path(name))

    def rename(self, old: str, new: str) -> None:
        os.replace(self._path(old), self._path(new))

    def sync_names(self) -> None:
        self._sync(self.folder)

    def read(self, name: str) -> bytes:
        return self._path(name).read_bytes()

    def map(self, name: str) -> memoryview:
        with self._path(name).open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                return memoryview(b"")  # nothing can't be mapped
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir() if path.is_file())

    def remove(self, name: str) -> None:
        self._path(name).unlink()

    @staticmethod
    def _sync(path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def checksum(data: bytes | memoryview) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def to_json(value: Any) -> bytes:
    """JSON with sorted keys, so that equal values are equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def pack_arrays(arrays: Mapping[str, np.ndarray]) -> bytes:
    """One file of named arrays: 8 bytes of the table's length, the table as JSON, the arrays, each
    at a multiple of 64 bytes."""
    table, at = {}, 0
    for name, array in arrays.items():
        table[name] = {"dtype": array.dtype.str, "shape": list(array.shape), "at": at}
        at += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
    head = to_json(table)
    head += b" " * (-(len(head) + 8) % ALIGNMENT)
    parts = [len(head).to_bytes(8, "little"), head]
    for array in arrays.values():
        data = np.ascontiguousarray(array).tobytes()
        parts.append(data.ljust(-(-len(data) // ALIGNMENT) * ALIGNMENT, b"\0"))
    return b"".join(parts)


def view_arrays(data: memoryview) -> dict[str, np.ndarray]:
    """The arrays of such a file, as read-only views of it: nothing is copied."""
    length = int.from_bytes(data[:8], "little")
    table = json.loads(bytes(data[8 : 8 + length]))
    found = {}
    for name, entry in table.items():
        count = int(np.prod(entry["shape"], dtype=np.int64))
        start = 8 + length + entry["at"]
        flat = np.frombuffer(data, np.dtype(entry["dtype"]), count, start)
        found[name] = flat.reshape(entry["shape"])
    return found
