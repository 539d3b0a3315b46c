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
    # BEGIN SOLUTION 4.1
    tensor = tensor.detach()
    chunks = [tensor[start:stop] for start, stop in chunk_bounds(len(tensor), ranks.size)]
    following, previous = (ranks.rank + 1) % ranks.size, (ranks.rank - 1) % ranks.size
    # Chunk c starts at rank c + 1 and has gone once round when it reaches rank c.
    partial = chunks[(ranks.rank - 1) % ranks.size].clone(memory_format=torch.contiguous_format)
    for step in range(ranks.size - 1):
        mine = chunks[(ranks.rank - step - 2) % ranks.size]
        received = tensor.new_empty(len(mine))
        sending = ranks.isend(partial, following)
        ranks.recv(received, previous)
        sending.wait()
        partial = received.add_(mine)
    return partial
    # END SOLUTION


def ring_all_gather(ranks: Communicator, chunk: Tensor, count: int) -> Tensor:
    """Every rank's chunk on every rank: a new tensor (count,), chunk r at `chunk_bounds(…)[r]`.

    chunk: (stop − start,), rank r's own. Takes size − 1 steps, as above. Raises ValueError, before
    anything is sent, where the chunk has not the size that `chunk_bounds(count, size)` gives it.
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
    whole[start:stop] = chunk.detach()
    _gather_in_place(ranks, [whole[first:last] for first, last in bounds])
    return whole
    # END SOLUTION


def _gather_in_place(ranks: Communicator, chunks: list[Tensor]) -> None:
    """Fill all chunks but this rank's own, which is there, from the ranks that have them."""
    # BEGIN SOLUTION 4.1
    following, previous = (ranks.rank + 1) % ranks.size, (ranks.rank - 1) % ranks.size
    for step in range(ranks.size - 1):
        sending = ranks.isend(chunks[(ranks.rank - step) % ranks.size], following)
        ranks.recv(chunks[(ranks.rank - step - 1) % ranks.size], previous)
        sending.wait()
    # END SOLUTION


def ring_all_reduce(ranks: Communicator, tensor: Tensor, average: bool = False) -> None:
    """Replace `tensor` on every rank by the sum over the ranks, or by its mean.

    tensor: of any shape and strides, the same shape and type on every rank; filled in place, and
    what is sent has its type. A reduce-scatter, then an all-gather: 2·(size − 1) steps,
    2·(size − 1)/size of the tensor's bytes sent by each rank. Every rank ends with the same bits.
    The mean is taken before the gather, once for each element. Raises TypeError, before anything
    is sent, for the mean of a type that holds no fractions.
    """
    # BEGIN SOLUTION 4.1
    if average and not tensor.is_floating_point():
        raise TypeError(f"{tensor.dtype} holds no fractions: there is no mean of it")
    whole = tensor.detach()
    flat = whole.contiguous().view(-1)  # a copy where the tensor is not contiguous
    chunks = [flat[start:stop] for start, stop in chunk_bounds(len(flat), ranks.size)]
    following, previous = (ranks.rank + 1) % ranks.size, (ranks.rank - 1) % ranks.size
    # The steps of ring_reduce_scatter in the tensor itself: fresh memory for partial sums, and a
    # copy of the result, would take as long as the messages.
    scratch = torch.empty_like(chunks[0])
    for step in range(ranks.size - 1):
        sending = ranks.isend(chunks[(ranks.rank - step - 1) % ranks.size], following)
        mine = chunks[(ranks.rank - step - 2) % ranks.size]
        ranks.recv(scratch[: len(mine)], previous)
        mine += scratch[: len(mine)]
        sending.wait()
    if average:
        chunks[ranks.rank] /= ranks.size
    _gather_in_place(ranks, chunks)
    if flat.data_ptr() != whole.data_ptr():
        whole.copy_(flat.view(whole.shape))
    # END SOLUTION


def broadcast(ranks: Communicator, tensor: Tensor, source: int = 0) -> None:
    """Replace `tensor` on every rank by rank `source`'s: along the ring, one send a rank.

    tensor: of any shape and strides. The last rank of the ring, the one before `source`, sends
    nothing. Raises ValueError where there is no such source.
    """
    # BEGIN SOLUTION 4.1
    if not 0 <= source < ranks.size:
        raise ValueError(f"there is no rank {source} in a group of {ranks.size}")
    whole = tensor.detach()
    flat = whole.contiguous().view(-1)  # a copy where the tensor is not contiguous
    if ranks.rank != source:
        ranks.recv(flat, (ranks.rank - 1) % ranks.size)
        if flat.data_ptr() != whole.data_ptr():
            whole.copy_(flat.view(whole.shape))
    if (ranks.rank + 1) % ranks.size != source:
        ranks.send(flat, (ranks.rank + 1) % ranks.size)
    # END SOLUTION


def all_to_all(ranks: Communicator, parts: list[Tensor], sizes: list[int]) -> list[Tensor]:
    """Rank r's part for rank s, on rank s: a list of what each rank sent here, by rank.

    parts: one tensor for each rank, (rows, …) with the same trailing shape and type for all; sizes:
    how many rows each rank sends here. A rank's own part does not move, and is not copied. Each
    pair of ranks exchanges one message each way, an empty one too, and nobody waits in a circle.
    Raises ValueError, before anything is sent, where there is not one part and one size for each
    rank, or the own part has not the rows that its size says.
    """
    # BEGIN SOLUTION 4.1
    if len(parts) != ranks.size or len(sizes) != ranks.size:
        raise ValueError(f"{len(parts)} parts and {len(sizes)} sizes for {ranks.size} ranks")
    own = parts[ranks.rank]
    if len(own) != sizes[ranks.rank]:
        raise ValueError(f"rank {ranks.rank} keeps {len(own)} rows, not {sizes[ranks.rank]}")
    received = [own.new_empty((rows, *own.shape[1:])) for rows in sizes]
    received[ranks.rank] = own
    others = [rank for rank in range(ranks.size) if rank != ranks.rank]
    work = [ranks.isend(parts[rank].contiguous(), rank) for rank in others]
    work += [ranks.irecv(received[rank], rank) for rank in others]
    for each in work:
        each.wait()
    return received
    # END SOLUTION
