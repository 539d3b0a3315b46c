"""Task 4.2: what a step costs under a plan, by the α–β model, and the cheapest plan of all."""

from __future__ import annotations

from collections.abc import Iterator

from distributed_training.cluster import Cluster, Link, Plan, Workload

BYTES = 2  # of a weight, a gradient or an activation: bfloat16
STATE_BYTES = 16  # of a parameter: weight and gradient (2 + 2), float32 master, two moments (12)
ACTIVATION_BYTES = 34  # of an element of a block's input (Korthikanti et al., 2022, without scores)


def ring_seconds(size: int, length: float, link: Link) -> float:
    """A ring all-reduce of `length` bytes over `size` ranks: 2·(size − 1) messages of length/size."""
    raise NotImplementedError("task 4.2: ring_seconds")


def tree_seconds(size: int, length: float, link: Link) -> float:
    """A binomial tree all-reduce: 2·⌈log₂ size⌉ messages of `length` bytes, one after the other."""
    raise NotImplementedError("task 4.2: tree_seconds")


def hierarchical_seconds(nodes: int, per_node: int, length: float, cluster: Cluster) -> float:
    """A hierarchical all-reduce: (per_node − 1) messages of length/per_node inside, twice, and a
    ring all-reduce of length/per_node across."""
    raise NotImplementedError("task 4.2: hierarchical_seconds")


def all_reduce_seconds(size: int, stride: int, length: float, cluster: Cluster) -> float:
    """The cheapest all-reduce for `size` ranks that stand `stride` apart; 0 for one rank.

    Where size · stride divides per_node, so that no group lies across two nodes: ring or tree on the
    inside link. (Groups of 3 in nodes of 8 do: the third has ranks 6, 7 and 8.) Else ring or tree
    on the across link, or, where stride divides per_node and the group fills its nodes,
    hierarchical with per_node / stride ranks of a node.
    """
    raise NotImplementedError("task 4.2: all_reduce_seconds")


def memory_bytes(work: Workload, plan: Plan) -> float:
    """Bytes on the fullest rank: its share of the state, and the activations of 1F1B's first stage.

    Layers of a stage: ⌈layers / pipeline⌉. State: 16 bytes of each of its parameters, divided by
    `tensor`. Activations: 34 bytes of each element of a micro-batch's hidden states and layer,
    divided by `tensor`, for min(microbatches, pipeline) micro-batches.
    """
    raise NotImplementedError("task 4.2: memory_bytes")


def step_seconds(cluster: Cluster, work: Workload, plan: Plan) -> float:
    """One training step: (microbatches + pipeline − 1) slots, and the all-reduce of gradients.

    A slot is the fullest stage's forward and backward of a micro-batch: 6 FLOPs a parameter and
    token, divided by `tensor`; four all-reduces of its hidden states a layer in the tensor group
    (stride 1); and, with a pipeline, two messages of its hidden states / tensor to a neighbour.
    Neighbours stand tensor · data apart: as soon as one pair of them lies on two nodes, that is
    unless all data · tensor · pipeline ranks fit into one, the slowest slot's messages go across.
    Gradients: an all-reduce of the stage's parameters / tensor in the data group (stride
    `tensor`), after the last slot.
    """
    raise NotImplementedError("task 4.2: step_seconds")


def plans(cluster: Cluster, work: Workload) -> Iterator[Plan]:
    """Every plan that uses all GPUs and can run, whether or not it fits into memory.

    data · tensor · pipeline is the number of GPUs; tensor divides the heads and is at most
    per_node; pipeline is at most the layers; data · microbatches divides the batch.
    """
    raise NotImplementedError("task 4.2: plans")


def best_plan(cluster: Cluster, work: Workload) -> Plan | None:
    """The plan with the fewest seconds a step of those that fit into memory; None if none does.

    Of those within a part in 10⁹ of the fewest seconds, the one with the least memory: plans that
    the model finds equal differ in their last digits. Thousands of GPUs take well under a second.
    """
    raise NotImplementedError("task 4.2: best_plan")


def _divisors(number: int) -> list[int]:
    """Given: all divisors, rising."""
    small = [d for d in range(1, int(number**0.5) + 1) if number % d == 0]
    return sorted({*small, *(number // d for d in small)})
