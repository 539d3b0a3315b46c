"""A linear layer whose weight is kept in 8 or 4 bits. Given: the frozen base under an adapter.

Weights are quantised in groups along a row: a group of `group` neighbours shares one float scale,
and each weight is a signed integer times it (symmetric, round to nearest, as in Dettmers et al.,
2023, without their NF4 table). Kernels that multiply by the integers themselves are homework 5's
subject; here the weight is made into floats whenever it is needed, and dropped again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class QuantizedLinear(nn.Module):
    """x · weightᵀ with a frozen weight of `bits` bits an entry.

    weight: (out_features, in_features) float; in_features is a multiple of `group`, which is even.
    codes: int8 (out, in), or uint8 (out, in / 2) with two 4-bit codes a byte, the first low.
    scales: (out, in / group) in the weight's type. Raises ValueError for sizes that do not fit.
    """

    codes: Tensor
    scales: Tensor

    def __init__(self, weight: Tensor, bits: int = 8, group: int = 32) -> None:
        super().__init__()
        if bits not in (4, 8):
            raise ValueError(f"{bits} bits; 4 or 8 are possible")
        self.out_features, self.in_features = weight.shape
        if group % 2 or self.in_features % group:
            raise ValueError(f"groups of {group} do not fit into rows of {self.in_features}")
        self.bits, self.group = bits, group
        limit = 2 ** (bits - 1) - 1  # 127 or 7: as many below zero as above
        groups = weight.detach().reshape(self.out_features, -1, group)
        scales = groups.abs().amax(-1) / limit
        scales = torch.where(scales == 0, torch.ones_like(scales), scales)  # a group of zeros
        codes = (groups / scales[..., None]).round().clamp(-limit, limit).to(torch.int8)
        codes = codes.reshape(self.out_features, self.in_features)
        if bits == 4:
            low, high = codes[:, 0::2] & 15, codes[:, 1::2] & 15
            codes = (low | (high << 4)).view(torch.uint8)
        self.register_buffer("codes", codes)
        self.register_buffer("scales", scales)

    @property
    def weight(self) -> Tensor:
        """The weight as floats, (out_features, in_features), made anew at each call; no gradient."""
        codes = self.codes
        if self.bits == 4:
            both = codes.view(torch.int8)
            low = (both << 4) >> 4  # shifting a signed byte back brings the sign along
            codes = torch.stack([low, both >> 4], dim=-1).reshape(self.out_features, -1)
        groups = codes.reshape(self.out_features, -1, self.group).to(self.scales.dtype)
        return (groups * self.scales[..., None]).reshape(self.out_features, self.in_features)

    @property
    def nbytes(self) -> int:
        """Bytes that codes and scales take."""
        return self.codes.nbytes + self.scales.nbytes

    def forward(self, x: Tensor) -> Tensor:
        """x: (…, in_features) -> (…, out_features), with the gradient to x and to nothing else."""
        return _Multiply.apply(x, self)

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"{self.in_features}, {self.out_features}, {self.bits} bits, groups of {self.group}"


class _Multiply(torch.autograd.Function):
    """Keeps the codes for backward. `F.linear` would keep the floats, of every layer at once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: QuantizedLinear) -> Tensor:
        ctx.layer = layer
        return F.linear(x, layer.weight.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        return upstream @ ctx.layer.weight.to(upstream.dtype), None


def quantize_base(model: nn.Module, bits: int = 8, group: int = 32) -> int:
    """Put a `QuantizedLinear` in the place of every linear layer of the blocks.

    Embedding, norms and head stay as they are. Returns the bytes that the replaced weights take
    now. The model is changed in place; the float weights are free once nobody else holds them.
    """
    held = 0
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.Linear) and name.startswith("blocks."):
            parent, _, last = name.rpartition(".")
            small = QuantizedLinear(layer.weight, bits, group)
            setattr(model.get_submodule(parent), last, small)
            held += small.nbytes
    return held
