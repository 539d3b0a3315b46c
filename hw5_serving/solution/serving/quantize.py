"""Task 5.5: weights as small integers, one scale for each group of neighbours along the input."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class QuantizedWeight:
    """A matrix (out, in) of which each entry is scale · (code − zero).

    codes: uint8, (out, in); where bits ≤ 4 two a byte, (out, in / 2), as `pack_int4` lays them.
    scales: (out, in / group) float32, positive. zeros: (out, in / group) uint8, the code of the
    weight 0, or None where it is 2^(bits − 1) in all groups (symmetric).
    """

    codes: Tensor
    scales: Tensor
    zeros: Tensor | None
    bits: int

    @property
    def nbytes(self) -> int:
        """Given: bytes that codes, scales and zeros take."""
        parts = (self.codes, self.scales, self.zeros)
        return sum(part.nbytes for part in parts if part is not None)

    def unpacked(self) -> Tensor:
        """Given: the codes one a byte: (out, in) uint8."""
        return unpack_int4(self.codes) if self.bits <= 4 else self.codes

    def dequantize(self) -> Tensor:
        """The weights that the codes stand for: (out, in) float32."""
        # BEGIN SOLUTION 5.5
        codes = self.unpacked()
        rows, columns = codes.shape
        groups = self.scales.shape[1]
        grouped = codes.view(rows, groups, columns // groups).to(torch.float32)
        middle = float(2 ** (self.bits - 1))
        zeros = middle if self.zeros is None else self.zeros.to(torch.float32)[..., None]
        return ((grouped - zeros) * self.scales[..., None]).view(rows, columns)
        # END SOLUTION


def check_sizes(weight: Tensor, bits: int, group: int) -> None:
    """Given: ValueError where these bits or groups do not fit the matrix.

    bits: 2 to 8. group divides the number of columns, which is even where two codes share a byte.
    """
    if not 2 <= bits <= 8:
        raise ValueError(f"{bits} bits; 2 to 8 are possible")
    if weight.dim() != 2:
        raise ValueError(f"a matrix is wanted, not shape {tuple(weight.shape)}")
    if group < 1 or weight.shape[1] % group:
        raise ValueError(f"groups of {group} do not fit into rows of {weight.shape[1]}")
    if bits <= 4 and weight.shape[1] % 2:
        raise ValueError(f"a row of {weight.shape[1]} codes does not fill whole bytes")
    if not torch.isfinite(weight).all():
        raise ValueError("a weight is infinite or not a number")


def pack_int4(codes: Tensor) -> Tensor:
    """Two codes a byte: (out, in) uint8 below 16 -> (out, in / 2) uint8.

    Byte j holds code 2j in its low four bits and code 2j + 1 in its high four.
    """
    # BEGIN SOLUTION 5.5
    return codes[:, 0::2] | (codes[:, 1::2] << 4)
    # END SOLUTION


def unpack_int4(packed: Tensor) -> Tensor:
    """The inverse of `pack_int4`: (out, in / 2) -> (out, in) uint8."""
    # BEGIN SOLUTION 5.5
    return torch.stack((packed & 0xF, packed >> 4), dim=2).flatten(1)
    # END SOLUTION


def group_grid(
    weight: Tensor, bits: int, group: int, symmetric: bool = True
) -> tuple[Tensor, Tensor | None]:
    """Scale and zero of each group: (out, in / group) float32, and uint8 or None.

    symmetric: scale = max |w| / (2^(bits − 1) − 1), zero None: the lowest code is not used.
    Otherwise low = min(w, 0) and high = max(w, 0) of the group (so that 0 lies between them),
    scale = (high − low) / (2^bits − 1), zero = round(−low / scale), a tie to the even number.
    A group of zeros has scale 1, and zero 0. All computed in float32.
    """
    # BEGIN SOLUTION 5.5
    by_group = weight.to(torch.float32).reshape(len(weight), weight.shape[1] // group, group)
    if symmetric:
        scales = by_group.abs().amax(2) / (2 ** (bits - 1) - 1)
        return scales.masked_fill(scales == 0, 1.0), None
    low, high = by_group.amin(2).clamp(max=0), by_group.amax(2).clamp(min=0)
    scales = (high - low) / (2**bits - 1)
    scales = scales.masked_fill(scales == 0, 1.0)
    return scales, (-low / scales).round().clamp(0, 2**bits - 1).to(torch.uint8)
    # END SOLUTION


def nearest_codes(weight: Tensor, scales: Tensor, zeros: Tensor | None, bits: int) -> Tensor:
    """The code nearest to each weight on its group's grid: (out, in) uint8, not packed.

    code = round(w / scale) + zero, a tie of the rounding to the even number, then clamped to
    0 … 2^bits − 1. in / group is the number of columns of `scales`.
    """
    # BEGIN SOLUTION 5.5
    rows, columns = weight.shape
    groups = scales.shape[1]
    grouped = weight.to(torch.float32).reshape(rows, groups, columns // groups)
    steps = (grouped / scales[..., None]).round()
    zero = float(2 ** (bits - 1)) if zeros is None else zeros[..., None].to(torch.float32)
    return (steps + zero).clamp(0, 2**bits - 1).to(torch.uint8).view(rows, columns)
    # END SOLUTION


def quantize(
    weight: Tensor, bits: int = 8, group: int = 64, symmetric: bool = True
) -> QuantizedWeight:
    """Round to nearest, group by group. weight: (out, in), any float type, any strides; unchanged.

    Raises ValueError as `check_sizes` does.
    """
    check_sizes(weight, bits, group)
    # BEGIN SOLUTION 5.5
    scales, zeros = group_grid(weight, bits, group, symmetric)
    codes = nearest_codes(weight, scales, zeros, bits)
    return QuantizedWeight(pack_int4(codes) if bits <= 4 else codes, scales, zeros, bits)
    # END SOLUTION
