"""Task 5.8: which weights can go: Wanda (Sun et al., 2023) and two of four (Mishra et al., 2021)."""

from __future__ import annotations

import torch
from torch import Tensor


def input_norms(inputs: Tensor) -> Tensor:
    """Euclidean norm of each input feature over everything else: (…, in) -> (in,) float32."""
    raise NotImplementedError("task 5.8: input_norms")


def wanda_scores(weight: Tensor, norms: Tensor) -> Tensor:
    """|w[i, j]| · norms[j]: what the output of row i loses without this weight. (out, in)."""
    raise NotImplementedError("task 5.8: wanda_scores")


def row_mask(scores: Tensor, sparsity: float) -> Tensor:
    """True where a weight stays: (out, in) bool. Each row loses round(sparsity · in) of its own.

    Those of the lowest scores go; of equal scores the one at the higher place goes first. Rows are
    compared only with themselves: scores of different rows are about different outputs. Raises
    ValueError where sparsity is not in [0, 1].
    """
    if not 0.0 <= sparsity <= 1.0:
        raise ValueError(f"sparsity {sparsity} is not in [0, 1]")
    raise NotImplementedError("task 5.8: row_mask")


def semi_structured_mask(scores: Tensor, keep: int = 2, of: int = 4) -> Tensor:
    """True where a weight stays: `keep` of each `of` neighbours along a row, (out, in) bool.

    The highest scores stay; of equal ones the lower place. Raises ValueError where rows are no
    multiple of `of` long.
    """
    if scores.shape[1] % of:
        raise ValueError(f"runs of {of} do not fit into rows of {scores.shape[1]}")
    raise NotImplementedError("task 5.8: semi_structured_mask")


def compress_2_4(weight: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The kept half, and where it was: values (out, in / 2) and places (out, in / 8) uint8.

    mask: from `semi_structured_mask`, two of each four. Values keep the order of their places. A
    place is 2 bits, 0 to 3 in its four; a byte holds those of eight neighbours, the first in the
    lowest bits. Columns are a multiple of 8. Raises ValueError where a four keeps other than two.
    """
    if weight.shape[1] % 8 or (mask.view(len(mask), -1, 4).sum(2) != 2).any():
        raise ValueError("each four neighbours must keep two, and a row is a multiple of 8 long")
    raise NotImplementedError("task 5.8: compress_2_4")


def decompress_2_4(values: Tensor, places: Tensor) -> Tensor:
    """The matrix (out, in) of `compress_2_4`, 0 where a weight went."""
    raise NotImplementedError("task 5.8: decompress_2_4")
