"""Task 4.1: ring collectives, built from send and receive alone (Patarasuk and Yuan, 2009)."""

from __future__ import annotations

import torch
from torch import Tensor

from distributed_training.communicator import Communicator
from distributed_training.partition import chunk_bounds


def ring_reduce_scatter(ranks: Communicator, tensor: Tensor) -> Tensor:
    """Sum over the ranks, of which rank r gets chunk r: a new tensor (stop − start,).

    tensor: one-dimensional and contiguous, of the same size and type on every rank; it is left as
    it was. Chunks are those of `chunk_bounds(len(tensor), ranks.size)`. Takes size − 1 steps; in
    each, every rank sends one chunk to the next rank and receives one from the previous, so each
    sends all chunks but one. An empty chunk is sent like any other.
    """
    # BEGIN SOLUTION 4.1
    bounds = chunk_bounds(len(tensor), ranks.size)
    chunks = [tensor[start:stop] for start, stop in bounds]
    following, previous = (ranks.rank + 1) % ranks.size, (ranks.rank - 1) % ranks.size
    # Chunk c starts at rank c + 1 and has gone once round when it reaches rank c.
    partial = chunks[(ranks.rank - 1) % ranks.size].clone()
    for step in range(ranks.size - 1):
        mine = chunks[(ranks.rank - step - 2) % ranks.size]
        received = torch.empty_like(mine)
        sending = ranks.isend(partial, following)
        ranks.recv(received, previous)
        sending.wait()
        partial = received.add_(mine)
    return partial
    # END SOLUTION


def ring_all_gather(ranks: Communicator, chunk: Tensor, count: int) -> Tensor:
    """Every rank's chunk on every rank: a new tensor (count,), chunk r at `chunk_bounds(…)[r]`.

    chunk: (stop − start,) contiguous, rank r's own. Takes size − 1 steps, as above. Raises
    ValueError where the chunk has not the size that `chunk_bounds(count, size)` gives it.
    """
    # BEGIN SOLUTION 4.1
    bounds = chunk_bounds(count, ranks.size)
    start, stop = bounds[ranks.rank]
    if chunk.shape != (stop - start,):
        raise ValueError(
            f"rank {ranks.rank}'s chunk of {count} elements has {stop - start}, not shape "
            f"{tuple(chunk.shape)}"
        )
    whole = chunk.new_empty(count)
    whole[start:stop] = chunk
    following, previous = (ranks.rank + 1) % ranks.size, (ranks.rank - 1) % ranks.size
    for step in range(ranks.size - 1):
        first, last = bounds[(ranks.rank - step) % ranks.size]
        sending = ranks.isend(whole[first:last], following)
        first, last = bounds[(ranks.rank - step - 1) % ranks.size]
        ranks.recv(whole[first:last], previous)
        sending.wait()
    return whole
    # END SOLUTION


def ring_all_reduce(ranks: Communicator, tensor: Tensor, average: bool = False) -> None:
    """Replace `tensor` on every rank by the sum over the ranks, or by its mean.

    tensor: of any shape, contiguous, the same shape and type on every rank. A reduce-scatter, then
    an all-gather: 2·(size − 1) steps, 2·(size − 1)/size of the tensor's bytes sent by each rank.
    Every rank ends with the same bits. The mean is taken before the gather, once for each element.
    """
    # BEGIN SOLUTION 4.1
    flat = tensor.detach().view(-1)
    chunk = ring_reduce_scatter(ranks, flat)
    if average:
        chunk = chunk / ranks.size
    flat.copy_(ring_all_gather(ranks, chunk, len(flat)))
    # END SOLUTION


def broadcast(ranks: Communicator, tensor: Tensor, source: int = 0) -> None:
    """Replace `tensor` on every rank by rank `source`'s: along the ring, one send a rank.

    tensor: of any shape, contiguous. The last rank of the ring sends nothing.
    """
    # BEGIN SOLUTION 4.1
    flat = tensor.detach().view(-1)
    if ranks.size == 1:
        return
    if ranks.rank != source:
        ranks.recv(flat, (ranks.rank - 1) % ranks.size)
    if (ranks.rank + 1) % ranks.size != source:
        ranks.send(flat, (ranks.rank + 1) % ranks.size)
    # END SOLUTION


def all_to_all(ranks: Communicator, parts: list[Tensor], sizes: list[int]) -> list[Tensor]:
    """Rank r's part for rank s, on rank s: a list of what each rank sent here, by rank.

    parts: one contiguous tensor for each rank, (rows, …) with the same trailing shape and type for
    all; sizes: how many rows each rank sends here. A rank's own part does not move, and is not
    copied. Each pair of ranks exchanges one message each way, without waiting in a circle.
    """
    # BEGIN SOLUTION 4.1
    received = [
        parts[rank].new_empty((rows, *parts[rank].shape[1:])) for rank, rows in enumerate(sizes)
    ]
    received[ranks.rank] = parts[ranks.rank]
    others = [rank for rank in range(ranks.size) if rank != ranks.rank]
    work = [ranks.isend(parts[rank], rank) for rank in others]
    work += [ranks.irecv(received[rank], rank) for rank in others]
    for each in work:
        each.wait()
    return received
    # END SOLUTION
