"""Task 5.2: attention of a flat batch, prefill chunks and single tokens, over a paged cache."""

from __future__ import annotations

from dataclasses import dataclass

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
    # BEGIN SOLUTION 5.2
    slots = [
        span.block_table[place // block_size] * block_size + place % block_size
        for span in sorted(spans, key=lambda s: s.start)
        for place in range(span.first, span.first + span.count)
    ]
    return torch.tensor(slots, dtype=torch.int64)
    # END SOLUTION


def write_cache(pool: Tensor, rows: Tensor, slots: Tensor) -> None:
    """Write rows (tokens, kv_heads, head_dim) into one layer's pool, in place.

    pool: (blocks, block_size, kv_heads, head_dim); slots as `slot_mapping` gives them.
    """
    # BEGIN SOLUTION 5.2
    pool.view(-1, *pool.shape[2:]).index_copy_(0, slots, rows.to(pool.dtype))
    # END SOLUTION


def paged_attention(
    query: Tensor, keys: Tensor, values: Tensor, spans: list[AttentionSpan]
) -> Tensor:
    """Each row attends to its own sequence, up to and with its own position.

    query: (tokens, heads, head_dim), scaled by head_dim^-1/2 here; keys, values: one layer's pool
    (blocks, block_size, kv_heads, head_dim), the batch's own rows already written. Query head h
    reads key-value head h // (heads // kv_heads). Spans of one count (all that decode have 1) are
    computed together, TILE positions of each text at a time, with a running maximum and sum (online
    softmax, Milakov and Gimelshein, 2018): memory grows with the tokens of the batch, never with
    the length of a text or the size of the pool. What lies behind a text's last position may be
    anything, nan included. Sums in float32 at least. Returns query's shape and type.
    """
    # BEGIN SOLUTION 5.2
    result = torch.zeros_like(query)
    for count in {span.count for span in spans}:
        group = sorted((span for span in spans if span.count == count), key=lambda s: -s.first)
        rows = torch.tensor([span.start for span in group])[:, None] + torch.arange(count)
        result[rows] = _attend(query[rows], keys, values, group).to(query.dtype)
    return result
    # END SOLUTION


def _attend(query: Tensor, keys: Tensor, values: Tensor, spans: list[AttentionSpan]) -> Tensor:
    """query: (spans, count, heads, head_dim), from the longest text to the shortest; like query."""
    # BEGIN SOLUTION 5.2
    count, heads, width = query.shape[1:]
    block_size, kv_heads = keys.shape[1:3]
    wide = torch.promote_types(query.dtype, torch.float32)
    grouped = (query.to(wide) * width**-0.5).unflatten(2, (kv_heads, -1))
    grouped = grouped.movedim(2, 0).flatten(2, 3)  # (kv_heads, batch, count · group, width)
    own = torch.tensor([span.first for span in spans])[:, None] + torch.arange(count)
    ends = (own[:, -1] + 1).tolist()
    own = own.repeat_interleave(heads // kv_heads, 1)  # (batch, count · group)
    tables = [list(span.block_table) for span in spans]
    widest = max(map(len, tables))
    table = torch.tensor([blocks + [0] * (widest - len(blocks)) for blocks in tables])
    top = torch.full(grouped.shape[:-1], -torch.inf, dtype=wide)
    total, mixed = torch.zeros_like(top), torch.zeros_like(grouped)
    for begin in range(0, ends[0], TILE):
        left = sum(end > begin for end in ends)  # texts that are over are the last ones
        places = torch.arange(begin, min(begin + TILE, ends[0]))
        slots = table[:left, places // block_size] * block_size + places % block_size
        # Behind a text's end its position 0 is read: it was written, and the mask hides it.
        slots = torch.where(places <= own[:left, -1:], slots, table[:left, :1] * block_size)
        tile_keys, tile_values = _read(keys, slots, wide), _read(values, slots, wide)
        scores = torch.stack([q[:left] @ k.mT for q, k in zip(grouped, tile_keys, strict=True)])
        scores.masked_fill_(places > own[:left, :, None], -torch.inf)
        peak = torch.maximum(top[:, :left], scores.amax(-1))  # finite: all may see position 0
        shrink = torch.exp(top[:, :left] - peak)
        weights = scores.sub_(peak[..., None]).exp_()
        added = torch.stack([w @ v for w, v in zip(weights, tile_values, strict=True)])
        top[:, :left] = peak
        total[:, :left] = total[:, :left] * shrink + weights.sum(-1)
        mixed[:, :left] = mixed[:, :left] * shrink[..., None] + added
    mixed /= total[..., None]
    return mixed.unflatten(2, (count, -1)).movedim(0, 2).flatten(2, 3)
    # END SOLUTION


def _read(pool: Tensor, slots: Tensor, wide: torch.dtype) -> Tensor:
    """(kv_heads, spans, places, head_dim): what lies in slots (spans, places) of one layer's pool."""
    # BEGIN SOLUTION 5.2
    rows = pool.view(-1, *pool.shape[2:]).index_select(0, slots.flatten())
    return rows.to(wide).unflatten(0, slots.shape).movedim(2, 0)
    # END SOLUTION
