"""Task 3.3: the parts of a block that act on each position alone: norm, rotation, gated MLP."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x²) + eps) · weight over the last dimension (Zhang and Sennrich, 2019).

    x: (…, hidden_size) of any float type; weight: (hidden_size,). The mean of squares and the
    division are computed in float32; the quotient is rounded to x's type before it is multiplied by
    the weight, as in transformers. Returns x's type where the weight has it too.
    """
    raise NotImplementedError("task 3.3: rms_norm")


class RMSNorm(nn.Module):
    """`rms_norm` with a weight of ones to start from."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """x: (…, width) -> the same shape."""
        return rms_norm(x, self.weight, self.eps)


def rope_tables(positions: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """cos and sin of the angles by which rotary embeddings turn (Su et al., 2021).

    positions: (batch, time) or (time,) int64, the place of each token in its document, not in the
    tensor. Pair i of a head, of head_dim/2, turns by position · theta^(−2i/head_dim). Returns two
    float32 tensors of shape positions.shape + (head_dim,), each angle at i and i + head_dim/2.
    """
    raise NotImplementedError("task 3.3: rope_tables")


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x[i], x[i + head_dim/2]) by its angle.

    x: (batch, heads, time, head_dim); cos, sin: (batch, time, head_dim) or (time, head_dim), as
    `rope_tables` gives them. Returns x's shape and type.
    """
    raise NotImplementedError("task 3.3: apply_rope")


class SwiGLU(nn.Module):
    """The gated MLP of Llama: down(silu(gate(x)) · up(x)) (Shazeer, 2020)."""

    def __init__(self, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.gate = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.up = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.down = nn.Linear(intermediate_size, hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: (…, hidden_size) -> the same shape."""
        raise NotImplementedError("task 3.3: SwiGLU.forward")
