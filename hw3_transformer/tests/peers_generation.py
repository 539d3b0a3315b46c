"""The peer of task 3.6: the next token by running the whole text again, without a cache.

torch, one thread, no student code. Also the weights that both sides make from a seed.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np


def seeded_weights(sizes: dict[str, Any], seed: int) -> dict[str, Any]:
    """float32 tensors under the names of `Llama.state_dict()`, of a tied model."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    width, inner = sizes["hidden_size"], sizes["intermediate_size"]
    kv_width = width // sizes["num_heads"] * sizes["num_kv_heads"]
    inside = {
        "attention.query": (width, width), "attention.key": (kv_width, width),
        "attention.value": (kv_width, width), "attention.output": (width, width),
        "ffn.gate": (inner, width), "ffn.up": (inner, width), "ffn.down": (width, inner),
        "attention_norm": (width,), "ffn_norm": (width,),
    }  # fmt: skip
    shapes = {"embedding.weight": (sizes["vocab_size"], width), "norm.weight": (width,)}
    for layer in range(sizes["num_layers"]):
        shapes |= {f"blocks.{layer}.{name}.weight": shape for name, shape in inside.items()}
    return {
        name: torch.rand(shape, generator=generator) + 0.5
        if len(shape) == 1
        else 0.06 * torch.randn(shape, generator=generator)
        for name, shape in shapes.items()
    }


@lru_cache(maxsize=1)
def _held(sizes: tuple[tuple[str, Any], ...], seed: int) -> dict[str, Any]:
    return seeded_weights(dict(sizes), seed)


def recomputed_logits(
    context: np.ndarray, following: np.ndarray, sizes: dict[str, Any], seed: int
) -> np.ndarray:
    """Logits after each of `following` (batch, steps): the text so far is run from its start.

    Only the last position goes through the head, as any generating loop does it.
    """
    import torch

    weights = _held(tuple(sorted(sizes.items())), seed)
    ids = torch.tensor(np.concatenate([context, following], axis=1))
    first = context.shape[1] + 1
    with torch.no_grad():
        steps = [
            _hidden(weights, sizes, ids[:, :end])[:, -1] @ weights["embedding.weight"].T
            for end in range(first, ids.shape[1] + 1)
        ]
    return torch.stack(steps, dim=1).numpy()


def _hidden(weights: dict[str, Any], sizes: dict[str, Any], ids: Any) -> Any:
    """Llama's forward pass with torch's own attention."""
    import torch
    from torch.nn import functional as F  # noqa: N812

    batch, time = ids.shape
    width, heads = sizes["hidden_size"], sizes["num_heads"]
    head_dim, eps = width // heads, sizes["norm_eps"]
    angles = torch.arange(time)[:, None] * sizes["rope_theta"] ** (
        -torch.arange(0, head_dim, 2) / head_dim
    )
    turn = torch.polar(torch.ones_like(angles), angles)

    def turned(x: Any) -> Any:
        pairs = torch.complex(x[..., : head_dim // 2], x[..., head_dim // 2 :]) * turn
        return torch.cat([pairs.real, pairs.imag], dim=-1)

    x = weights["embedding.weight"][ids]
    for layer in range(sizes["num_layers"]):
        start = f"blocks.{layer}."
        w = {n.removeprefix(start): t for n, t in weights.items() if n.startswith(start)}
        h = F.rms_norm(x, (width,), w["attention_norm.weight"], eps)
        q, k, v = (
            (h @ w[f"attention.{name}.weight"].T).view(batch, time, -1, head_dim).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        seen = F.scaled_dot_product_attention(
            turned(q), turned(k), v, is_causal=True, enable_gqa=True
        )
        x = x + seen.transpose(1, 2).flatten(2) @ w["attention.output.weight"].T
        h = F.rms_norm(x, (width,), w["ffn_norm.weight"], eps)
        gated = F.silu(h @ w["ffn.gate.weight"].T) * (h @ w["ffn.up.weight"].T)
        x = x + gated @ w["ffn.down.weight"].T
    return F.rms_norm(x, (width,), weights["norm.weight"], eps)
