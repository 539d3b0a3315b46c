"""Cases and oracles of task 4.2. The costs are played through message by message, not by formula."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from collectives_cases import WIDTH, assert_within, draw, reduced
from traffic import (
    all_gather_bytes,
    all_reduce_bytes,
    chunk_sizes,
    messages,
    pieces,
    reduce_scatter_bytes,
    sent_bytes,
)

from autograder.testing import assert_equal

Link = tuple[float, float]  # (latency in seconds, bytes a second)


# --- what crosses the switch ---------------------------------------------------------------------


def tree_case(
    rng: np.random.Generator, size: int, shape: tuple[int, ...], dtype: str = "float32",
    per_node: int = 0, **more: Any,
) -> dict[str, Any]:  # fmt: skip
    """One all-reduce of `size` ranks; per_node 0 for the tree."""
    tensors = [draw(rng, shape, dtype) for _ in range(size)]
    return {"tensors": tensors, "shape": shape, "dtype": dtype, "per_node": per_node, **more}


def _label(case: dict[str, Any], size: int) -> str:
    kind = f"{size // case['per_node']} nodes of {case['per_node']}" if case["per_node"] else "tree"
    return f"{kind}, {size} ranks, shape {case['shape']}, {case['dtype']}"


def tree_messages(size: int) -> np.ndarray:
    """One message up and one down between each rank and the one with its lowest set bit cleared."""
    wanted = np.zeros((size, size), np.int64)
    for rank in range(1, size):
        above = rank - (rank & -rank)
        wanted[rank, above] += 1
        wanted[above, rank] += 1
    return wanted


def two_level_traffic(count: int, size: int, per_node: int, width: int) -> list[np.ndarray]:
    """[bytes, messages], (ranks, ranks): rings inside nodes, and across of one chunk each."""
    nodes = size // per_node
    sent, counted = np.zeros((2, size, size), np.int64)
    own = chunk_sizes(count, per_node)
    scatter = reduce_scatter_bytes(count, per_node, width)
    gather = all_gather_bytes(count, per_node, width)
    for node, place in itertools.product(range(nodes), range(per_node)):
        rank = node * per_node + place
        if per_node > 1:
            beside = node * per_node + (place + 1) % per_node
            sent[rank, beside] += scatter[place] + gather[place]
            counted[rank, beside] += 2 * (per_node - 1)
        if nodes > 1:
            across = (node + 1) % nodes * per_node + place
            sent[rank, across] += all_reduce_bytes(own[place], nodes, width)[node]
            counted[rank, across] += 2 * (nodes - 1)
    return [sent, counted]


def check_trees(student: Any, driver: Any, cases: list[dict[str, Any]], size: int) -> None:
    """Values, bits, bytes and messages of each case."""
    kept = ("dtype", "per_node", "average", "layout")
    each = [
        {"cases": [{**{k: c[k] for k in kept if k in c}, "tensor": c["tensors"][rank]} for c in cases]}
        for rank in range(size)
    ]
    group = student.group(size, driver, each=each)
    sends = pieces(group, size, len(cases))
    for place, case in enumerate(cases):
        text = _label(case, size)
        answers = [result[place] for result in group.results]
        wanted, bound = reduced(case["tensors"], case["dtype"], case.get("average", False))
        assert_within(answers[0]["value"], wanted, bound, f"{text}: rank 0's result")
        for rank, answer in enumerate(answers):
            assert answer["dtype"] == case["dtype"], f"{text}: rank {rank} has {answer['dtype']}"
            assert_equal(answer["value"], answers[0]["value"],
                         name=f"{text}: rank {rank}'s result against rank 0's")  # fmt: skip
        width, count = WIDTH[case["dtype"]], math.prod(case["shape"])
        if case["per_node"]:
            sent, counted = two_level_traffic(count, size, case["per_node"], width)
            hint = "inside a node rings of the whole, across nodes one ring for each place's chunk"
        else:
            counted = tree_messages(size)
            sent = counted * width * count
            hint = "a rank that is an odd multiple of k sends to the rank k below it"
            _check_order(sends[place], text)
        assert_equal(messages(sends[place]), counted,
                     name=f"{text}: messages from (row) to (column)", hint=hint)  # fmt: skip
        assert_equal(sent_bytes(sends[place]), sent,
                     name=f"{text}: bytes from (row) to (column)", hint=hint)  # fmt: skip


def _check_order(sends: list[list[Any]], text: str) -> None:
    """Up before down, and down the far ones first: or the last rank waits for log₂² steps."""
    for rank, events in enumerate(sends):
        peers = [event.peer for event in events]
        down = [peer for peer in peers if peer > rank]
        assert peers == [p for p in peers if p < rank] + sorted(down, reverse=True), (
            f"{text}: rank {rank} sent to {peers}, in this order; expected its sum up first, then "
            "down to the farthest first: that one has the most ranks below it"
        )


# --- the α–β model, played through ---------------------------------------------------------------


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
