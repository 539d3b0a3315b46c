"""Task 5.7: AWQ (Lin et al., 2023): inputs that matter get a finer grid, at no cost when running."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from serving.quantize import quantize


def mean_magnitude(inputs: Tensor) -> Tensor:
    """Mean of |x| of each input feature, over everything else: (…, in) -> (in,) float32."""
    raise NotImplementedError("task 5.7: mean_magnitude")


def candidate_scale(magnitude: Tensor, alpha: float) -> Tensor:
    """magnitude^alpha, divided by √(largest · smallest) of these powers: (in,) float32.

    Magnitudes below 1e-4 count as 1e-4, so that no scale is 0. alpha 0 gives ones.
    """
    raise NotImplementedError("task 5.7: candidate_scale")


def rounding_error(
    inputs: Tensor, weights: Sequence[Tensor], scale: Tensor, bits: int, group: int,
    symmetric: bool = True,
) -> float:  # fmt: skip
    """Σ over the matrices of the mean, over inputs x, of |W x − Q(W·scale) (x / scale)|².

    Q: `quantize` and back. inputs: (rows, in); scale: (in,), by which column j of each matrix is
    multiplied before rounding.
    """
    raise NotImplementedError("task 5.7: rounding_error")


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
    raise NotImplementedError("task 5.7: search_scale")


def fold_into_norm(
    norm: Tensor, weights: Sequence[Tensor], scale: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """The norm's weight (in,) and the matrices (out, in) after it, such that their product stays.

    The norm's output is divided by `scale`, the matrices' columns are multiplied by it. New
    tensors; the arguments stay as they were. For RMSNorm, whose weight comes last.
    """
    raise NotImplementedError("task 5.7: fold_into_norm")


def fold_into_rows(previous: Tensor, following: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """The same between two matrices: up_proj and down_proj, or v_proj and o_proj.

    previous: (in, before), following: (out, in), scale: (in,). Rows of `previous` are divided,
    columns of `following` multiplied. What lies between must be linear in each feature, as the
    gate times up_proj is. With grouped queries o_proj has more columns than v_proj has rows: no
    such scale exists for it, and ValueError is raised.
    """
    if previous.shape[0] != following.shape[1]:
        raise ValueError(f"{previous.shape[0]} rows do not feed {following.shape[1]} columns")
    raise NotImplementedError("task 5.7: fold_into_rows")
