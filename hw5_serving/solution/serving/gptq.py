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
        # BEGIN SOLUTION 5.6
        rows = inputs.detach().reshape(-1, inputs.shape[-1]).to(torch.float64)
        if not len(rows):
            return
        before, self.count = self.count, self.count + len(rows)
        self.hessian *= before / self.count
        self.hessian.addmm_(rows.T, rows, alpha=2 / self.count)
        # END SOLUTION


def output_error(weight: Tensor, other: Tensor, hessian: Tensor) -> float:
    """Given: mean over inputs of |W x − V x|², by the hessian alone: ½ tr((W − V) H (W − V)ᵀ)."""
    difference = weight.to(torch.float64) - other.to(torch.float64)
    return 0.5 * float(((difference @ hessian) * difference).sum())


def inverse_factor(hessian: Tensor, damping: float = 0.01) -> Tensor:
    """Upper triangular U with UᵀU the inverse of the damped hessian: (in, in) float64.

    An input that was never other than 0 gets 1 on the diagonal first. Then `damping` times the
    mean of the diagonal is added to the diagonal. The argument stays as it was.
    """
    # BEGIN SOLUTION 5.6
    damped = hessian.to(torch.float64, copy=True)
    diagonal = damped.diagonal()
    diagonal[diagonal == 0] = 1.0
    diagonal += damping * diagonal.mean()
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    return torch.linalg.cholesky(inverse, upper=True)
    # END SOLUTION


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
    # BEGIN SOLUTION 5.6
    left = weight.detach().to(torch.float64, copy=True)
    columns = left.shape[1]
    scales, zeros = group_grid(weight, bits, group, symmetric)
    places = list(range(columns))
    if by_importance:
        places = hessian.diagonal().argsort(descending=True, stable=True).tolist()
        left, hessian = left[:, places], hessian[places][:, places]
    factor = inverse_factor(hessian, damping)
    codes = torch.empty(left.shape, dtype=torch.uint8)
    for start in range(0, columns, block):
        end = min(start + block, columns)
        losses = left.new_zeros(len(left), end - start)
        for j in range(start, end):
            which = places[j] // group
            if not by_importance and j % group == 0:
                upcoming = _as_of_now(left, losses, factor, start, j, end, group)
                fresh, fresh_zeros = group_grid(upcoming, bits, group, symmetric)
                scales[:, which] = fresh[:, 0]
                if zeros is not None and fresh_zeros is not None:
                    zeros[:, which] = fresh_zeros[:, 0]
            zero = None if zeros is None else zeros[:, which, None]
            code = nearest_codes(left[:, j, None], scales[:, which, None], zero, bits)
            codes[:, places[j]] = code[:, 0]
            middle = 2.0 ** (bits - 1) if zero is None else zero[:, 0].to(torch.float64)
            rounded = (code[:, 0].to(torch.float64) - middle) * scales[:, which]
            losses[:, j - start] = (left[:, j] - rounded) / factor[j, j]
            left[:, j + 1 : end].addr_(losses[:, j - start], factor[j, j + 1 : end], alpha=-1)
        left[:, end:] -= losses @ factor[start:end, end:]
    return QuantizedWeight(pack_int4(codes) if bits <= 4 else codes, scales, zeros, bits)
    # END SOLUTION


def _as_of_now(
    left: Tensor, losses: Tensor, factor: Tensor, start: int, first: int, end: int, group: int
) -> Tensor:
    """The columns of the group that begins at `first`, also those that lie beyond the block."""
    # BEGIN SOLUTION 5.6
    now = left[:, first : first + group].clone()
    beyond = slice(end, first + group)
    if first + group > end:
        now[:, end - first :] -= losses[:, : first - start] @ factor[start:first, beyond]
    return now
    # END SOLUTION
