"""Task 4.11 on the trusted side: a disk that crashes in the worst ways, and what must be loadable."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from traffic import chunk_sizes

from autograder.testing import assert_equal

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


def random_state(rng: np.random.Generator) -> dict[str, tuple[np.ndarray, str]]:
    """{name: (values, type)}: every type, scalars, empty ones, fewer elements than ranks."""
    bf16 = torch.tensor(rng.standard_normal((3, 5)), dtype=torch.bfloat16).float().numpy()
    return {
        "blocks.0.weight": (rng.standard_normal((7, 3)).astype(np.float32), "float32"),
        "master": (rng.standard_normal(11), "float64"),
        "half": (bf16, "bfloat16"),
        "ids": (rng.integers(-(2**62), 2**62, (2, 3)), "int64"),
        "mask": (rng.integers(0, 2, 9).astype(bool), "bool"),
        "few": (rng.standard_normal(2).astype(np.float32), "float32"),
        "step": (np.array(int(rng.integers(1, 2**40))), "int64"),
        "scale": (np.array(rng.standard_normal()), "float64"),
        "empty": (np.zeros((0, 3), np.float32), "float32"),
    }


def part_of(state: dict[str, tuple[np.ndarray, str]], rank: int, size: int) -> dict[str, Any]:
    """A rank's shards: elements divided as evenly as can be."""
    found = {}
    for name, (values, dtype) in state.items():
        counts = chunk_sizes(values.size, size)
        start = sum(counts[:rank])
        found[name] = {"shape": list(values.shape), "start": start, "dtype": dtype,
                       "values": values.reshape(-1)[start : start + counts[rank]]}  # fmt: skip
    return found


def save_of(
    state: dict[str, Any], step: int, size: int, keep: int = 2, note: str = ""
) -> dict[str, Any]:
    """What `save_in_one` is told."""
    return {"step": step, "parts": [part_of(state, rank, size) for rank in range(size)],
            "extra": {"note": note, "seen": [step, size]}, "keep": keep}  # fmt: skip


def check_shards(
    loaded: dict[str, Any], state: dict[str, Any], rank: int, size: int, text: str
) -> None:
    """Every tensor of this rank, to the bit, with its type, shape and place."""
    assert "error" not in loaded, f"{text}: {loaded['error']}: {loaded.get('message')}"
    assert not loaded.get("none"), f"{text}: nothing was found"
    assert set(loaded["shards"]) == set(state), f"{text}: tensors {sorted(loaded['shards'])}"
    for name, wanted in part_of(state, rank, size).items():
        got = loaded["shards"][name]
        for key in ("shape", "start", "dtype"):
            assert got[key] == wanted[key], f"{text}: {name}: {key} {got[key]}, not {wanted[key]}"
        assert_equal(got["value"], wanted["values"], name=f"{text}: {name} of rank {rank} of {size}",
                     hint="elements of the whole, in row-major order, wherever they were")  # fmt: skip


def check_crashes(
    student: Any, driver: Any, disks: list[Files], known: dict[int, list[tuple[dict, dict]]],
    newest: set[int] | None, text: str,
) -> None:  # fmt: skip
    """Load on each disk. known: by step, the (state, extra) that may be found; newest: the steps one
    of which must be loaded, None where there may be none. Every manifest's checkpoint must be whole."""
    found = student.run(driver, disks=[arrays(files) for files in disks], timeout=20)
    for place, (result, files) in enumerate(zip(found, disks, strict=True)):
        where = f"{text}: crash {place + 1} of {len(disks)}, which leaves {sorted(files)}"
        got = result["newest"]
        if newest is None and got.get("none"):
            continue
        assert "step" in got, f"{where}: no checkpoint loads: {got.get('message', 'none is found')}"
        if newest is not None:
            assert got["step"] in newest, f"{where}: step {got['step']} is loaded, not {newest}"
        for loaded in (got, *result["each"]):
            assert "step" in loaded, (
                f"{where}: there is a manifest whose checkpoint is not whole: {loaded.get('message')}"
                "\nhint: parts are safe before the manifest has its name; a manifest goes, and the "
                "names are synced, before its parts go"
            )
            _check_one_of(loaded, known[loaded["step"]], where)


def _check_one_of(loaded: dict[str, Any], known: list[tuple[dict, dict]], where: str) -> None:
    """It is one of those that were saved as this step, and no mix of two."""
    for state, extra in known:
        if loaded["extra"] == extra:
            check_shards(loaded, state, 0, 1, where)
            return
    raise AssertionError(f"{where}: step {loaded['step']} has an extra that was never saved")


def merged_log(group: Any, logs: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The records of all ranks in the order in which the switch saw their notes."""
    merged = []
    for event in group.events:
        if event.kind == "note" and event.text.startswith("disk "):
            merged.append(logs[event.rank][int(event.text.removeprefix("disk "))])
    assert len(merged) == sum(map(len, logs)), "the records and the notes differ"
    return merged


def run_log(files: Files, log: list[dict[str, Any]]) -> Files:
    """The disk after a record, without a crash."""
    disk = Disk.holding(files)
    for operation in log:
        disk.apply(operation)
    return disk.files()


def damaged(rng: np.random.Generator, files: Files, name: str) -> dict[str, Files]:
    """By kind: the file cut, gone, longer, with one bit turned, or another of its kind in its place."""
    data = files[name]
    place = int(rng.integers(0, len(data)))
    turned = bytearray(data)
    turned[place] ^= 1 << int(rng.integers(0, 8))
    kind = name.split(".")[1].split("-")[0]
    others = [n for n in files if n != name and n.split(".")[1].split("-")[0] == kind]
    made = {"cut": data[:-1], "empty": b"", "longer": data + b"\0", "one bit turned": bytes(turned)}
    if others:
        made["another in its place"] = files[others[0]]
    found = {how: {**files, name: content} for how, content in made.items()}
    found["gone"] = {n: d for n, d in files.items() if n != name}
    for place in rng.integers(0, len(data), 40 if kind == "manifest" else 0).tolist():
        turned = bytearray(data)
        turned[place] ^= 1 << int(rng.integers(0, 8))
        found[f"one bit of byte {place} turned"] = {**files, name: bytes(turned)}
    return found
