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
    reads key-value head h // (heads // kv_heads). Only one block per step of the loop is read, with
    a running maximum and sum (online softmax, Milakov and Gimelshein, 2018): no copy of a
    sequence's cache, let alone of the pool, is made. What lies behind a text's last position may be
    anything, nan included. Sums in float32 at least. Returns query's shape and type.
    """
    # BEGIN SOLUTION 5.2
    result = torch.zeros_like(query)
    for span in spans:
        part = slice(span.start, span.start + span.count)
        result[part] = _one_sequence(query[part], keys, values, span).to(query.dtype)
    return result
    # END SOLUTION


def _one_sequence(query: Tensor, keys: Tensor, values: Tensor, span: AttentionSpan) -> Tensor:
    # BEGIN SOLUTION 5.2
    count, heads, width = query.shape
    block_size, kv_heads = keys.shape[1], keys.shape[2]
    wide = torch.promote_types(query.dtype, torch.float32)
    grouped = query.to(wide).mul(width**-0.5).view(count, kv_heads, heads // kv_heads, width)
    own = torch.arange(span.first, span.first + count)
    top = torch.full(grouped.shape[:3], -torch.inf, dtype=wide)
    total = torch.zeros_like(top)
    mixed = torch.zeros_like(grouped)
    end = span.first + count
    for place in range(-(-end // block_size)):
        begin = place * block_size
        used = min(block_size, end - begin)
        block_keys = keys[span.block_table[place], :used].to(wide)  # (used, kv_heads, width)
        block_values = values[span.block_table[place], :used].to(wide)
        scores = torch.einsum("qkgd,skd->qkgs", grouped, block_keys)
        later = torch.arange(begin, begin + used)[None, :] > own[:, None]
        scores = scores.masked_fill(later[:, None, None, :], -torch.inf)
        peak = torch.maximum(top, scores.amax(-1))  # finite: block 0 has a key for every row
        shrink = torch.exp(top - peak)
        weight = torch.exp(scores - peak[..., None])
        total = total * shrink + weight.sum(-1)
        mixed = mixed * shrink[..., None] + torch.einsum("qkgs,skd->qkgd", weight, block_values)
        top = peak
    return (mixed / total[..., None]).reshape(count, heads, width)
    # END SOLUTION
