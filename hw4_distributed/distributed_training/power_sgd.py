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
    raise NotImplementedError("task 4.8: orthonormalize")


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
        raise NotImplementedError("task 4.8: PowerSGDReducer.__call__")

    def _start(self, key: tuple[int, int], matrix: Tensor) -> Tensor:
        """The Q to start from: (columns, rank), the last one, or a random one alike on all ranks."""
        raise NotImplementedError("task 4.8: PowerSGDReducer._start")

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
