"""Task 5.2: attention of a flat batch, prefill chunks and single tokens, over a paged cache."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

TILE = 128  # positions of each text that one step of the loop reads


@dataclass(frozen=True)
class AttentionSpan:
    """The tokens of one sequence in a flat batch, one or more.

    Rows start … start + count - 1 of the batch are positions first … first + count - 1 of its text;
    position p lies in slot p % block_size of block block_table[p // block_size].
    """

    start: int
    count: int
    first: int
    block_table: tuple[int, ...]


def slot_mapping(spans: list[AttentionSpan], block_size: int) -> Tensor:
    """Where each row of the batch is written: (tokens,) int64, block · block_size + slot."""
    raise NotImplementedError("task 5.2: slot_mapping")


def write_cache(pool: Tensor, rows: Tensor, slots: Tensor) -> None:
    """Write rows (tokens, kv_heads, head_dim) into one layer's pool, in place.

    pool: (blocks, block_size, kv_heads, head_dim); slots as `slot_mapping` gives them.
    """
    raise NotImplementedError("task 5.2: write_cache")


@dataclass(frozen=True)
class _Group:
    """Spans of one count, from the longest text to the shortest: what every layer reads alike.

    tiles: for TILE positions after TILE positions, the slots (texts that are not over, positions)
    they lie in; and the positions themselves where some row may not see all of them, else None.
    """

    rows: Tensor  # (spans, count): rows of the batch
    own: Tensor  # (spans, count): the positions of these rows
    tiles: list[tuple[Tensor, Tensor | None]]


def paged_attention(
    query: Tensor, keys: Tensor, values: Tensor, spans: list[AttentionSpan]
) -> Tensor:
    """Each row attends to its own sequence, up to and with its own position.

    query: (tokens, heads, head_dim), scaled by head_dim^-1/2 here; keys, values: one layer's pool
    (blocks, block_size, kv_heads, head_dim), the batch's own rows already written. Query head h
    reads key-value head h // (heads // kv_heads). Spans of one count (all that decode have 1) are
    computed together, TILE positions of each text at a time, with a running maximum and sum (online
    softmax, Milakov and Gimelshein, 2018): memory grows with the tokens of the batch, not with the
    size of the pool, nor with the length of a text but for the 8 bytes that say where a position
    lies. What lies behind a text's last position may be anything, nan included. Sums in float32 at
    least. Returns query's shape and type.
    """
    raise NotImplementedError("task 5.2: paged_attention")


@lru_cache(maxsize=1)
@torch.inference_mode(False)  # a plan may be made in inference mode and used again outside of it
def _plan(spans: tuple[AttentionSpan, ...], block_size: int, tile: int) -> list[_Group]:
    """What depends on the spans alone: made by a step's first layer, kept for the other 29.

    All callers get the same tensors, so nobody may write to them. Other spans, as those of another
    engine in between, only cost a new plan.
    """
    raise NotImplementedError("task 5.2: _plan")


def _attend(query: Tensor, keys: Tensor, values: Tensor, group: _Group) -> Tensor:
    """query: (spans, count, heads, head_dim), in the order of the group; returns its like."""
    raise NotImplementedError("task 5.2: _attend")


def _by_head(ours: Tensor, theirs: Tensor) -> Tensor:
    """ours @ theirs, one key-value head (their first axis) after the other: neither is copied."""
    raise NotImplementedError("task 5.2: _by_head")


def _read(pool: Tensor, slots: Tensor, wide: torch.dtype) -> Tensor:
    """(kv_heads, spans, places, head_dim): what lies in slots (spans, places) of one layer's pool."""
    raise NotImplementedError("task 5.2: _read")
