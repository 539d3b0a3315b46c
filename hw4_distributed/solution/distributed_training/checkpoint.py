"""Task 4.11: checkpoints that every rank writes a part of, and any number of ranks can read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import torch

from distributed_training.communicator import Communicator
from distributed_training.partition import chunk_bounds
from distributed_training.shards import (
    TYPES,
    CheckpointError,
    Shard,
    checksum,
    pack,
    to_json,
    unpack,
)
from distributed_training.storage import Storage

MANIFEST = re.compile(r"step-(\d{12})\.manifest")


def shard_name(step: int, rank: int, size: int, digest: str) -> str:
    """Given: the file of one rank's part. It has the content's checksum in its name, so that no save
    of the same step ever writes into a file that a manifest names already."""
    return f"step-{step:012d}.part-{rank}-of-{size}-{digest[:16]}"


def manifest_name(step: int) -> str:
    """Given: the file that makes a checkpoint one: it names every part, with size and checksum."""
    return f"step-{step:012d}.manifest"


def write_part(
    storage: Storage, step: int, rank: int, size: int, shards: Mapping[str, Shard]
) -> dict[str, Any]:
    """Write one rank's part, so that it survives a crash; its entry for the manifest.

    The entry: {"file", "bytes", "sha256", "tensors": table of `pack`}. A file that is there already
    with the same bytes is not written again (a write that a crash cuts short would spoil it), but
    synced all the same: nobody knows whether it was.
    """
    # BEGIN SOLUTION 4.11
    data, table = pack(shards)
    name = shard_name(step, rank, size, checksum(data))
    if name not in storage.names() or storage.read(name) != data:
        storage.write(name, data)
    storage.sync(name)
    storage.sync_names()
    return {"file": name, "bytes": len(data), "sha256": checksum(data), "tensors": table}
    # END SOLUTION


def commit(
    storage: Storage,
    step: int,
    parts: list[dict[str, Any]],
    extra: Mapping[str, Any],
    keep: int = 2,
) -> None:
    """Make the parts a checkpoint: all of it is there afterwards, or, after a crash, none of it.

    parts: the entries of all ranks, every part safe already. The manifest ({"step", "parts", "extra"}
    and "sha256" of their `to_json`) is written under another name (that begins with `step-`, or what
    a crash leaves of it would stay for ever), synced, renamed, and the names synced. Only then may
    others go, manifests before parts with the names synced between: what is left is this step and the
    newest keep − 1 before it. Later steps go too: they are of a run that was given up for an older
    checkpoint. So do files named step-… that no manifest left names (of saves that crashed), but none
    of a step whose manifest can't be read. extra: what JSON can hold.
    """
    # BEGIN SOLUTION 4.11
    body = {"step": step, "parts": parts, "extra": dict(extra)}
    data = to_json({**body, "sha256": checksum(to_json(body))})
    name = manifest_name(step)
    storage.write(f"{name}.partial", data)
    storage.sync(f"{name}.partial")
    storage.rename(f"{name}.partial", name)
    storage.sync_names()
    kept = [step, *(each for each in saved_steps(storage) if each < step)][:keep]
    for old in set(saved_steps(storage)) - set(kept):
        storage.remove(manifest_name(old))
    storage.sync_names()
    for file in sorted(set(storage.names()) - _files_of(storage, kept)):
        if file.startswith("step-"):
            storage.remove(file)
    storage.sync_names()
    # END SOLUTION


def _files_of(storage: Storage, steps: list[int]) -> set[str]:
    """The files of these checkpoints; all of a step's where its manifest can't be read. Use it or
    leave it."""
    # BEGIN SOLUTION 4.11
    files: set[str] = set()
    for step in steps:
        files.add(manifest_name(step))
        try:
            files.update(part["file"] for part in read_manifest(storage, step)["parts"])
        except CheckpointError:
            files.update(n for n in storage.names() if n.startswith(f"step-{step:012d}."))
    return files
    # END SOLUTION


def saved_steps(storage: Storage) -> list[int]:
    """Steps that have a manifest, the newest first."""
    # BEGIN SOLUTION 4.11
    found = [MANIFEST.fullmatch(name) for name in storage.names()]
    return sorted((int(match[1]) for match in found if match), reverse=True)
    # END SOLUTION


def read_manifest(storage: Storage, step: int) -> dict[str, Any]:
    """A checkpoint's manifest, without its checksum. Raises CheckpointError that names the file where
    it is damaged or another step's, FileNotFoundError where there is none."""
    # BEGIN SOLUTION 4.11
    name = manifest_name(step)
    try:
        body = json.loads(storage.read(name))
        written = body.pop("sha256")
    except (ValueError, KeyError, AttributeError, TypeError):
        raise CheckpointError(f"{name} is damaged: it can't be read") from None
    if written != checksum(to_json(body)):
        raise CheckpointError(f"{name} is damaged: its checksum is another")
    if body["step"] != step:
        raise CheckpointError(f"{name} is the manifest of step {body['step']}")
    return body
    # END SOLUTION


