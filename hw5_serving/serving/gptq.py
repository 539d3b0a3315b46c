"""Task 5.6: GPTQ (Frantar et al., 2022): what rounding a column costs, later columns make good."""

from __future__ import annotations

import torch
from torch import Tensor

from serving.quantize import (
    QuantizedWeight,
    check_sizes,
    group_grid,
    nearest_codes,
    pack_int4,
)


class InputStatistics:
    """The sum over inputs x of x xᵀ, batch by batch: all that GPTQ has to know of the data.

    hessian: (in, in) float64, 2 / count · Σ x xᵀ, the second derivative of the mean squared error
    of a row's output by the row's weights. Zero before the first batch.
    """

    def __init__(self, features: int) -> None:
        self.count = 0
        self.hessian = torch.zeros(features, features, dtype=torch.float64)

    def add(self, inputs: Tensor) -> None:
        """Take in a batch of what the layer reads: (…, in). The batches' split does not matter."""
        raise NotImplementedError("task 5.6: InputStatistics.add")


def output_error(weight: Tensor, other: Tensor, hessian: Tensor) -> float:
    """Given: mean over inputs of |W x − V x|², by the hessian alone: ½ tr((W − V) H (W − V)ᵀ)."""
    difference = weight.to(torch.float64) - other.to(torch.float64)
    return 0.5 * float(((difference @ hessian) * difference).sum())


def inverse_factor(hessian: Tensor, damping: float = 0.01) -> Tensor:
    """Upper triangular U with UᵀU the inverse of the damped hessian: (in, in) float64.

    An input that was never other than 0 gets 1 on the diagonal first. Then `damping` times the
    mean of the diagonal is added to the diagonal. The argument stays as it was.
    """
    raise NotImplementedError("task 5.6: inverse_factor")


def gptq(
    weight: Tensor, hessian: Tensor, bits: int = 4, group: int = 64, symmetric: bool = True,
    damping: float = 0.01, block: int = 128, by_importance: bool = False,
) -> QuantizedWeight:  # fmt: skip
    """The matrix (out, in) in codes, chosen for a small error of the layer's output.

    Columns are rounded one after another. With U of `inverse_factor`, what rounding column j lost,
    divided by U[j, j], times the rest of U's row j is taken from the columns that are still to
    come: that is the best answer to the loss, given the columns already fixed. A group's grid
    (`group_grid`) is made when its first column is reached, from the columns as they are by then.

    block: columns beyond this many are updated once per block, by one matrix product: the result
    is the same, up to rounding, for every block ≥ 1. by_importance: the column with the largest
    diagonal entry of `hessian` first (of equals the lower); the grids are then made of the
    weights as given, before the first column, and codes lie in the matrix's own order.
    Works in float64, arguments unchanged. Raises ValueError as `check_sizes` does, and where the
    hessian's shape is not (in, in).
    """
    check_sizes(weight, bits, group)
    if hessian.shape != (weight.shape[1], weight.shape[1]):
        raise ValueError(f"hessian {tuple(hessian.shape)} for {weight.shape[1]} inputs")
    raise NotImplementedError("task 5.6: gptq")


def _as_of_now(
    left: Tensor, losses: Tensor, factor: Tensor, start: int, first: int, end: int, group: int
) -> Tensor:
    """The columns of the group that begins at `first`, also those that lie beyond the block."""
    raise NotImplementedError("task 5.6: _as_of_now")
