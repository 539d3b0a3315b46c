"""Task 4.2: what a step costs under a plan, by the α–β model, and the cheapest plan of all."""

from __future__ import annotations

from collections.abc import Iterator

from distributed_training.cluster import Cluster, Link, Plan, Workload

BYTES = 2  # of a weight, a gradient or an activation: bfloat16
STATE_BYTES = 16  # of a parameter: weight and gradient (2 + 2), float32 master, two moments (12)
ACTIVATION_BYTES = 34  # of an element of a block's input (Korthikanti et al., 2022, without scores)


def ring_seconds(size: int, length: float, link: Link) -> float:
    """A ring all-reduce of `length` bytes over `size` ranks: 2·(size − 1) messages of length/size."""
    # BEGIN SOLUTION 4.2
    return 2 * (size - 1) * link.seconds(length / size)
    # END SOLUTION


def tree_seconds(size: int, length: float, link: Link) -> float:
    """A binomial tree all-reduce: 2·⌈log₂ size⌉ messages of `length` bytes, one after the other."""
    # BEGIN SOLUTION 4.2
    return 2 * (size - 1).bit_length() * link.seconds(length)
    # END SOLUTION


def hierarchical_seconds(nodes: int, per_node: int, length: float, cluster: Cluster) -> float:
    """A hierarchical all-reduce: (per_node − 1) messages of length/per_node inside, twice, and a
    ring all-reduce of length/per_node across."""
    # BEGIN SOLUTION 4.2
    inside = 2 * (per_node - 1) * cluster.inside.seconds(length / per_node)
    return inside + ring_seconds(nodes, length / per_node, cluster.across)
    # END SOLUTION


def all_reduce_seconds(size: int, stride: int, length: float, cluster: Cluster) -> float:
    """The cheapest all-reduce for `size` ranks that stand `stride` apart; 0 for one rank.

    Where size · stride divides per_node, so that no group lies across two nodes: ring or tree on the
    inside link. (Groups of 3 in nodes of 8 do: the third has ranks 6, 7 and 8.) Else ring or tree
    on the across link, or, where stride divides per_node and the group fills its nodes,
    hierarchical with per_node / stride ranks of a node.
    """
    # BEGIN SOLUTION 4.2
    if size == 1:
        return 0.0
    if cluster.per_node % (size * stride) == 0:
        return min(f(size, length, cluster.inside) for f in (ring_seconds, tree_seconds))
    found = [f(size, length, cluster.across) for f in (ring_seconds, tree_seconds)]
    beside = cluster.per_node // stride if cluster.per_node % stride == 0 else 0
    if beside > 1 and size % beside == 0:
        found.append(hierarchical_seconds(size // beside, beside, length, cluster))
    return min(found)
    # END SOLUTION


def memory_bytes(work: Workload, plan: Plan) -> float:
    """Bytes on the fullest rank: its share of the state, and the activations of 1F1B's first stage.

    Layers of a stage: ⌈layers / pipeline⌉. State: 16 bytes of each of its parameters, divided by
    `tensor`. Activations: 34 bytes of each element of a micro-batch's hidden states and layer,
    divided by `tensor`, for min(microbatches, pipeline) micro-batches.
    """
    # BEGIN SOLUTION 4.2
    layers = -(-work.layers // plan.pipeline)
    state = STATE_BYTES * 12 * layers * work.hidden_size**2 / plan.tensor
    rows = work.batch / (plan.data * plan.microbatches)
    elements = rows * work.sequence * work.hidden_size
    held = min(plan.microbatches, plan.pipeline)
    return state + ACTIVATION_BYTES * elements * layers * held / plan.tensor
    # END SOLUTION


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
    # BEGIN SOLUTION 4.2
    layers = -(-work.layers // plan.pipeline)
    rows = work.batch / (plan.data * plan.microbatches)
    parameters = 12 * layers * work.hidden_size**2 / plan.tensor
    slot = 6 * parameters * rows * work.sequence / cluster.flops
    hidden = BYTES * rows * work.sequence * work.hidden_size
    slot += 4 * layers * all_reduce_seconds(plan.tensor, 1, hidden, cluster)
    if plan.pipeline > 1:
        near = plan.gpus <= cluster.per_node
        link = cluster.inside if near else cluster.across
        slot += 2 * link.seconds(hidden / plan.tensor)
    gradients = all_reduce_seconds(plan.data, plan.tensor, BYTES * parameters, cluster)
    return (plan.microbatches + plan.pipeline - 1) * slot + gradients
    # END SOLUTION


def plans(cluster: Cluster, work: Workload) -> Iterator[Plan]:
    """Every plan that uses all GPUs and can run, whether or not it fits into memory.

    data · tensor · pipeline is the number of GPUs; tensor divides the heads and is at most
    per_node; pipeline is at most the layers; data · microbatches divides the batch.
    """
    # BEGIN SOLUTION 4.2
    for tensor in _divisors(cluster.gpus):
        if tensor > cluster.per_node or work.num_heads % tensor:
            continue
        for pipeline in _divisors(cluster.gpus // tensor):
            data = cluster.gpus // (tensor * pipeline)
            if pipeline > work.layers or work.batch % data:
                continue
            for microbatches in _divisors(work.batch // data):
                yield Plan(data, tensor, pipeline, microbatches)
    # END SOLUTION


def best_plan(cluster: Cluster, work: Workload) -> Plan | None:
    """The plan with the fewest seconds a step of those that fit into memory; None if none does.

    Of those within a part in 10⁹ of the fewest seconds, the one with the least memory: plans that
    the model finds equal differ in their last digits. Thousands of GPUs take well under a second.
    """
    # BEGIN SOLUTION 4.2
    fitting = {
        plan: step_seconds(cluster, work, plan)
        for plan in plans(cluster, work)
        if memory_bytes(work, plan) <= cluster.memory
    }
    if not fitting:
        return None
    limit = min(fitting.values()) * (1 + 1e-9)
    equal = [plan for plan, seconds in fitting.items() if seconds <= limit]
    return min(equal, key=lambda plan: memory_bytes(work, plan))
    # END SOLUTION


def _divisors(number: int) -> list[int]:
    """Given: all divisors, rising."""
    small = [d for d in range(1, int(number**0.5) + 1) if number % d == 0]
    return sorted({*small, *(number // d for d in small)})
