"""Given: a Llama over a flat batch of tokens, its attention left to whoever holds the cache."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from serving.config import LlamaSizes

# (layer, query (tokens, heads, head_dim), key (tokens, kv_heads, head_dim), value) -> like query
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


class DecoderLayer(nn.Module):
    """One layer's weights and its two residual branches."""

    def __init__(self, sizes: LlamaSizes) -> None:
        super().__init__()
        wide, narrow = sizes.num_heads * sizes.head_dim, sizes.num_kv_heads * sizes.head_dim
        hidden, inner = sizes.hidden_size, sizes.intermediate_size
        self.head_dim = sizes.head_dim
        self.input_norm = nn.RMSNorm(hidden, sizes.norm_eps)
        self.q_proj = nn.Linear(hidden, wide, bias=False)
        self.k_proj = nn.Linear(hidden, narrow, bias=False)
        self.v_proj = nn.Linear(hidden, narrow, bias=False)
        self.o_proj = nn.Linear(wide, hidden, bias=False)
        self.post_norm = nn.RMSNorm(hidden, sizes.norm_eps)
        self.gate_proj = nn.Linear(hidden, inner, bias=False)
        self.up_proj = nn.Linear(hidden, inner, bias=False)
        self.down_proj = nn.Linear(inner, hidden, bias=False)

    def forward(self, stream: Tensor, phases: Tensor, layer: int, attend: Attend) -> Tensor:
        """stream: (tokens, hidden_size); phases: (tokens, 1, head_dim / 2) complex."""
        inputs = self.input_norm(stream)
        heads = (len(stream), -1, self.head_dim)
        mixed = attend(
            layer,
            rotate(self.q_proj(inputs).reshape(heads), phases),
            rotate(self.k_proj(inputs).reshape(heads), phases),
            self.v_proj(inputs).reshape(heads),
        )
        stream = stream + self.o_proj(mixed.flatten(1))
        inputs = self.post_norm(stream)
        opened = F.silu(self.gate_proj(inputs)).mul(self.up_proj(inputs))
        return stream + self.down_proj(opened)


class Llama(nn.Module):
    """Token ids and their positions in, hidden states out; no batch dimension, no mask."""

    def __init__(self, sizes: LlamaSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.embedding = nn.Embedding(sizes.vocab_size, sizes.hidden_size)
        self.layers = nn.ModuleList([DecoderLayer(sizes) for _ in range(sizes.num_layers)])
        self.norm = nn.RMSNorm(sizes.hidden_size, sizes.norm_eps)
        self.lm_head: nn.Module | None = None
        if not sizes.tied:
            self.lm_head = nn.Linear(sizes.hidden_size, sizes.vocab_size, bias=False)

    def forward(self, ids: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """ids, positions: (tokens,) int64 -> hidden states after the last norm."""
        phases = rotary_phases(positions, self.sizes)
        stream = self.embedding(ids)
        if stream.dtype != torch.float64:
            phases = phases.to(torch.complex64)  # here, not anew in every layer
        for number, layer in enumerate(self.layers):
            stream = layer(stream, phases, number, attend)
        return self.norm(stream)

    def compute_logits(self, hidden: Tensor) -> Tensor:
        """(…, hidden_size) -> (…, vocab_size)."""
        if self.lm_head is None:
            return F.linear(hidden, self.embedding.weight)
        return self.lm_head(hidden)


def rotary_phases(positions: Tensor, sizes: LlamaSizes) -> Tensor:
    """Unit complex numbers (tokens, 1, head_dim / 2) by which the pairs of a head are multiplied."""
    half = sizes.head_dim // 2
    exponent = torch.arange(half, dtype=torch.float64) / half
    turns = torch.outer(positions.double(), torch.pow(sizes.rope_theta, -exponent))
    return torch.polar(torch.ones_like(turns), turns)[:, None]


def rotate(vectors: Tensor, phases: Tensor) -> Tensor:
    """Rotary positions (Su et al., 2021): dimension i is the real part, i + head_dim/2 the other."""
    half = vectors.shape[-1] // 2
    a, b = vectors[..., :half], vectors[..., half:]
    c, s = phases.real.to(vectors.dtype), phases.imag.to(vectors.dtype)
    return torch.cat((a * c - b * s, a * s + b * c), -1)


def causal_attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """An `attend` without a cache: all rows are one text from its beginning."""
    q, k, v = (part.movedim(0, 1)[None] for part in (query, key, value))
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return out[0].movedim(0, 1)
