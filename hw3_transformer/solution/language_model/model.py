"""Task 3.5: the Llama model, assembled from the parts of tasks 3.3 and 3.4."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from language_model.attention import Attention, attention_mask
from language_model.config import ModelConfig
from language_model.layers import RMSNorm, SwiGLU, rope_tables

if TYPE_CHECKING:
    from language_model.cache import KVCache


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.attention = Attention(config, layer)
        self.ffn_norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.ffn = SwiGLU(config.hidden_size, config.intermediate_size)

    def forward(
        self,
        x: Tensor,
        rope: tuple[Tensor, Tensor],
        mask: Tensor | None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """x: (batch, time, hidden_size) -> the same shape."""
        # BEGIN SOLUTION 3.5
        x = x + self.attention(self.attention_norm(x), rope, mask, cache)
        return x + self.ffn(self.ffn_norm(x))
        # END SOLUTION


class Llama(nn.Module):
    """A decoder-only transformer (Touvron et al., 2023): embedding, blocks, norm, head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.norm_eps)
        if not config.tie_embeddings:
            self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        # Given: run each block under torch.utils.checkpoint while training (task 3.7).
        self.rematerialize = False

    def initialize(self, seed: int, scale: float = 0.02) -> Llama:
        """Given: normal weights of deviation `scale`, those that write into x smaller with depth.

        The same numbers for the same seed, whatever torch's global generator holds.
        """
        generator = torch.Generator().manual_seed(seed)
        depth = (2 * self.config.num_layers) ** -0.5
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if weight.dim() == 2:
                    last = name.endswith(("output.weight", "down.weight"))
                    weight.normal_(0.0, scale * (depth if last else 1.0), generator=generator)
        return self

    def run_block(
        self,
        block: Block,
        x: Tensor,
        rope: tuple[Tensor, Tensor],
        mask: Tensor | None,
        cache: KVCache | None,
    ) -> Tensor:
        """Given: `block(x, rope, mask, cache)`, under a checkpoint where `rematerialize` says so."""
        if self.rematerialize and cache is None and torch.is_grad_enabled():
            return checkpoint(block, x, rope, mask, use_reentrant=False)
        return block(x, rope, mask, cache)

    def hidden_states(
        self,
        ids: Tensor,
        positions: Tensor | None = None,
        documents: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """What the head reads: (batch, time, hidden_size), after the last norm.

        ids: (batch, time) int64. positions: the same shape, the place of each token in its
        document; by default 0, 1, … or, with a cache, on from `cache.lengths`. documents: the same
        shape, ids of documents packed into one row, negative for padding; not with a cache.
        Which token sees which is decided by their order in the row and by documents, not by
        positions. With a cache, `cache.mask(time)` says it, and `cache.advance(time)` is called once
        when all blocks have run. Each block runs through `run_block`.
        Raises ValueError where documents and a cache are both given.
        """
        # BEGIN SOLUTION 3.5
        time = ids.shape[1]
        if cache is not None and documents is not None:
            raise ValueError("packed documents can't be continued from a cache")
        steps = torch.arange(time, device=ids.device)
        if positions is None:
            start = cache.lengths[:, None] if cache is not None else ids.new_zeros(len(ids), 1)
            positions = start + steps
        rope = rope_tables(positions, self.config.head_dim, self.config.rope_theta)
        if cache is not None:
            mask = cache.mask(time)
        elif documents is None:
            mask = attention_mask(steps[None], steps[None])  # one for all rows
        else:
            places = steps.expand_as(ids)
            mask = attention_mask(places, places, documents, documents)
        x = self.embedding(ids)
        for block in self.blocks:
            x = self.run_block(block, x, rope, mask, cache)
        if cache is not None:
            cache.advance(time)
        return self.norm(x)
        # END SOLUTION

    def logits(self, hidden: Tensor) -> Tensor:
        """The head: (…, hidden_size) -> (…, vocab_size), by the embedding's weight where tied."""
        # BEGIN SOLUTION 3.5
        return F.linear(hidden, self.head_weight)
        # END SOLUTION

    @property
    def head_weight(self) -> Tensor:
        """(vocab_size, hidden_size): the matrix of the head, the embedding's where tied."""
        # BEGIN SOLUTION 3.5
        return self.embedding.weight if self.config.tie_embeddings else self.head.weight
        # END SOLUTION

    def forward(
        self,
        ids: Tensor,
        positions: Tensor | None = None,
        documents: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Logits of every position: (batch, time, vocab_size). Arguments as in `hidden_states`."""
        return self.logits(self.hidden_states(ids, positions, documents, cache))
