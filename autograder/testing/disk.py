"""A disk that crashes in the worst ways: what may be left of files after a record of operations.

Shared by every homework that has a `Storage`: a driver writes down what the student's code told it,
and the trusted side works out here what a crash after each operation leaves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

Files = dict[str, bytes]


@dataclass
class _File:
    """Content as it is, and as it was when last synced (None: never). dirty: written since then, if
    only with the same bytes: a write cut short leaves neither the old nor the new."""

    now: bytes
    synced: bytes | None = None
    dirty: bool = True


@dataclass
class Disk:
    """What is there, what is safe, and the changes of names that are not safe yet.

    A name that was made, renamed or removed since the last `sync_names` may be so after a crash or
    not, each by itself; a file that was written since its last sync may hold anything.
    """

    names: dict[str, _File] = field(default_factory=dict)
    safe: dict[str, _File] = field(default_factory=dict)
    pending: list[tuple[str, str, str, _File]] = field(default_factory=list)

    @classmethod
    def holding(cls, files: Files) -> Disk:
        """All of it synced."""
        names = {name: _File(data, data, False) for name, data in files.items()}
        return cls(names, dict(names))

    def apply(self, operation: dict[str, Any]) -> None:
        """One line of a rank's record."""
        kind, name = operation["kind"], operation["name"]
        if kind == "write":
            data = operation["data"].tobytes()
            if name in self.names:
                self.names[name].now, self.names[name].dirty = data, True
            else:
                self.names[name] = _File(data)
                self.pending.append(("made", name, "", self.names[name]))
        elif kind == "sync":
            file = self.names[name]
            file.synced, file.dirty = file.now, False
        elif kind == "rename":
            file = self.names.pop(name)
            self.names[operation["new"]] = file
            self.pending.append(("renamed", name, operation["new"], file))
        elif kind == "remove":
            self.pending.append(("removed", name, "", self.names.pop(name)))
        elif kind == "sync names":
            self.safe, self.pending = dict(self.names), []

    def files(self) -> Files:
        """Content without a crash."""
        return {name: file.now for name, file in self.names.items()}

    def crashes(self, rng: np.random.Generator) -> list[Files]:
        """What may be there after a crash now: some of the pending names, unsynced files spoilt."""
        count = len(self.pending)
        choices = {(), tuple(range(count))}
        for place in range(count):
            choices |= {(place,), tuple(range(place)), tuple(p for p in range(count) if p != place)}
        found = []
        for chosen in sorted(choices):
            names = dict(self.safe)
            for place in chosen:
                kind, name, new, file = self.pending[place]
                if kind == "made":
                    names[name] = file
                else:
                    names.pop(name, None)
                    if kind == "renamed":
                        names[new] = file
            for spoil in ("old", "nothing", "half", "noise", "all"):
                found.append({n: _left(file, spoil, rng) for n, file in names.items()})
        return found


def _left(file: _File, spoil: str, rng: np.random.Generator) -> bytes:
    """A file's content after a crash."""
    if not file.dirty or spoil == "all":
        return file.now
    if spoil == "old":
        return file.synced or b""
    if spoil == "nothing":
        return b""
    if spoil == "half":
        return file.now[: len(file.now) // 2]
    return rng.integers(0, 256, len(file.now), np.uint8).tobytes()


def crashes_of(
    disk: Disk, log: list[dict[str, Any]], rng: np.random.Generator
) -> tuple[list[Files], list[Files]]:
    """Disks after a crash at any operation of the record, and those after its end; each once."""
    during = disk.crashes(rng)
    for operation in log:
        disk.apply(operation)
        during += disk.crashes(rng)
    after = disk.crashes(rng)
    return _each_once(during), _each_once(after)


def _each_once(disks: list[Files]) -> list[Files]:
    return list({tuple(sorted(files.items())): files for files in disks}.values())


def arrays(files: Files) -> dict[str, np.ndarray]:
    """For the wire."""
    return {name: np.frombuffer(data, np.uint8).copy() for name, data in files.items()}


def run_log(files: Files, log: list[dict[str, Any]]) -> Files:
    """The disk after a record, without a crash."""
    disk = Disk.holding(files)
    for operation in log:
        disk.apply(operation)
    return disk.files()
