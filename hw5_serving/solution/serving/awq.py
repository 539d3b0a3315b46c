"""Task 5.7: AWQ (Lin et al., 2023): inputs that matter get a finer grid, at no cost when running."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from serving.quantize import quantize


def mean_magnitude(inputs: Tensor) -> Tensor:
    """Mean of |x| of each input feature, over everything else: (…, in) -> (in,) float32."""
    # BEGIN SOLUTION 5.7
    return inputs.to(torch.float32).abs().flatten(0, -2).mean(0)
    # END SOLUTION


def candidate_scale(magnitude: Tensor, alpha: float) -> Tensor:
    """magnitude^alpha, divided by √(largest · smallest) of these powers: (in,) float32.

    Magnitudes below 1e-4 count as 1e-4, so that no scale is 0. alpha 0 gives ones.
    """
    # BEGIN SOLUTION 5.7
    powers = magnitude.clamp(min=1e-4) ** alpha
    return powers / (powers.max() * powers.min()).sqrt()
    # END SOLUTION


def rounding_error(
    inputs: Tensor, weights: Sequence[Tensor], scale: Tensor, bits: int, group: int,
    symmetric: bool = True,
) -> float:  # fmt: skip
    """Σ over the matrices of the mean, over inputs x, of |W x − Q(W·scale) (x / scale)|².

    Q: `quantize` and back. inputs: (rows, in); scale: (in,), by which column j of each matrix is
    multiplied before rounding.
    """
    # BEGIN SOLUTION 5.7
    total = 0.0
    for weight in weights:
        rounded = quantize(weight * scale, bits, group, symmetric).dequantize() / scale
        total += float((inputs @ (weight - rounded).T).square().sum(1).mean())
    return total
    # END SOLUTION


def search_scale(
    inputs: Tensor, weights: Sequence[Tensor], bits: int = 4, group: int = 64,
    symmetric: bool = True, steps: int = 20,
) -> Tensor:  # fmt: skip
    """The `candidate_scale` with the least `rounding_error`, alpha in 0, 1/steps, … up to 1.

    inputs: (…, in), what all of `weights` (each (out, in)) read. One scale for all of them, for it
    is folded into the one thing that comes before them. Of equal errors the smaller alpha wins, so
    that the result is never worse than rounding as it is. Returns (in,) float32. Raises ValueError
    where there is no input row or no matrix.
    """
    rows = inputs.reshape(-1, inputs.shape[-1]).to(torch.float32)
    if not len(rows) or not weights:
        raise ValueError("a scale is searched for at least one input and one matrix")
    # BEGIN SOLUTION 5.7
    magnitude = mean_magnitude(rows)
    best, least = torch.ones_like(magnitude), float("inf")
    for step in range(steps + 1):
        scale = candidate_scale(magnitude, step / steps)
        error = rounding_error(rows, weights, scale, bits, group, symmetric)
        if error < least:
            best, least = scale, error
    return best
    # END SOLUTION


def fold_into_norm(
    norm: Tensor, weights: Sequence[Tensor], scale: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """The norm's weight (in,) and the matrices (out, in) after it, such that their product stays.

    The norm's output is divided by `scale`, the matrices' columns are multiplied by it. New
    tensors; the arguments stay as they were. For RMSNorm, whose weight comes last.
    """
    # BEGIN SOLUTION 5.7
    return norm / scale, [weight * scale for weight in weights]
    # END SOLUTION


def fold_into_rows(previous: Tensor, following: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """The same between two matrices: up_proj and down_proj, or v_proj and o_proj.

    previous: (in, before), following: (out, in), scale: (in,). Rows of `previous` are divided,
    columns of `following` multiplied. What lies between must be linear in each feature, as the
    gate times up_proj is. With grouped queries o_proj has more columns than v_proj has rows: no
    such scale exists for it, and ValueError is raised.
    """
    if previous.shape[0] != following.shape[1]:
        raise ValueError(f"{previous.shape[0]} rows do not feed {following.shape[1]} columns")
    # BEGIN SOLUTION 5.7
    return previous / scale[:, None], following * scale
    # END SOLUTION
