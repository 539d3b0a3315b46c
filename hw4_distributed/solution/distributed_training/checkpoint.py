"""Task 4.11: checkpoints that every rank writes a part of, and any number of ranks can read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import torch

from distributed_training.communicator import Communicator
from distributed_training.partition import chunk_bounds
from distributed_training.shards import CheckpointError, Shard, checksum, pack, to_json, unpack
from distributed_training.storage import Storage

MANIFEST = re.compile(r"step-(\d{12})\.manifest")


def shard_name(step: int, rank: int, size: int) -> str:
    """Given: the file of one rank's part."""
    return f"step-{step:012d}.part-{rank}-of-{size}"


def manifest_name(step: int) -> str:
    """Given: the file that makes a checkpoint one: it names every part, with size and checksum."""
    return f"step-{step:012d}.manifest"


def write_part(
    storage: Storage, step: int, rank: int, size: int, shards: Mapping[str, Shard]
) -> dict[str, Any]:
    """Write one rank's part, so that it survives a crash; its entry for the manifest.

    The entry: {"file", "bytes", "sha256", "tensors": table of `pack`}.
    """
    # BEGIN SOLUTION 4.11
    data, table = pack(shards)
    name = shard_name(step, rank, size)
    storage.write(name, data)
    storage.sync(name)
    storage.sync_names()
    return {"file": name, "bytes": len(data), "sha256": checksum(data), "tensors": table}
    # END SOLUTION


def commit(
    storage: Storage, step: int, parts: list[dict[str, Any]], extra: Mapping[str, Any], keep: int = 2
) -> None:
    """Make the parts a checkpoint: all of it is there afterwards, or, after a crash, none of it.

    parts: the entries of all ranks, every part safe already. The manifest is written under another
    name, synced, renamed, and the names synced; only then may older checkpoints go: all but the
    newest `keep`, each one's manifest before its parts, and parts that no manifest names (of saves
    that crashed). extra: anything JSON can hold.
    """
    # BEGIN SOLUTION 4.11
    body = {"step": step, "parts": parts, "extra": dict(extra)}
    data = to_json({**body, "sha256": checksum(to_json(body))})
    name = manifest_name(step)
    storage.write(f"{name}.partial", data)
    storage.sync(f"{name}.partial")
    storage.rename(f"{name}.partial", name)
    storage.sync_names()
    for old in saved_steps(storage)[keep:]:
        storage.remove(manifest_name(old))
    storage.sync_names()
    kept = tuple(f"step-{each:012d}." for each in saved_steps(storage))
    for file in storage.names():
        if file.startswith("step-") and not file.startswith(kept):
            storage.remove(file)
    storage.sync_names()
    # END SOLUTION


def saved_steps(storage: Storage) -> list[int]:
    """Steps that have a manifest, the newest first."""
    # BEGIN SOLUTION 4.11
    found = [MANIFEST.fullmatch(name) for name in storage.names()]
    return sorted((int(match[1]) for match in found if match), reverse=True)
    # END SOLUTION


def read_manifest(storage: Storage, step: int) -> dict[str, Any]:
    """A checkpoint's manifest. Raises CheckpointError where it is damaged, FileNotFoundError where
    there is none."""
    # BEGIN SOLUTION 4.11
    name = manifest_name(step)
    try:
        body = json.loads(storage.read(name))
        written = body.pop("sha256")
    except (ValueError, KeyError, AttributeError, TypeError):
        raise CheckpointError(f"{name} is damaged: it can't be read") from None
    if written != checksum(to_json(body)):
        raise CheckpointError(f"{name} is damaged: its checksum is another")
    return body
    # END SOLUTION


