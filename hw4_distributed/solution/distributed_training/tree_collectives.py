"""Task 4.2: all-reduce along a tree, and in two levels."""

from __future__ import annotations

import torch
from torch import Tensor

from distributed_training.collectives import (
    ring_all_gather,
    ring_all_reduce,
    ring_reduce_scatter,
)
from distributed_training.communicator import Communicator


def tree_all_reduce(ranks: Communicator, tensor: Tensor, average: bool = False) -> None:
    """Replace `tensor` on every rank by the sum, or the mean, along a binomial tree.

    Up: in step k (1, 2, 4, …) a rank whose number is an odd multiple of k sends its sum to the rank
    k below it, and is done; down the same way back. 2·⌈log₂ size⌉ steps of the whole tensor instead
    of 2·(size − 1) steps of a part: better where latency counts more than bytes. In all,
    2·(size − 1) messages, an empty tensor's too. Any size of group; any shape and strides. Every
    rank ends with the same bits. Raises TypeError, before anything is sent, for the mean of a type
    that holds no fractions.
    """
    # BEGIN SOLUTION 4.2
    if average and not tensor.is_floating_point():
        raise TypeError(f"{tensor.dtype} holds no fractions: there is no mean of it")
    whole = tensor.detach()
    flat = whole.contiguous().view(-1)  # a copy where the tensor is not contiguous
    received = torch.empty_like(flat)
    step = 1
    while step < ranks.size:
        if ranks.rank % (2 * step) == step:
            ranks.send(flat, ranks.rank - step)
            break
        if ranks.rank + step < ranks.size:
            ranks.recv(received, ranks.rank + step)
            flat += received
        step *= 2
    if ranks.rank == 0 and average:
        flat /= ranks.size
    if ranks.rank:  # `step` is where this rank left the tree
        ranks.recv(flat, ranks.rank - step)
    step //= 2
    while step:
        if ranks.rank + step < ranks.size:
            ranks.send(flat, ranks.rank + step)
        step //= 2
    if flat.data_ptr() != whole.data_ptr():
        whole.copy_(flat.view(whole.shape))
    # END SOLUTION


def two_levels(ranks: Communicator, per_node: int) -> tuple[Communicator, Communicator]:
    """Given: this rank's node (ranks beside each other) and its peers of the same place elsewhere.

    Raises ValueError where the group does not fill its nodes.
    """
    if per_node < 1 or ranks.size % per_node:
        raise ValueError(f"{ranks.size} ranks do not fill nodes of {per_node}")
    nodes = ranks.size // per_node
    groups = [list(range(n * per_node, (n + 1) * per_node)) for n in range(nodes)]
    groups += [list(range(place, ranks.size, per_node)) for place in range(per_node)]
    found = [ranks.subgroup(group) for group in groups]
    node, across = (group for group in found if group is not None)
    return node, across


def hierarchical_all_reduce(
    node: Communicator, across: Communicator, tensor: Tensor, average: bool = False
) -> None:
    """Replace `tensor` by the sum, or the mean, over all ranks of all nodes.

    A reduce-scatter inside the node, an all-reduce of this rank's chunk with its peers on the other
    nodes, an all-gather inside the node: across nodes each rank sends 2·(m − 1)/m of 1/g of the
    tensor, for m nodes of g ranks. Any shape and strides. Every rank ends with the same bits.
    Raises TypeError, before anything is sent, for the mean of a type that holds no fractions.
    """
    # BEGIN SOLUTION 4.2
    if average and not tensor.is_floating_point():
        raise TypeError(f"{tensor.dtype} holds no fractions: there is no mean of it")
    whole = tensor.detach()
    flat = whole.reshape(-1)
    chunk = ring_reduce_scatter(node, flat)
    ring_all_reduce(across, chunk)
    if average:
        chunk /= node.size * across.size
    whole.copy_(ring_all_gather(node, chunk, len(flat)).view(whole.shape))
    # END SOLUTION
