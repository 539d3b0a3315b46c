"""A small Llama-style language model, the one that every kind of parallelism here trains. Given."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class ModelConfig:
    """Sizes. num_heads divides hidden_size; head_dim is even."""

    vocab_size: int = 256
    hidden_size: int = 64
    num_layers: int = 4
    num_heads: int = 4
    intermediate_size: int = 160
    max_positions: int = 128
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5
    tie_embeddings: bool = False

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.hidden_size // self.num_heads


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + eps) · weight."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """x: (…, width) -> the same shape."""
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


def rotate(x: Tensor, theta: float, start: int = 0) -> Tensor:
    """Rotary positions start, start + 1, … on x: (batch, heads, time, head_dim)."""
    time, width = x.shape[-2:]
    frequencies = theta ** (-torch.arange(0, width, 2, device=x.device) / width)
    angles = (start + torch.arange(time, device=x.device))[:, None] * frequencies
    cos, sin = (torch.cat([part, part], -1).to(x.dtype) for part in (angles.cos(), angles.sin()))
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin


class Attention(nn.Module):
    """Causal self-attention. heads: how many of the model's heads this module computes."""

    def __init__(self, config: ModelConfig, heads: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.heads = config.num_heads if heads is None else heads
        width = self.heads * config.head_dim
        self.query = nn.Linear(config.hidden_size, width, bias=False)
        self.key = nn.Linear(config.hidden_size, width, bias=False)
        self.value = nn.Linear(config.hidden_size, width, bias=False)
        self.output = nn.Linear(width, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, time, hidden_size) -> the same shape."""
        batch, time, _ = x.shape
        split = (batch, time, self.heads, self.config.head_dim)
        query, key, value = (
            layer(x).view(split).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        query, key = (rotate(part, self.config.rope_theta) for part in (query, key))
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.output(seen.transpose(1, 2).reshape(batch, time, -1))


class SwiGLU(nn.Module):
    """down(silu(gate(x)) · up(x))."""

    def __init__(self, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.gate = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.up = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.down = nn.Linear(intermediate_size, hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: (…, hidden_size) -> the same shape."""
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    """x + attention(norm(x)), then x + ffn(norm(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.attention: nn.Module = Attention(config)
        self.ffn_norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.ffn: nn.Module = SwiGLU(config.hidden_size, config.intermediate_size)

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, time, hidden_size) -> the same shape."""
        x = x + self.attention(self.attention_norm(x))
        return x + self.ffn(self.ffn_norm(x))


class Llama(nn.Module):
    """Embedding, blocks, norm, head: logits of every position."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding: nn.Module = nn.Embedding(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.head: nn.Module = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight

    def initialize(self, seed: int, scale: float = 0.05) -> Llama:
        """Normal weights, the same for the same seed on every rank."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in self.parameters():
                if weight.dim() == 2:
                    weight.normal_(0.0, scale, generator=generator)
        return self

    def forward(self, ids: Tensor) -> Tensor:
        """ids: (batch, time) int64 -> (batch, time, vocab_size)."""
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def next_token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """The mean cross-entropy of (batch, time, vocab_size) against (batch, time) int64."""
    return F.cross_entropy(logits.flatten(0, -2).float(), targets.flatten())
