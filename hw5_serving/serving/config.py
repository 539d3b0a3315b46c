"""Given: the sizes of a model, and of the engine around it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LlamaSizes:
    """Sizes of a Llama. Query heads are a multiple of key-value heads; head_dim is even."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    intermediate_size: int
    max_positions: int = 2048
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5
    tied: bool = True

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_heads


@dataclass(frozen=True)
class EngineConfig:
    """How much an engine may hold and do at once.

    block_size: tokens of one cache block. num_blocks: blocks of the pool. token_budget: the most
    tokens one step computes. max_sequences: the most requests that run side by side. num_guesses:
    tokens that a proposer guesses ahead, for each request and step (5.4).
    """

    block_size: int = 16
    num_blocks: int = 256
    token_budget: int = 256
    max_sequences: int = 64
    prefix_caching: bool = True
    num_guesses: int = 8

    def __post_init__(self) -> None:
        for name in ("block_size", "num_blocks", "token_budget", "max_sequences", "num_guesses"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
