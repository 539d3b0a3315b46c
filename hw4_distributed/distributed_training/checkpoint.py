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
    raise NotImplementedError("task 4.11: write_part")


def commit(
    storage: Storage, step: int, parts: list[dict[str, Any]], extra: Mapping[str, Any], keep: int = 2
) -> None:
    """Make the parts a checkpoint: all of it is there afterwards, or, after a crash, none of it.

    parts: the entries of all ranks, every part safe already. The manifest is written under another
    name, synced, renamed, and the names synced; only then may older checkpoints go: all but the
    newest `keep`, each one's manifest before its parts, and parts that no manifest names (of saves
    that crashed). extra: anything JSON can hold.
    """
    raise NotImplementedError("task 4.11: commit")


def saved_steps(storage: Storage) -> list[int]:
    """Steps that have a manifest, the newest first."""
    raise NotImplementedError("task 4.11: saved_steps")


def read_manifest(storage: Storage, step: int) -> dict[str, Any]:
    """A checkpoint's manifest. Raises CheckpointError where it is damaged, FileNotFoundError where
    there is none."""
    raise NotImplementedError("task 4.11: read_manifest")


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
    raise NotImplementedError("task 4.11: load_shards")


def _checked_part(storage: Storage, part: Mapping[str, Any]) -> bytes:
    """A part's bytes, if they are those that the manifest describes."""
    raise NotImplementedError("task 4.11: _checked_part")


def save_sharded(
    storage: Storage, ranks: Communicator, step: int, shards: Mapping[str, Shard],
    extra: Mapping[str, Any], keep: int = 2,
) -> None:  # fmt: skip
    """Save a checkpoint of all ranks; returns on each when it is safe.

    Every rank writes its part; rank 0 commits when all of them are written.
    """
    raise NotImplementedError("task 4.11: save_sharded")


def load_newest(
    storage: Storage, rank: int, size: int
) -> tuple[int, dict[str, Shard], dict[str, Any]] | None:
    """The newest checkpoint that is whole: (step, shards, extra); None where there is none at all.

    One that is damaged is passed over for the one before it. Raises the newest one's CheckpointError
    where none is whole.
    """
    raise NotImplementedError("task 4.11: load_newest")
