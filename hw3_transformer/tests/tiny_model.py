"""A small Llama for tests: sizes, random weights, and a forward pass written another way.

Trusted side. The oracle repeats key and value heads and calls torch's own attention; it shares no
line with the homework's reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Weights = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Sizes:
    """The fields of `language_model.config.ModelConfig`."""

    vocab_size: int = 97
    hidden_size: int = 48
    num_layers: int = 2
    num_heads: int = 6
    num_kv_heads: int = 2
    intermediate_size: int = 80
    max_positions: int = 256
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5
    tie_embeddings: bool = True

    def but(self, **changes: Any) -> Sizes:
        """The same with some fields changed."""
        return replace(self, **changes)

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.hidden_size // self.num_heads

    def fields(self) -> dict[str, Any]:
        """As they cross to a driver."""
        return asdict(self)


def random_weights(rng: np.random.Generator, sizes: Sizes, scale: float = 0.15) -> dict[str, Any]:
    """float32 arrays under the names of `Llama.state_dict()`, large enough to tell mistakes apart."""
    width, inner = sizes.hidden_size, sizes.intermediate_size
    kv_width = sizes.num_kv_heads * sizes.head_dim
    shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (sizes.vocab_size, width)}
    for layer in range(sizes.num_layers):
        block = f"blocks.{layer}."
        shapes |= {
            f"{block}attention_norm.weight": (width,),
            f"{block}attention.query.weight": (width, width),
            f"{block}attention.key.weight": (kv_width, width),
            f"{block}attention.value.weight": (kv_width, width),
            f"{block}attention.output.weight": (width, width),
            f"{block}ffn_norm.weight": (width,),
            f"{block}ffn.gate.weight": (inner, width),
            f"{block}ffn.up.weight": (inner, width),
            f"{block}ffn.down.weight": (width, inner),
        }
    shapes["norm.weight"] = (width,)
    if not sizes.tie_embeddings:
        shapes["head.weight"] = (sizes.vocab_size, width)
    return {
        name: (rng.uniform(0.5, 1.5, shape) if len(shape) == 1 else rng.normal(0, scale, shape))
        .astype(np.float32)
        for name, shape in shapes.items()
    }  # fmt: skip


def tensors(weights: Weights, dtype: torch.dtype = torch.float64, grad: bool = False) -> Any:
    """The weights as torch tensors; leaves that want gradients where asked."""
    return {
        name: torch.tensor(array).to(dtype).requires_grad_(grad) for name, array in weights.items()
    }


def reference_hidden(
    weights: Mapping[str, Tensor], sizes: Sizes, ids: Tensor,
    positions: Tensor | None = None, documents: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """What the head reads: (batch, time, hidden_size), in the weights' type."""
    batch, time = ids.shape
    visible = torch.ones(time, time, dtype=torch.bool).tril()[None, None]
    if documents is not None:
        same = documents[:, None, :, None] == documents[:, None, None, :]
        # Padding sees itself here, so that no row is empty; its outputs are nobody's business.
        visible = visible & same
    if positions is None:
        positions = torch.arange(time).expand(batch, time)
    exponents = torch.arange(0, sizes.head_dim, 2, dtype=torch.float64) / sizes.head_dim
    angles = positions[..., None].double() * sizes.rope_theta**-exponents
    turn = torch.polar(torch.ones_like(angles), angles)[:, None]  # (batch, 1, time, head_dim / 2)
    x = weights["embedding.weight"][ids]
    for layer in range(sizes.num_layers):
        block = f"blocks.{layer}."
        part = {
            name.removeprefix(block): w for name, w in weights.items() if name.startswith(block)
        }
        h = _normalized(x, part["attention_norm.weight"], sizes.norm_eps)
        q, k, v = (
            (h @ part[f"attention.{name}.weight"].T).view(batch, time, -1, sizes.head_dim)
            .transpose(1, 2)
            for name in ("query", "key", "value")
        )  # fmt: skip
        repeats = sizes.num_heads // sizes.num_kv_heads
        q, k = _turned(q, turn), _turned(k, turn)
        k, v = (a.repeat_interleave(repeats, dim=1) for a in (k, v))
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
        x = x + seen.transpose(1, 2).flatten(2) @ part["attention.output.weight"].T
        h = _normalized(x, part["ffn_norm.weight"], sizes.norm_eps)
        gated = F.silu(h @ part["ffn.gate.weight"].T) * (h @ part["ffn.up.weight"].T)
        x = x + gated @ part["ffn.down.weight"].T
    return _normalized(x, weights["norm.weight"], sizes.norm_eps)


def reference_logits(
    weights: Mapping[str, Tensor], sizes: Sizes, ids: Tensor,
    positions: Tensor | None = None, documents: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """(batch, time, vocab_size)."""
    hidden = reference_hidden(weights, sizes, ids, positions, documents)
    return hidden @ weights["embedding.weight" if sizes.tie_embeddings else "head.weight"].T


def _normalized(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), weight, eps)


def _turned(x: Tensor, turn: Tensor) -> Tensor:
    """Halves as real and imaginary parts, multiplied by a unit complex number."""
    real, imaginary = x.double().chunk(2, dim=-1)
    turned = torch.complex(real, imaginary) * turn
    return torch.cat([turned.real, turned.imag], dim=-1).to(x.dtype)
