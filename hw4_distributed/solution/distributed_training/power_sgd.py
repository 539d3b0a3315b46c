"""Task 4.8: PowerSGD: gradients as products of two thin matrices (Vogels et al., 2019)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from distributed_training.collectives import ring_all_reduce
from distributed_training.communicator import Communicator
from distributed_training.data_parallel import Bucket


def orthonormalize(matrix: Tensor, eps: float = 1e-8) -> Tensor:
    """Columns made orthogonal and of length 1, by Gram–Schmidt, one after the other.

    matrix: (rows, columns) float32. A column that hangs on those before it, or is zero, becomes one
    of at most length 1 and not nan. Returns a new matrix.
    """
    # BEGIN SOLUTION 4.8
    result = matrix.clone()
    for place in range(matrix.shape[1]):
        column = result[:, place]
        before = result[:, :place]
        for _ in range(2):  # once more: what rounding left of the others
            column = column - before @ (before.T @ column)
        result[:, place] = column / (column.norm() + eps)
    return result
    # END SOLUTION


def is_compressed(shape: torch.Size, rank: int) -> bool:
    """Given: whether a gradient of this shape is sent as two factors: where that is less."""
    if len(shape) < 2:
        return False
    rows, columns = shape[0], shape[1:].numel()
    return rank * (rows + columns) < rows * columns


class PowerSGDReducer:
    """A `Reducer`: each matrix M of a bucket as P · Qᵀ with `rank` columns, one power step a call.

    P = M·Q, mean over ranks, orthonormalised; Q = Mᵀ·P, mean over ranks; the result is P·Qᵀ, the
    same on all ranks. A gradient of more dimensions is the matrix (first, rest). Warm start: Q is
    the last step's; the first is random, the same on every rank by `seed`, the bucket and the
    parameter's place in it. Error feedback: M includes what the last step left out. Vectors, and
    matrices for which two factors are no smaller, are averaged as they are. All of a bucket's P
    travel in one all-reduce, and all of its Q in another; what is not compressed travels with P.
    """

    def __init__(
        self, rank: int, error_feedback: bool = True, warm_start: bool = True, seed: int = 0
    ) -> None:
        if rank < 1:
            raise ValueError(f"rank {rank}; at least 1 is needed")
        self.rank, self.error_feedback, self.warm_start = rank, error_feedback, warm_start
        self.seed = seed
        self.errors: dict[tuple[int, int], Tensor] = {}
        self.factors: dict[tuple[int, int], Tensor] = {}

    def __call__(self, ranks: Communicator, bucket: Bucket) -> None:
        """Replace `bucket.flat` by the compressed mean."""
        # BEGIN SOLUTION 4.8
        keys = [(bucket.index, place) for place in range(len(bucket.views))]
        thin = [k for k, v in zip(keys, bucket.views, strict=True)
                if is_compressed(v.shape, self.rank)]  # fmt: skip
        matrices = {}
        for key in thin:
            view = bucket.views[key[1]]
            matrices[key] = view.reshape(view.shape[0], -1).clone()
            if self.error_feedback and key in self.errors:
                matrices[key] += self.errors[key]
        q = {key: self._start(key, matrices[key]) for key in thin}
        p = {key: matrices[key] @ q[key] for key in thin}
        whole = [v for k, v in zip(keys, bucket.views, strict=True) if k not in matrices]
        _mean_together(ranks, [*p.values(), *whole])
        p = {key: orthonormalize(p[key]) for key in thin}
        q = {key: matrices[key].T @ p[key] for key in thin}
        _mean_together(ranks, list(q.values()))
        for key in thin:
            product = p[key] @ q[key].T
            self.errors[key] = matrices[key] - product
            self.factors[key] = q[key]
            view = bucket.views[key[1]]
            view.copy_(product.view(view.shape))
        # END SOLUTION

    def _start(self, key: tuple[int, int], matrix: Tensor) -> Tensor:
        """The Q to start from: (columns, rank), the last one, or a random one alike on all ranks."""
        # BEGIN SOLUTION 4.8
        if self.warm_start and key in self.factors:
            return self.factors[key]
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + key[0] * 1_009 + key[1])
        rank = min(self.rank, *matrix.shape)
        q = torch.randn(matrix.shape[1], rank, generator=generator, dtype=matrix.dtype)
        return q.to(matrix.device)
        # END SOLUTION

    def state_dict(self) -> dict[str, Any]:
        """Errors and factors, by (bucket, place)."""
        parts = {"errors": self.errors, "factors": self.factors}
        return {n: {key: t.clone() for key, t in part.items()} for n, part in parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.errors = {key: t.clone() for key, t in state["errors"].items()}
        self.factors = {key: t.clone() for key, t in state["factors"].items()}


def _mean_together(ranks: Communicator, tensors: list[Tensor]) -> None:
    """Given: the mean over ranks of all tensors, in place, in one all-reduce."""
    if not tensors:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    ring_all_reduce(ranks, flat, average=True)
    for tensor, piece in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(piece.view(tensor.shape))
