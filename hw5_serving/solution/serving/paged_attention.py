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
    # BEGIN SOLUTION 5.2
    result = torch.zeros_like(query)
    for group in _plan(tuple(spans), keys.shape[1], TILE):
        result[group.rows] = _attend(query[group.rows], keys, values, group).to(query.dtype)
    return result
    # END SOLUTION


@lru_cache(maxsize=1)
@torch.inference_mode(False)  # a plan may be made in inference mode and used again outside of it
def _plan(spans: tuple[AttentionSpan, ...], block_size: int, tile: int) -> list[_Group]:
    """What depends on the spans alone: made by a step's first layer, kept for the other 29.

    All callers get the same tensors, so nobody may write to them. Other spans, as those of another
    engine in between, only cost a new plan.
    """
    # BEGIN SOLUTION 5.2
    groups = []
    for count in {span.count for span in spans}:
        group = sorted((span for span in spans if span.count == count), key=lambda s: -s.first)
        rows = torch.tensor([span.start for span in group])[:, None] + torch.arange(count)
        own = torch.tensor([span.first for span in group])[:, None] + torch.arange(count)
        ends = (own[:, -1] + 1).tolist()
        widest = max(len(span.block_table) for span in group)
        padded = [[*span.block_table, *[0] * (widest - len(span.block_table))] for span in group]
        table, tiles = torch.tensor(padded), []
        for begin in range(0, ends[0], tile):
            left = sum(end > begin for end in ends)  # texts that are over are the last ones
            places = torch.arange(begin, min(begin + tile, ends[0]))
            slots = table[:left, places // block_size] * block_size + places % block_size
            # Behind a text's end its position 0 is read: it was written, and the mask hides it.
            slots = torch.where(places <= own[:left, -1:], slots, table[:left, :1] * block_size)
            hides = places[-1] > group[left - 1].first  # no row is at an earlier position
            tiles.append((slots, places if hides else None))
        groups.append(_Group(rows, own, tiles))
    return groups
    # END SOLUTION


def _attend(query: Tensor, keys: Tensor, values: Tensor, group: _Group) -> Tensor:
    """query: (spans, count, heads, head_dim), in the order of the group; returns its like."""
    # BEGIN SOLUTION 5.2
    count, _, width = query.shape[1:]
    wide = torch.promote_types(query.dtype, torch.float32)
    grouped = (query.to(wide) * width**-0.5).unflatten(2, (keys.shape[2], -1))
    grouped = grouped.movedim(2, 0).flatten(2, 3)  # (kv_heads, spans, count · heads of each, width)
    top = total = mixed = grouped[:0]  # tile 0 sets them
    for number, (slots, places) in enumerate(group.tiles):
        left = len(slots)
        # One pool at a time: the values' tile takes the memory of the keys', still in the cache.
        scores = _by_head(grouped[:, :left], _read(keys, slots, wide).mT)
        if places is not None:
            hidden = places > group.own[:left, :, None, None]
            scores.unflatten(2, (count, -1)).masked_fill_(hidden, -torch.inf)
        peak = scores.amax(-1)  # finite in tile 0: all may see position 0
        if number > 0:
            peak = torch.maximum(top[:, :left], peak)
        weights = scores.sub_(peak[..., None]).exp_()
        added = _by_head(weights, _read(values, slots, wide))
        if number == 0:
            top, total, mixed = peak, weights.sum(-1), added
            continue
        shrink = torch.exp(top[:, :left] - peak)
        top[:, :left] = peak
        total[:, :left].mul_(shrink).add_(weights.sum(-1))
        mixed[:, :left].mul_(shrink[..., None]).add_(added)
    mixed /= total[..., None]
    return mixed.unflatten(2, (count, -1)).movedim(0, 2).flatten(2, 3)
    # END SOLUTION


def _by_head(ours: Tensor, theirs: Tensor) -> Tensor:
    """ours @ theirs, one key-value head (their first axis) after the other: neither is copied."""
    # BEGIN SOLUTION 5.2
    return torch.stack([a @ b for a, b in zip(ours, theirs, strict=True)])
    # END SOLUTION


def _read(pool: Tensor, slots: Tensor, wide: torch.dtype) -> Tensor:
    """(kv_heads, spans, places, head_dim): what lies in slots (spans, places) of one layer's pool."""
    # BEGIN SOLUTION 5.2
    rows = pool.view(-1, *pool.shape[2:]).index_select(0, slots.flatten())
    return rows.to(wide).unflatten(0, slots.shape).movedim(2, 0)
    # END SOLUTION