def load_shards(
    storage: Storage, step: int, rank: int, size: int
) -> tuple[dict[str, Shard], dict[str, Any]]:
    """Rank `rank` of `size`'s part of a checkpoint that any number of ranks wrote, and its extra.

    Of each tensor the elements `chunk_bounds(count, size)[rank]`, put together from the parts that
    hold some of them: only those are read, each once, and checked before it is used. Where two
    parts hold an element (replicated tensors), the first of them in the manifest counts. Raises
    CheckpointError that names the file: a part is missing, of another size, of another checksum; or
    the tensor, where its elements are not all there.
    """
    # BEGIN SOLUTION 4.11
    manifest = read_manifest(storage, step)
    found: dict[str, Shard] = {}
    filled: dict[str, torch.Tensor] = {}
    for part in manifest["parts"]:
        data: bytes | None = None
        for name, entry in part["tensors"].items():
            if name not in found:
                shape = tuple(entry["shape"])
                start, stop = chunk_bounds(torch.Size(shape).numel(), size)[rank]
                values = torch.zeros(stop - start, dtype=TYPES[entry["type"]])
                found[name] = Shard(shape, start, values)
                filled[name] = torch.zeros(stop - start, dtype=torch.bool)
            shard, first = found[name], entry["start"]
            low = max(shard.start, first)
            high = min(shard.start + len(shard.values), first + entry["count"])
            if low >= high:
                continue
            if data is None:
                data = _checked_part(storage, part)
            place = slice(low - shard.start, high - shard.start)
            fresh = ~filled[name][place]
            piece = unpack(data, entry)[low - first : high - first]
            shard.values[place][fresh] = piece[fresh]
            filled[name][place] = True
    for name, flags in filled.items():
        if not bool(flags.all()):
            first = int((~flags).nonzero()[0]) + found[name].start
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

    Every rank writes its part; rank 0 commits when all of them are written. extra: rank 0's counts.
    What rank 0 must know of a part comes by message: each rank's disk in the tests shows only what
    was there before and that rank's own writes.
    Raises ValueError, before anything is written, where keep < 1.
    """
    # BEGIN SOLUTION 4.11
    if keep < 1:
        raise ValueError(f"keep={keep}: the checkpoint that is being saved must stay")
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
    storage: Storage, ranks: Communicator
) -> tuple[int, dict[str, Shard], dict[str, Any]] | None:
    """The newest checkpoint that is whole, of this rank: (step, shards, extra); None where there is
    none at all.

    All ranks load the same step, whatever each of them has to read of it: a step is taken if every
    rank could load its shards, and every part of it, divided among the ranks, is as it was written;
    else all go on to the step before. Where none is whole, all ranks raise the same CheckpointError,
    of the newest. Every rank calls this at once.
    """
    # BEGIN SOLUTION 4.11
    steps = saved_steps(storage) if ranks.rank == 0 else []
    newest = ""
    while (step := int(_from_rank_0(ranks, torch.tensor([steps.pop(0) if steps else -1])))) >= 0:
        wrong, loaded = "", None
        try:
            loaded = load_shards(storage, step, ranks.rank, ranks.size)
            for part in read_manifest(storage, step)["parts"][ranks.rank :: ranks.size]:
                _checked_part(storage, part)
        except CheckpointError as error:
            wrong = str(error)
        except FileNotFoundError:
            wrong = f"{manifest_name(step)} is missing"
        wrong = _first_of_all(ranks, wrong)
        if not wrong and loaded is not None:
            return (step, *loaded)
        newest = newest or wrong
    if newest:
        raise CheckpointError(newest)
    return None
    # END SOLUTION


def _from_rank_0(ranks: Communicator, tensor: torch.Tensor) -> torch.Tensor:
    """Rank 0's tensor, on every rank, by send and recv: with 4.1's `broadcast` this task would not work
    without that one. Use it or leave it."""
    # BEGIN SOLUTION 4.11
    for rank in range(1, ranks.size):
        if ranks.rank == 0:
            ranks.send(tensor, rank)
        elif ranks.rank == rank:
            ranks.recv(tensor, source=0)
    return tensor
    # END SOLUTION


def _first_of_all(ranks: Communicator, text: str) -> str:
    """The text of the first rank that has one, on every rank, or "". Use it or leave it."""
    # BEGIN SOLUTION 4.11
    mine = torch.frombuffer(bytearray(text.encode()[:256].ljust(256, b"\0")), dtype=torch.uint8)
    for rank in range(1, ranks.size):
        if ranks.rank == rank:
            ranks.send(mine, 0)
        elif ranks.rank == 0:
            theirs = torch.empty_like(mine)
            ranks.recv(theirs, rank)
            mine = mine if mine.any() else theirs
    return _from_rank_0(ranks, mine).numpy().tobytes().rstrip(b"\0").decode(errors="replace")
    # END SOLUTION
