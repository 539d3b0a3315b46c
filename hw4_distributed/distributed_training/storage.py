"""What a disk promises, and no more: the storage that checkpoints are written through. Given.

After a crash, a file that was written and not synced may hold anything or nothing, and a name that
was made or changed may be there or not until its folder was synced. `FileStorage` is the real one;
the tests have one that crashes at every operation and keeps only what was synced.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path


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
        """The file's content. Raises FileNotFoundError."""

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
