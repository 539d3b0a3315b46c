"""Task 3.4: grouped-query attention, and the masks that keep positions and documents apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from language_model.config import ModelConfig
from language_model.layers import apply_rope

if TYPE_CHECKING:
    from language_model.cache import KVCache


def attention_mask(
    query_positions: Tensor,
    key_positions: Tensor,
    query_documents: Tensor | None = None,
    key_documents: Tensor | None = None,
) -> Tensor:
    """Which key each query may see: its own and earlier positions of its own document.

    positions: (batch, queries) and (batch, keys) int64; documents, both or neither, the same
    shapes: ids of documents packed into one row. A negative document id is padding: nobody sees it,
    and it sees nothing. Returns (batch, 1, queries, keys) bool, True where attention is allowed.
    """
    # BEGIN SOLUTION 3.4
    allowed = key_positions[:, None, :] <= query_positions[:, :, None]
    if query_documents is not None and key_documents is not None:
        same = query_documents[:, :, None] == key_documents[:, None, :]
        allowed = allowed & same & (key_documents >= 0)[:, None, :]
    return allowed[:, None]
    # END SOLUTION


def grouped_query_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
) -> Tensor:
    """softmax(query · keyᵀ / sqrt(head_dim)) · value, groups of query heads sharing a key head.

    query: (batch, heads, queries, head_dim); key, value: (batch, kv_heads, keys, head_dim) with
    heads a multiple of kv_heads; query head h uses key head h // (heads // kv_heads) (Ainslie et
    al., 2023). mask: bool, broadcastable to (batch, 1, queries, keys), True where allowed; None
    allows all. Scores of any size that the type holds are fine: the query is scaled before the
    product, and the softmax is in float32 at least. A query that may see nothing gives zeros, and
    zero gradients. Keys and values are not copied once per query head. Returns query's shape and
    type.
    """
    # BEGIN SOLUTION 3.4
    batch, heads, queries, head_dim = query.shape
    kv_heads, keys = key.shape[1], key.shape[2]
    group = heads // kv_heads
    # All query heads of a group are rows of one product with the key head they share.
    rows = (query * head_dim**-0.5).reshape(batch, kv_heads, group * queries, head_dim)
    scores = rows @ key.transpose(-1, -2)  # (batch, kv_heads, group * queries, keys)
    scores = scores.view(batch, kv_heads, group, queries, keys)
    if scores.dtype in (torch.float16, torch.bfloat16):
        scores = scores.float()
    if mask is not None:
        mask = mask[(None,) * (4 - mask.dim())]
        forbidden = ~mask[:, :, None]  # (batch, 1, 1, queries, keys)
        # A finite value: a row of -inf alone would give nan, and nan gradients.
        scores = scores.masked_fill(forbidden, torch.finfo(scores.dtype).min)
        weights = scores.softmax(-1).masked_fill(forbidden, 0.0)
    else:
        weights = scores.softmax(-1)
    weights = weights.to(value.dtype).view(batch, kv_heads, group * queries, keys)
    return (weights @ value).view(batch, heads, queries, head_dim)
    # END SOLUTION


class Attention(nn.Module):
    """Self-attention of one block: projections, rotation, cache, attention, output projection."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        width, kv_width = config.hidden_size, config.num_kv_heads * config.head_dim
        self.config = config
        self.layer = layer
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, kv_width, bias=False)
        self.value = nn.Linear(width, kv_width, bias=False)
        self.output = nn.Linear(width, width, bias=False)

    def forward(
        self,
        x: Tensor,
        rope: tuple[Tensor, Tensor],
        mask: Tensor | None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """x: (batch, time, hidden_size) -> the same shape.

        rope: cos and sin of x's positions. With a cache, the rotated keys and the values of x are
        handed to `cache.update(self.layer, keys, values)`, which returns those of every position so
        far, and x attends to them all; mask is then (batch, 1, time, keys so far).
        """
        # BEGIN SOLUTION 3.4
        batch, time, width = x.shape
        split = (batch, time, -1, self.config.head_dim)
        query = apply_rope(self.query(x).view(split).transpose(1, 2), *rope)
        key = apply_rope(self.key(x).view(split).transpose(1, 2), *rope)
        value = self.value(x).view(split).transpose(1, 2)
        if cache is not None:
            key, value = cache.update(self.layer, key, value)
        attended = grouped_query_attention(query, key, value, mask)
        return self.output(attended.transpose(1, 2).reshape(batch, time, width))
        # END SOLUTION
