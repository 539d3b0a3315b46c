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
    raise NotImplementedError("task 4.2: tree_all_reduce")


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
    raise NotImplementedError("task 4.2: hierarchical_all_reduce")
