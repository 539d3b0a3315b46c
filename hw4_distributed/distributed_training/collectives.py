"""Task 4.1: ring collectives, built from send and receive alone (Patarasuk and Yuan, 2009)."""

from __future__ import annotations

import torch
from torch import Tensor

from distributed_training.communicator import Communicator
from distributed_training.partition import chunk_bounds


def ring_reduce_scatter(ranks: Communicator, tensor: Tensor) -> Tensor:
    """Sum over the ranks, of which rank r gets chunk r: a new tensor (stop − start,).

    tensor: one-dimensional, of the same size and type on every rank; it is left as it was. Integers
    are added as torch adds them (they wrap around), booleans are or-ed. Chunks
    are those of `chunk_bounds(len(tensor), ranks.size)`. Takes size − 1 steps; in each, every rank
    sends one chunk to the next rank and receives one from the previous, so each sends all chunks
    but one. An empty chunk is sent like any other.
    """
    raise NotImplementedError("task 4.1: ring_reduce_scatter")


def ring_all_gather(ranks: Communicator, chunk: Tensor, count: int) -> Tensor:
    """Every rank's chunk on every rank: a new tensor (count,), chunk r at `chunk_bounds(…)[r]`.

    chunk: (stop − start,), rank r's own. Takes size − 1 steps, as above. Raises ValueError, before
    anything is sent, where the chunk has not the size that `chunk_bounds(count, size)` gives it.
    """
    raise NotImplementedError("task 4.1: ring_all_gather")


def _gather_in_place(ranks: Communicator, chunks: list[Tensor]) -> None:
    """Fill all chunks but this rank's own, which is there, from the ranks that have them."""
    raise NotImplementedError("task 4.1: _gather_in_place")


def ring_all_reduce(ranks: Communicator, tensor: Tensor, average: bool = False) -> None:
    """Replace `tensor` on every rank by the sum over the ranks, or by its mean.

    tensor: of any shape and strides, the same shape and type on every rank; filled in place, and
    what is sent has its type. A reduce-scatter, then an all-gather: 2·(size − 1) steps,
    2·(size − 1)/size of the tensor's bytes sent by each rank. Every rank ends with the same bits.
    The mean is taken before the gather, once for each element. Raises TypeError, before anything
    is sent, for the mean of a type that holds no fractions.
    """
    raise NotImplementedError("task 4.1: ring_all_reduce")


def broadcast(ranks: Communicator, tensor: Tensor, source: int = 0) -> None:
    """Replace `tensor` on every rank by rank `source`'s: along the ring, one send a rank.

    tensor: of any shape and strides. The last rank of the ring, the one before `source`, sends
    nothing. Raises ValueError where there is no such source.
    """
    raise NotImplementedError("task 4.1: broadcast")


def all_to_all(ranks: Communicator, parts: list[Tensor], sizes: list[int]) -> list[Tensor]:
    """Rank r's part for rank s, on rank s: a list of what each rank sent here, by rank.

    parts: one tensor for each rank, (rows, …) with the same trailing shape and type for all; sizes:
    how many rows each rank sends here. A rank's own part does not move, and is not copied. Each
    pair of ranks exchanges one message each way, an empty one too, and nobody waits in a circle.
    Raises ValueError, before anything is sent, where there is not one part and one size for each
    rank, or the own part has not the rows that its size says.
    """
    raise NotImplementedError("task 4.1: all_to_all")
