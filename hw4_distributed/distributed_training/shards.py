"""A rank's piece of a tensor, and how pieces are written to bytes. Given."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

TYPES = {str(t).removeprefix("torch."): t for t in (
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32,
    torch.uint8, torch.bool,
)}  # fmt: skip


class CheckpointError(Exception):
    """A checkpoint that can't be used; the message names the file and what is wrong with it."""


@dataclass(frozen=True)
class Shard:
    """Elements start … start + len(values) of a tensor of this shape, taken in row-major order."""

    shape: tuple[int, ...]
    start: int
    values: Tensor  # one-dimensional

    @property
    def count(self) -> int:
        """Elements of the whole tensor."""
        return torch.Size(self.shape).numel()


def pack(shards: Mapping[str, Shard]) -> tuple[bytes, dict[str, Any]]:
    """The bytes of all values one after another, and for each name where they lie.

    The table: {name: {"shape", "type", "start", "count", "offset", "bytes"}}.
    """
    table: dict[str, Any] = {}
    data = bytearray()
    for name, shard in shards.items():
        values = shard.values.detach().cpu().contiguous()
        raw = values.view(torch.uint8).numpy().tobytes() if values.numel() else b""
        table[name] = {
            "shape": list(shard.shape), "type": str(values.dtype).removeprefix("torch."),
            "start": shard.start, "count": values.numel(), "offset": len(data), "bytes": len(raw),
        }  # fmt: skip
        data += raw
    return bytes(data), table


def unpack(data: bytes, entry: Mapping[str, Any]) -> Tensor:
    """The values that an entry of the table describes, one-dimensional."""
    raw = data[entry["offset"] : entry["offset"] + entry["bytes"]]
    if not raw:
        return torch.empty(0, dtype=TYPES[entry["type"]])
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(TYPES[entry["type"]])


def checksum(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def to_json(value: Any) -> bytes:
    """JSON with sorted keys."""
    return json.dumps(value, sort_keys=True).encode()