def load_shards(
    storage: Storage, step: int, rank: int, size: int
) -> tuple[dict[str, Shard], dict[str, Any]]:
    """Rank `rank` of `size`'s part of a checkpoint that any number of ranks wrote, and its extra.

    Of each tensor the elements `chunk_bounds(count, size)[rank]`, put together from the parts that
    hold some of them; every part that is read is checked first, and each is read once. Where two
    parts hold an element (replicated tensors), the lower part's counts. Raises CheckpointError that
    names the file: a part is missing, of another size, of another checksum; or the tensor, where
    its elements are not all there.
    """
    # BEGIN SOLUTION 4.11
    manifest = read_manifest(storage, step)
    wanted: dict[str, tuple[int, int]] = {}
    found: dict[str, Shard] = {}
    filled: dict[str, torch.Tensor] = {}
    for part in manifest["parts"]:
        data: bytes | None = None
        for name, entry in part["tensors"].items():
            if name not in wanted:
                count = torch.Size(entry["shape"]).numel()
                wanted[name] = chunk_bounds(count, size)[rank]
            start, stop = wanted[name]
            low = max(start, entry["start"])
            high = min(stop, entry["start"] + entry["count"])
            if name in found and low >= high:
                continue
            if data is None:
                data = _checked_part(storage, part)
            values = unpack(data, entry)
            if name not in found:
                shape = tuple(entry["shape"])
                found[name] = Shard(shape, start, values.new_zeros(stop - start))
                filled[name] = torch.zeros(stop - start, dtype=torch.bool)
            if low < high:
                fresh = ~filled[name][low - start : high - start]
                piece = values[low - entry["start"] : high - entry["start"]]
                found[name].values[low - start : high - start][fresh] = piece[fresh]
                filled[name][low - start : high - start] = True
    for name, flags in filled.items():
        if not bool(flags.all()):
            first = int((~flags).nonzero()[0]) + wanted[name][0]
            raise CheckpointError(f"{name}: no part of step {step} holds element {first}")
    return found, manifest["extra"]
    # END SOLUTION


def _checked_part(storage: Storage, part: Mapping[str, Any]) -> bytes:
    """A part's bytes, if they are those that the manifest describes."""
    # BEGIN SOLUTION 4.11
    name = part["file"]
    try:
        data = storage.read(name)
    except FileNotFoundError:
        raise CheckpointError(f"{name} is missing") from None
    if len(data) != part["bytes"]:
        raise CheckpointError(f"{name} has {len(data):,} bytes, {part['bytes']:,} were written")
    if checksum(data) != part["sha256"]:
        raise CheckpointError(f"{name} is damaged: its checksum is another")
    return data
    # END SOLUTION


def save_sharded(
    storage: Storage, ranks: Communicator, step: int, shards: Mapping[str, Shard],
    extra: Mapping[str, Any], keep: int = 2,
) -> None:  # fmt: skip
    """Save a checkpoint of all ranks; returns on each when it is safe.

    Every rank writes its part; rank 0 commits when all of them are written.
    """
    # BEGIN SOLUTION 4.11
    entry = to_json(write_part(storage, step, ranks.rank, ranks.size, shards))
    if ranks.rank == 0:
        parts = [json.loads(entry)]
        for rank in range(1, ranks.size):
            length = torch.zeros(1, dtype=torch.int64)
            ranks.recv(length, rank)
            text = torch.zeros(int(length), dtype=torch.uint8)
            ranks.recv(text, rank)
            parts.append(json.loads(text.numpy().tobytes()))
        commit(storage, step, parts, extra, keep)
    else:
        text = torch.frombuffer(bytearray(entry), dtype=torch.uint8)
        ranks.send(torch.tensor([len(text)]), 0)
        ranks.send(text, 0)
    ranks.barrier()
    # END SOLUTION


def load_newest(
    storage: Storage, rank: int, size: int
) -> tuple[int, dict[str, Shard], dict[str, Any]] | None:
    """The newest checkpoint that is whole: (step, shards, extra); None where there is none at all.

    One that is damaged is passed over for the one before it. Raises the newest one's CheckpointError
    where none is whole.
    """
    # BEGIN SOLUTION 4.11
    newest: CheckpointError | None = None
    for step in saved_steps(storage):
        try:
            return (step, *load_shards(storage, step, rank, size))
        except CheckpointError as error:
            newest = newest or error
    if newest is not None:
        raise newest
    return None
    # END SOLUTION
