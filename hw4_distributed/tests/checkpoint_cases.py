"""Task 4.11 on the trusted side: states, their parts, and what must be loadable after a crash.

Whether what a crash leaves is a checkpoint is decided here, by comparing bytes with those of a save
that came to its end: code that can load what is not on the disk gains nothing.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any

import drivers_checkpoint as drivers
import numpy as np
import torch
from traffic import chunk_sizes

from autograder.testing import assert_equal
from autograder.testing.disk import Files, arrays, run_log

MANIFEST = re.compile(r"step-(\d{12})\.manifest")


@dataclass(frozen=True)
class Saved:
    """A checkpoint as a save left it: what was saved, and the bytes of its manifest and parts."""

    step: int
    state: dict[str, tuple[np.ndarray, str]]
    extra: dict[str, Any]
    files: Files


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


def operations_of(notes: list[tuple[int, str]], files: Files) -> list[dict[str, Any]]:
    """What (rank, text) notes tell of the disk, in order, for `Disk.apply`; files: before it.

    Asserts that each names a file that is there.
    """
    begun: dict[int, str] = {}
    names, found = set(files), []
    for rank, text in notes:
        if not text.startswith(("disk, ", "disk. ")):
            continue
        begun[rank] = begun.get(rank, "") + text[6:]
        if text[4] == ",":
            continue
        operation = _operation(begun.pop(rank))
        kind, name = operation["kind"], operation["name"]
        assert kind in ("write", "sync names") or name in names, (
            f"rank {rank} wants to {kind} {name}, which is not on the disk: no rank may touch another's"
            " files, or those that another has removed"
        )
        names -= {name} if kind in ("rename", "remove") else set()
        names |= {name} if kind == "write" else {operation["new"]} if kind == "rename" else set()
        found.append(operation)
    assert not begun, "the record of the disk ends in the middle of an operation"
    return found


def _operation(text: str) -> dict[str, Any]:
    """One operation, checked; `data` as an array."""
    try:
        given = json.loads(text)
        made = {key: str(given[key]) for key in ("kind", "name")}
        assert made["kind"] in ("write", "sync", "rename", "sync names", "remove"), (
            f"no disk does {made['kind']!r}"
        )
        if made["kind"] == "rename":
            made["new"] = str(given["new"])
        if made["kind"] == "write":
            data = base64.b64decode(given["data"], validate=True)
            return {**made, "data": np.frombuffer(data, np.uint8)}
    except (ValueError, TypeError, KeyError, AssertionError, binascii.Error):
        raise AssertionError("a note to the disk that the tests' disk never wrote") from None
    return made


def told(group: Any, files: Files) -> list[dict[str, Any]]:
    """All ranks' operations in the order in which the switch was told of them."""
    notes = [(event.rank, event.text) for event in group.events if event.kind == "note"]
    return operations_of(notes, files)


def save_alone(student: Any, files: Files, save: dict[str, Any]) -> list[dict[str, Any]]:
    """The operations of a save in a process of its own, on a disk that holds `files`."""
    return told(student.group(1, drivers.save_alone, files=arrays(files), save=save), files)


def save_all(student: Any, files: Files, saves: list[dict[str, Any]]) -> Files:
    """The disk after saves one after another, each by a process of its own."""
    for save in saves:
        files = run_log(files, save_alone(student, files, save))
    return files


def saved_as(
    files: Files, step: int, state: dict[str, Any], extra: dict[str, Any], text: str
) -> Saved:
    """What a save left on the disk: the manifest, and the parts that it names."""
    name = f"step-{step:012d}.manifest"
    assert name in files, f"{text}: no {name} is there afterwards: {sorted(files)}"
    parts = {n: d for n, d in files.items()
             if n.startswith(f"step-{step:012d}.part") and n.encode() in files[name]}  # fmt: skip
    assert parts, f"{text}: {name} names none of the files on the disk: {sorted(files)}"
    return Saved(step, state, extra, {name: files[name], **parts})


def whole_of(files: Files, known: list[Saved], where: str) -> dict[int, Saved]:
    """By step, the checkpoint that is there; asserts that every manifest is one's that is whole."""
    found = {}
    for name, data in files.items():
        if match := MANIFEST.fullmatch(name):
            like = [saved for saved in known if saved.files.get(name) == data]
            assert like, (
                f"{where}: {name} is there, and its content is none that a save ended with\n"
                "hint: the manifest is written under another name and synced, then renamed"
            )
            for part, content in like[-1].files.items():
                what = "is missing" if part not in files else "is not as it was written"
                assert files.get(part) == content, (
                    f"{where}: {name} is there, but its {part} {what}\nhint: parts are safe before "
                    "the manifest has its name; a manifest goes, and the names are synced, before its "
                    "parts go"
                )
            found[int(match[1])] = like[-1]
    return found


def check_crashes(
    student: Any, disks: list[Files], known: list[Saved], newest: set[int] | None, text: str
) -> None:
    """What crashes left, by bytes; then what a fresh process loads of it. newest: the steps one of
    which must be the newest that is whole, None where there may be none."""
    best: list[Saved | None] = []
    for place, files in enumerate(disks):
        where = f"{text}: crash {place + 1} of {len(disks)}, which leaves {sorted(files)}"
        whole = whole_of(files, known, where)
        last = max(whole, default=-1)
        assert newest is None or last in newest, (
            f"{where}: {f'step {last}' if whole else 'nothing'} is the newest that is whole, expected "
            f"{' or '.join(f'step {step}' for step in sorted(newest))}"
        )
        best.append(whole.get(last))
    worker = student.fresh()  # it has written nothing, and so remembers nothing
    given = {"disks": [arrays(files) for files in disks]}
    found = student.call(worker, drivers.load_after_crashes, given, 20)
    for place, (result, files, wanted) in enumerate(zip(found, disks, best, strict=True)):
        where = f"{text}: crash {place + 1} of {len(disks)}, which leaves {sorted(files)}"
        got = result["newest"]
        if wanted is None:
            assert got.get("none"), f"{where}: there is no checkpoint, and one was loaded: {got}"
            continue
        assert "step" in got, (
            f"{where}: step {wanted.step} is whole, but {got.get('message', 'nothing is found')}"
        )
        for loaded in (got, *result["each"]):
            assert "step" in loaded, f"{where}: {loaded.get('message')}"
        assert got["step"] == wanted.step, (
            f"{where}: step {got['step']} is loaded, step {wanted.step} is the newest that is whole"
        )
        assert got["extra"] == wanted.extra, f"{where}: the extra is {got['extra']}"
        check_shards(got, wanted.state, 0, 1, where)


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
