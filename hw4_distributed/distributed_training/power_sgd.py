"""Task 4.8: PowerSGD: gradients as products of two thin matrices (Vogels et al., 2019)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from distributed_training.collectives import ring_all_reduce
from distributed_training.communicator import Communicator
from distributed_training.data_parallel import Bucket


def orthonormalize(matrix: Tensor, least: float = 1e-5) -> Tensor:
    """Columns made orthogonal and of length 1, by Gram–Schmidt, one after the other.

    matrix: (rows, columns), floats. Where at most the part `least` of a column's length is left when
    those before it are taken off (it hangs on them; what is left is rounding), or it was zero, it
    becomes zeros: never nan, and never noise blown up to length 1. The answer does not depend on
    the scale: columns of length 1e-15, as gradients may give, count like others. A new matrix.
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
    the last step's, its columns scaled to length 1; see `_start`. Error feedback: M includes what
    the last step left out on this rank, M − P·Qᵀ. Vectors, and
    matrices for which two factors are no smaller, are averaged as they are. All of a bucket's P
    travel in one all-reduce, and all of its Q in another; what is not compressed travels with P. All
    of it, M, P, Q and the errors, is in the bucket's type.
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
        self.calls: dict[int, int] = {}

    def __call__(self, ranks: Communicator, bucket: Bucket) -> None:
        """Replace `bucket.flat` by the compressed mean."""
        raise NotImplementedError("task 4.8: PowerSGDReducer.__call__")

    def _start(self, key: tuple[int, int], matrix: Tensor) -> Tensor:
        """The Q to start from: (columns, rank), in the matrix's type, the same on all ranks.

        Random without a warm start, and at first: another one for each seed, bucket, parameter and
        call (`_random` is given). Afterwards the last step's Q with columns of length 1. A column of
        zeros there (the gradient was zero, or of lower rank) is replaced by the random one, or it
        would stay zero for ever: P = M·0.
        """
        raise NotImplementedError("task 4.8: PowerSGDReducer._start")

    def _random(self, key: tuple[int, int], matrix: Tensor) -> Tensor:
        """Given: columns of about length 1, alike on all ranks, new in each call of the bucket."""
        number = 0
        for part in (self.seed, *key, self.calls.get(key[0], 0)):
            number = (number * 1_000_003 + part) % 2**63
        generator = torch.Generator().manual_seed(number)
        q = torch.randn(matrix.shape[1], self.rank, generator=generator)
        return (q / matrix.shape[1] ** 0.5).to(matrix)

    def state_dict(self) -> dict[str, Any]:
        """Errors and factors by (bucket, place), calls by bucket."""
        parts = {"errors": self.errors, "factors": self.factors}
        copies = {n: {key: t.clone() for key, t in part.items()} for n, part in parts.items()}
        return {**copies, "calls": dict(self.calls)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.errors = {key: t.clone() for key, t in state["errors"].items()}
        self.factors = {key: t.clone() for key, t in state["factors"].items()}
        self.calls = dict(state["calls"])


def _mean_together(ranks: Communicator, tensors: list[Tensor]) -> None:
    """Given: the mean over ranks of all tensors, in place, in one all-reduce."""
    if not tensors:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    ring_all_reduce(ranks, flat, average=True)
    for tensor, piece in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(piece.view(tensor.shape))
