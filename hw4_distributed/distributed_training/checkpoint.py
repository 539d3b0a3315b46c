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
    raise NotImplementedError("task 4.11: write_part")


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
    raise NotImplementedError("task 4.11: commit")


def _files_of(storage: Storage, steps: list[int]) -> set[str]:
    """The files of these checkpoints; all of a step's where its manifest can't be read. Use it or
    leave it."""
    raise NotImplementedError("task 4.11: _files_of")


def saved_steps(storage: Storage) -> list[int]:
    """Steps that have a manifest, the newest first."""
    raise NotImplementedError("task 4.11: saved_steps")


def read_manifest(storage: Storage, step: int) -> dict[str, Any]:
    """A checkpoint's manifest, without its checksum. Raises CheckpointError that names the file where
    it is damaged or another step's, FileNotFoundError where there is none."""
    raise NotImplementedError("task 4.11: read_manifest")


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
    raise NotImplementedError("task 4.11: load_shards")


def _checked_part(storage: Storage, part: Mapping[str, Any]) -> bytes:
    """A part's bytes, if they are those that the manifest describes."""
    raise NotImplementedError("task 4.11: _checked_part")


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
    raise NotImplementedError("task 4.11: save_sharded")


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
    raise NotImplementedError("task 4.11: load_newest")


def _from_rank_0(ranks: Communicator, tensor: torch.Tensor) -> torch.Tensor:
    """Rank 0's tensor, on every rank, by send and recv: with 4.1's `broadcast` this task would not work
    without that one. Use it or leave it."""
    raise NotImplementedError("task 4.11: _from_rank_0")


def _first_of_all(ranks: Communicator, text: str) -> str:
    """The text of the first rank that has one, on every rank, or "". Use it or leave it."""
    raise NotImplementedError("task 4.11: _first_of_all")
