"""Given: the pool of keys and values, all layers, all requests."""

from __future__ import annotations

import torch

from serving.config import EngineConfig, LlamaSizes


class KVPool:
    """keys, values: (layers, blocks, block_size, kv_heads, head_dim); never moved, never cleared."""

    def __init__(
        self, sizes: LlamaSizes, config: EngineConfig, dtype: torch.dtype = torch.float32
    ) -> None:
        shape = (
            sizes.num_layers, config.num_blocks, config.block_size,
            sizes.num_kv_heads, sizes.head_dim,
        )  # fmt: skip
        self.keys = torch.zeros(shape, dtype=dtype)
        self.values = torch.zeros(shape, dtype=dtype)

    def copy_blocks(self, pairs: list[tuple[int, int]]) -> None:
        """Copy whole blocks, in every layer; pairs of (from, to)."""
        for source, target in pairs:
            self.keys[:, target].copy_(self.keys[:, source])
            self.values[:, target].copy_(self.values[:, source])
