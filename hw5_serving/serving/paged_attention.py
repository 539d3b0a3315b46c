"""Task 5.2: attention of a flat batch, prefill chunks and single tokens, over a paged cache."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class AttentionSpan:
    """The tokens of one sequence in a flat batch.

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


def paged_attention(
    query: Tensor, keys: Tensor, values: Tensor, spans: list[AttentionSpan]
) -> Tensor:
    """Each row attends to its own sequence, up to and with its own position.

    query: (tokens, heads, head_dim), scaled by head_dim^-1/2 here; keys, values: one layer's pool
    (blocks, block_size, kv_heads, head_dim), the batch's own rows already written. Query head h
    reads key-value head h // (heads // kv_heads). Only one block per step of the loop is read, with
    a running maximum and sum (online softmax, Milakov and Gimelshein, 2018): no copy of a
    sequence's cache, let alone of the pool, is made. What lies behind a text's last position may be
    anything, nan included. Sums in float32 at least. Returns query's shape and type.
    """
    raise NotImplementedError("task 5.2: paged_attention")


def _one_sequence(query: Tensor, keys: Tensor, values: Tensor, span: AttentionSpan) -> Tensor:
    raise NotImplementedError("task 5.2: _one_sequence")
