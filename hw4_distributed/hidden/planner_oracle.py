"""The staff's planner of task 4.2: messages played through one by one, plans by full search.

It is in hidden/, for it is a solution in all but its speed. make_planner_golden.py takes the numbers
of the public tests from it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from traffic import chunk_sizes

Link = tuple[float, float]  # (latency in seconds, bytes a second)


def _seconds(length: float, link: Link) -> float:
    return link[0] + length / link[1]


def ring_played(size: int, length: float, link: Link, rounds: int = 2) -> float:
    """Each rank sends a chunk to the next, then has to have one from the previous; size − 1 steps."""
    clock = np.zeros(size)
    for _ in range(rounds * (size - 1)):
        arrival = np.roll(clock + _seconds(length / size, link), 1)
        clock = np.maximum(clock, arrival)
    return float(clock.max())


def tree_played(size: int, length: float, link: Link) -> float:
    """Every rank's clock along the binomial tree, one message at a time at each end."""
    clock, one = [0.0] * size, _seconds(length, link)
    step = 1
    while step < size:
        for rank in range(step, size, 2 * step):
            clock[rank - step] = max(clock[rank - step], clock[rank]) + one
        step *= 2
    while step > 1:
        step //= 2
        for rank in range(step, size, 2 * step):
            clock[rank - step] += one
            clock[rank] = clock[rank - step]
    return max(clock)


def two_levels_played(
    nodes: int, per_node: int, length: float, cluster: dict[str, Any]
) -> float:
    """A ring inside once around, one across of a chunk, and a ring inside again."""
    inside = ring_played(per_node, length, cluster["inside"], rounds=1)
    return 2 * inside + ring_played(nodes, length / per_node, cluster["across"])


def best_played(size: int, stride: int, length: float, cluster: dict[str, Any]) -> float:
    """The cheapest all-reduce, by looking at where the ranks of every group stand."""
    if size == 1:
        return 0.0
    per_node = cluster["per_node"]
    block = size * stride
    where = [
        [(start + place + k * stride) // per_node for k in range(size)]
        for start in range(0, math.lcm(block, per_node), block) for place in range(stride)
    ]  # fmt: skip
    if all(len(set(nodes)) == 1 for nodes in where):
        link = cluster["inside"]
        return min(ring_played(size, length, link), tree_played(size, length, link))
    link = cluster["across"]
    found = [ring_played(size, length, link), tree_played(size, length, link)]
    beside = {nodes.count(node) for nodes in where for node in set(nodes)}
    if len(beside) == 1 and beside != {1} and per_node == stride * max(beside):
        found.append(two_levels_played(size // max(beside), max(beside), length, cluster))
    return min(found)


def plan_played(
    cluster: dict[str, Any], work: dict[str, Any], plan: list[int]
) -> tuple[float, float]:
    """(seconds of a step, bytes of the fullest rank), stage by stage and slot by slot."""
    data, tensor, pipeline, microbatches = plan
    hidden_size, sequence = work["hidden_size"], work["sequence"]
    tokens = work["batch"] / data / microbatches * sequence
    layers = max(chunk_sizes(work["layers"], pipeline))
    matrices = 4 * hidden_size**2 + 8 * hidden_size**2  # attention, MLP
    mine = layers * matrices / tensor
    message = 2 * tokens * hidden_size
    slot = tokens * mine * 2 * 3 / cluster["flops"]  # two a multiply-add; backward is twice forward
    slot += sum(4 * best_played(tensor, 1, message, cluster) for _ in range(layers))
    if pipeline > 1:
        crosses = any(
            rank // cluster["per_node"] != (rank + data * tensor) // cluster["per_node"]
            for rank in range(data * tensor * (pipeline - 1))
        )
        link = cluster["across" if crosses else "inside"]
        slot += _seconds(message / tensor, link) + _seconds(message / tensor, link)
    done = np.zeros(pipeline)
    for _ in range(microbatches):
        before = 0.0
        for stage in range(pipeline):
            before = done[stage] = max(before, done[stage]) + slot
    seconds = float(done[-1]) + best_played(data, tensor, 2 * mine, cluster)
    bytes_of_state = mine * (2 + 2 + 4 + 4 + 4)  # weight, gradient, master, two moments
    held = 34 * tokens * hidden_size * layers / tensor * min(microbatches, pipeline)
    return seconds, bytes_of_state + held


def plans_tried(cluster: dict[str, Any], work: dict[str, Any]) -> list[list[int]]:
    """All that can run, by trying every number of each."""
    gpus = cluster["nodes"] * cluster["per_node"]
    found = []
    for tensor in range(1, cluster["per_node"] + 1):
        for pipeline in range(1, min(work["layers"], gpus) + 1):
            if gpus % (tensor * pipeline) or work["num_heads"] % tensor:
                continue
            data = gpus // (tensor * pipeline)
            found += [
                [data, tensor, pipeline, microbatches]
                for microbatches in range(1, work["batch"] // data + 1)
                if work["batch"] % (data * microbatches) == 0
            ]
    return found


def best_by_search(cluster: dict[str, Any], work: dict[str, Any]) -> tuple[float, float] | None:
    """(seconds, bytes) of the best plan that fits: of those as fast as the fastest, the smallest."""
    costs = [plan_played(cluster, work, plan) for plan in plans_tried(cluster, work)]
    costs = [cost for cost in costs if cost[1] <= cluster["memory"]]
    if not costs:
        return None
    limit = min(seconds for seconds, _ in costs) * (1 + 1e-9)
    return min((cost for cost in costs if cost[0] <= limit), key=lambda cost: cost[1])


def random_cluster(rng: np.random.Generator, nodes: int, per_node: int) -> dict[str, Any]:
    """A cluster whose inside link is faster than the one across, by random factors."""
    across = (float(10 ** rng.uniform(-5.5, -4)), float(10 ** rng.uniform(9, 10.5)))
    inside = (across[0] / float(rng.uniform(2, 6)), across[1] * float(rng.uniform(3, 12)))
    return {
        "nodes": nodes, "per_node": per_node, "inside": inside, "across": across,
        "flops": float(10 ** rng.uniform(13.5, 14.7)), "memory": 80e9,
    }  # fmt: skip


def random_work(rng: np.random.Generator, batch: int) -> dict[str, Any]:
    """A model of some size; layers and heads that do not divide everything."""
    return {
        "layers": int(rng.integers(3, 13)), "hidden_size": 64 * int(rng.integers(4, 65)),
        "num_heads": int(rng.choice([6, 8, 12, 16])), "sequence": int(rng.choice([512, 2048])),
        "batch": batch,
    }  # fmt: skip
