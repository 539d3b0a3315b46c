"""A linear layer that multiplies by packed weights, each byte read once. Given.

At batch 1 a decode step reads every weight and does two operations with it: the time is that of
reading. A kernel that makes floats first writes and reads eight times the bytes it saves. Here
codes are widened in registers, a row of the weight at a time.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from serving.quantize import QuantizedWeight

FEW_ROWS = 4  # up to here the kernel wins; beyond, floats made once serve many rows


@numba.njit(parallel=True, fastmath=True, cache=True)
def _times_packed(
    low: np.ndarray, high: np.ndarray, codes: np.ndarray, scales: np.ndarray, zeros: np.ndarray,
    out: np.ndarray,
) -> None:  # fmt: skip
    """out[i] = Σ_groups scale · (Σ code · x − zero · Σ x), two codes a byte, one input row.

    low, high: the inputs at even and at odd places, (in / 2,) float32. zeros: float32.
    """
    rows, groups = scales.shape
    width = codes.shape[1] // groups
    sums = np.empty(groups, np.float32)
    for g in range(groups):
        sums[g] = low[g * width : (g + 1) * width].sum() + high[g * width : (g + 1) * width].sum()
    for i in numba.prange(rows):
        total = np.float32(0.0)
        for g in range(groups):
            part = np.float32(0.0)
            for j in range(g * width, (g + 1) * width):
                byte = codes[i, j]
                part += np.float32(byte & 15) * low[j] + np.float32(byte >> 4) * high[j]
            total += scales[i, g] * (part - zeros[i, g] * sums[g])
        out[i] = total


@numba.njit(parallel=True, fastmath=True, cache=True)
def _times_bytes(
    x: np.ndarray, codes: np.ndarray, scales: np.ndarray, zeros: np.ndarray, out: np.ndarray
) -> None:
    """The same with one code a byte; x: (in,) float32."""
    rows, groups = scales.shape
    width = codes.shape[1] // groups
    sums = np.empty(groups, np.float32)
    for g in range(groups):
        sums[g] = x[g * width : (g + 1) * width].sum()
    for i in numba.prange(rows):
        total = np.float32(0.0)
        for g in range(groups):
            part = np.float32(0.0)
            for j in range(g * width, (g + 1) * width):
                part += np.float32(codes[i, j]) * x[j]
            total += scales[i, g] * (part - zeros[i, g] * sums[g])
        out[i] = total


class PackedLinear(nn.Module):
    """x · weightᵀ for a `QuantizedWeight`: (…, in) -> (…, out) float32. No gradient.

    Up to FEW_ROWS input rows go through the kernel, more through floats that are dropped again.
    Groups must be even where two codes share a byte (ValueError).
    """

    def __init__(self, weight: QuantizedWeight) -> None:
        super().__init__()
        self.weight = weight
        self.out_features, groups = weight.scales.shape
        self.in_features = weight.codes.shape[1] * (2 if weight.bits <= 4 else 1)
        if weight.bits <= 4 and (self.in_features // groups) % 2:
            raise ValueError("a byte would belong to two groups")
        middle = torch.full_like(weight.scales, 2.0 ** (weight.bits - 1))
        zeros = middle if weight.zeros is None else weight.zeros.to(torch.float32)
        tensors = (weight.codes, weight.scales, zeros)
        self._arrays = tuple(tensor.contiguous().numpy() for tensor in tensors)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """x: (…, in_features), any float type."""
        rows = x.reshape(-1, self.in_features).to(torch.float32)
        if len(rows) > FEW_ROWS:
            return F.linear(x.to(torch.float32), self.weight.dequantize())
        out = np.empty((len(rows), self.out_features), np.float32)
        for row, into in zip(rows.contiguous().numpy(), out, strict=True):
            if self.weight.bits <= 4:
                low, high = np.ascontiguousarray(row[0::2]), np.ascontiguousarray(row[1::2])
                _times_packed(low, high, *self._arrays, into)
            else:
                _times_bytes(row, *self._arrays, into)
        return torch.from_numpy(out).view(*x.shape[:-1], self.out_features)
