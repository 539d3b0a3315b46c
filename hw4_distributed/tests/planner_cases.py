"""Cases and oracles of task 4.2: trees by the switch; numbers of the cost model, made by the staff.

The staff's planner plays every message through, and searches; it is not among these files. What it
found for some clusters is in golden/planner.json.
"""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from collectives_cases import WIDTH, assert_within, draw, reduced, why_wrong
from traffic import (
    all_gather_bytes,
    all_reduce_bytes,
    chunk_sizes,
    in_words,
    messages,
    pieces,
    reduce_scatter_bytes,
    sent_bytes,
)

from autograder.testing import assert_equal

GOLDEN = Path(__file__).parent / "golden" / "planner.json"


def tree_case(
    rng: np.random.Generator, size: int, shape: tuple[int, ...], dtype: str = "float32",
    per_node: int = 0, **more: Any,
) -> dict[str, Any]:  # fmt: skip
    """One all-reduce of `size` ranks; per_node 0 for the tree."""
    tensors = [draw(rng, shape, dtype) for _ in range(size)]
    return {"tensors": tensors, "shape": shape, "dtype": dtype, "per_node": per_node, **more}


def _label(case: dict[str, Any], size: int) -> str:
    nodes = size // case["per_node"] if case["per_node"] else 0
    kind = f"{nodes} node{'s' * (nodes > 1)} of {case['per_node']}" if nodes else "tree"
    return f"{kind}, {in_words(size)}, shape {case['shape']}, {case['dtype']}"


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
        way = "inside, across, inside" if case["per_node"] else "every sum up to rank 0, and down"
        hint = why_wrong(np.asarray(answers[0]["value"]), wanted, case["tensors"][0], size,
                         case.get("average", False), f"each rank's part counts once: {way}")  # fmt: skip
        assert_within(answers[0]["value"], wanted, bound, f"{text}: rank 0's result", hint)
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


def golden(kind: str, rng: np.random.Generator) -> list[dict[str, Any]]:
    """The staff's cases: "costs", "steps", "lists" or "best", each in a random unit of time.

    With latencies s times as long, and bytes and FLOPs a second divided by s, everything takes s
    times as long, and every plan stays as good as it was. A case's seconds are in its "wanted".
    """
    cases = json.loads(GOLDEN.read_text(encoding="utf-8"))[kind]
    for case in cases:
        scale, cluster = float(10 ** rng.uniform(-1, 1)), case["cluster"]
        for name in ("inside", "across"):
            latency, rate = cluster[name]
            cluster[name] = (latency * scale, rate / scale)
        cluster["flops"] /= scale
        wanted = case["wanted"]
        case["wanted"] = {
            name: value * scale if name in SECONDS else value for name, value in wanted.items()
        }
    return cases


SECONDS = ("ring", "tree", "hierarchical", "best", "seconds")
