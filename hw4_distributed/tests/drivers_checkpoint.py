"""Drivers of task 4.11: saves and loads through a disk in memory, whose every operation is told to the
switch as it happens, content included.

What is on the disk, and what a crash leaves of it, is worked out on the trusted side from what the
switch was told; nothing that a worker says afterwards counts. Here nothing crashes.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import numpy as np

NOTE = 900  # characters of an operation in one note; the switch takes notes of 1000 bytes


class LoggedDisk:
    """`Storage` in memory. note: is given every operation that changes something, when it does.

    Each rank has a disk of its own, which shows what was there at the start and what this rank did.
    """

    def __init__(
        self, files: dict[str, np.ndarray], note: Callable[[str], None] | None = None
    ) -> None:
        self.files = {name: data.tobytes() for name, data in files.items()}
        self.note = note

    def _record(self, kind: str, name: str, **more: str) -> None:
        if self.note is None:
            return
        text = json.dumps({"kind": kind, "name": name, **more})
        while len(text) > NOTE:
            self.note(f"disk, {text[:NOTE]}")
            text = text[NOTE:]
        self.note(f"disk. {text}")

    def write(self, name: str, data: bytes) -> None:
        self.files[name] = bytes(data)
        self._record("write", name, data=base64.b64encode(bytes(data)).decode())

    def sync(self, name: str) -> None:
        self.read(name)
        self._record("sync", name)

    def rename(self, old: str, new: str) -> None:
        self.read(old)
        self.files[new] = self.files.pop(old)
        self._record("rename", old, new=new)

    def sync_names(self) -> None:
        self._record("sync names", "")

    def read(self, name: str) -> bytes:
        if name not in self.files:
            others = (
                ": a rank's disk in the tests shows what was there and its own writes, no others'"
            )
            raise FileNotFoundError(name + (others if self.note is not None else ""))
        return self.files[name]

    def names(self) -> list[str]:
        return sorted(self.files)

    def remove(self, name: str) -> None:
        self.read(name)
        del self.files[name]
        self._record("remove", name)


def _shards(given: dict[str, dict[str, Any]]) -> dict[str, Any]:
    from drivers_collectives import make_tensor

    from distributed_training.shards import Shard

    return {
        name: Shard(tuple(s["shape"]), s["start"], make_tensor(s["values"], s["dtype"]))
        for name, s in given.items()
    }


def _packed(shards: dict[str, Any]) -> dict[str, Any]:
    from drivers_collectives import pack

    return {name: {"shape": list(s.shape), "start": s.start, **pack(s.values)}
            for name, s in shards.items()}  # fmt: skip


def save_parts(disk: LoggedDisk, save: dict[str, Any]) -> None:
    """A whole save by one process: the parts by rank, then the commit.

    save: "step", "parts" (the shards of each rank), "extra", "keep".
    """
    from distributed_training.checkpoint import commit, write_part

    size = len(save["parts"])
    entries = [
        write_part(disk, save["step"], rank, size, _shards(part))
        for rank, part in enumerate(save["parts"])
    ]
    commit(disk, save["step"], entries, save["extra"], save["keep"])


def save_alone(files: dict[str, np.ndarray], save: dict[str, Any]) -> None:
    """`save_parts` on one disk, in a group of one rank."""
    from distributed_training.communicator import connect

    save_parts(LoggedDisk(files, connect().note), save)


def save_on_ranks(
    files: dict[str, np.ndarray], step: int, part: dict[str, Any], extra: dict[str, Any], keep: int
) -> str:
    """save_sharded of this rank; the name of the error, or "". A rank's disk shows what was there and
    what the rank itself did."""
    from distributed_training.checkpoint import save_sharded
    from distributed_training.communicator import connect

    ranks = connect()
    try:
        save_sharded(LoggedDisk(files, ranks.note), ranks, step, _shards(part), extra, keep)
    except ValueError as error:
        return type(error).__name__
    ranks.note("returned")
    return ""


def _load(action: Any, damage: bool = False) -> dict[str, Any]:
    """What is loaded, or the error: of any kind where there is damage that may lead to one."""
    from distributed_training.shards import CheckpointError

    try:
        return action()
    except (CheckpointError, FileNotFoundError) as error:
        return {"error": type(error).__name__, "message": str(error)}
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        if not damage:
            raise
        return {"error": type(error).__name__, "message": str(error)}


def load_each(disks: list[dict[str, np.ndarray]], cases: list[dict[str, Any]]) -> list[Any]:
    """load_shards for each case: {"disk" (its number), "step", "rank", "size"}."""
    from distributed_training.checkpoint import load_shards

    def one(case: dict[str, Any]) -> dict[str, Any]:
        disk = LoggedDisk(disks[case["disk"]])
        shards, extra = load_shards(disk, case["step"], case["rank"], case["size"])
        return {"shards": _packed(shards), "extra": extra}

    return [_load(lambda case=case: one(case), damage=True) for case in cases]


def load_after_crashes(disks: list[dict[str, np.ndarray]]) -> list[Any]:
    """In a world of one, for each disk: the newest, and every step that has a manifest."""
    from distributed_training.checkpoint import load_newest, load_shards, saved_steps
    from distributed_training.communicator import WorldOfOne

    def newest(disk: LoggedDisk) -> dict[str, Any]:
        loaded = load_newest(disk, WorldOfOne())
        if loaded is None:
            return {"none": True}
        return {"step": loaded[0], "shards": _packed(loaded[1]), "extra": loaded[2]}

    def whole(disk: LoggedDisk, step: int) -> dict[str, Any]:
        shards, extra = load_shards(disk, step, 0, 1)
        return {"step": step, "shards": _packed(shards), "extra": extra}

    found = []
    for files in disks:
        disk = LoggedDisk(files)
        steps = saved_steps(disk)
        found.append({
            "newest": _load(lambda disk=disk: newest(disk)), "steps": steps,
            "each": [_load(lambda disk=disk, step=step: whole(disk, step)) for step in steps],
        })  # fmt: skip
    return found


def load_on_ranks(disks: list[dict[str, np.ndarray]]) -> list[Any]:
    """load_newest of this rank on each disk, of which every rank has a copy of its own: the step, the
    shards, the extra."""
    from distributed_training.checkpoint import load_newest
    from distributed_training.communicator import connect

    ranks, found = connect(), []

    def one(files: dict[str, np.ndarray]) -> dict[str, Any]:
        loaded = load_newest(LoggedDisk(files), ranks)
        if loaded is None:
            return {"none": True}
        return {"step": loaded[0], "shards": _packed(loaded[1]), "extra": loaded[2]}

    for files in disks:
        found.append(_load(lambda files=files: one(files)))
    return found


def _gather(ranks: Any, values: Any, count: int) -> Any:
    """The whole of a divided one-dimensional tensor, on every rank, by plain sends."""
    import torch

    from distributed_training.partition import chunk_bounds

    whole = torch.empty(count, dtype=values.dtype)
    for rank, (start, stop) in enumerate(chunk_bounds(count, ranks.size)):
        if rank == ranks.rank:
            whole[start:stop] = values
            work = [ranks.isend(values, to) for to in range(ranks.size) if to != rank]
        else:
            piece = torch.empty(stop - start, dtype=values.dtype)
            ranks.recv(piece, rank)
            whole[start:stop] = piece
    for each in work:
        each.wait()
    return whole


def train(
    files: dict[str, np.ndarray], start: dict[str, np.ndarray], steps: int, stop: int
) -> dict[str, Any]:
    """Go on from the newest checkpoint (or from `start`) to step `stop`, saving there.

    Adam in float32 on weights and moments that are divided among the ranks; the gradient is of the
    whole, with noise from a generator whose state is saved too. Returns the whole weights, and whether
    it began anew.
    """
    import torch

    from distributed_training.checkpoint import load_newest, save_sharded
    from distributed_training.communicator import connect
    from distributed_training.partition import chunk_bounds
    from distributed_training.shards import Shard

    ranks = connect()
    disk = LoggedDisk(files, ranks.note)
    loaded = load_newest(disk, ranks)
    count = len(start["weights"])
    first, last = chunk_bounds(count, ranks.size)[ranks.rank]
    generator = torch.Generator().manual_seed(int(start["seed"]))
    if loaded is None:
        step, mine = (
            0,
            {k: torch.tensor(start[k][first:last]) for k in ("weights", "mean", "square")},
        )
    else:
        step = loaded[0]
        mine = {k: loaded[1][k].values for k in ("weights", "mean", "square")}
        state = loaded[1]["generator"]
        generator.set_state(_gather(ranks, state.values, state.count))
        assert loaded[2]["stop"] == step, f"extra says step {loaded[2]['stop']}, loaded was {step}"
    target = torch.tensor(start["target"])
    while step < stop:
        step += 1
        whole = _gather(ranks, mine["weights"], count)
        gradient = (whole - target + 0.1 * torch.randn(count, generator=generator))[first:last]
        mine["mean"] = 0.9 * mine["mean"] + 0.1 * gradient
        mine["square"] = 0.99 * mine["square"] + 0.01 * gradient * gradient
        mine["weights"] = mine["weights"] - 0.05 * mine["mean"] / (mine["square"].sqrt() + 1e-8)
    state = generator.get_state()
    low, high = chunk_bounds(len(state), ranks.size)[ranks.rank]
    shards = {k: Shard((count,), first, v) for k, v in mine.items()}
    shards["generator"] = Shard((len(state),), low, state[low:high].clone())
    save_sharded(disk, ranks, step, shards, {"stop": stop, "of": steps})
    weights = _gather(ranks, mine["weights"], count)
    return {"weights": weights.numpy(), "anew": loaded is None}
