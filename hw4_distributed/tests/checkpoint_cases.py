"""Task 4.11 on the trusted side: states, their parts, and what must be loadable after a crash."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from traffic import chunk_sizes

from autograder.testing import assert_equal
from autograder.testing.disk import Files, arrays

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
