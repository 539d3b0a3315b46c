"""Write tests/golden/planner.json: what the staff's planner finds for some clusters.

    cd hw4_distributed && PYTHONPATH=..:tests:hidden python hidden/make_planner_golden.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from planner_oracle import (
    best_by_search,
    best_played,
    plan_played,
    plans_tried,
    random_cluster,
    random_work,
    ring_played,
    tree_played,
    two_levels_played,
)

SEED = 42
GROUPS = [  # (ranks of the group, how far apart, nodes, ranks of a node)
    (1, 1, 4, 8), (2, 1, 4, 8), (8, 1, 2, 8), (4, 2, 3, 8), (16, 1, 2, 8), (3, 2, 3, 4), (4, 8, 4, 8),
    (6, 4, 4, 8), (3, 1, 3, 8), (3, 1, 5, 6), (12, 2, 4, 6),
]  # fmt: skip


def costs(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Each group's all-reduces of three lengths."""
    found = []
    for size, stride, nodes, per_node in GROUPS * 3:
        cluster, length = random_cluster(rng, nodes, per_node), float(10 ** rng.uniform(2, 9))
        wanted = {
            "ring": ring_played(size, length, cluster["across"]),
            "tree": tree_played(size, length, cluster["across"]),
            "hierarchical": two_levels_played(nodes, per_node, length, cluster),
            "best": best_played(size, stride, length, cluster),
        }
        found.append({"cluster": cluster, "size": size, "stride": stride, "length": length,
                      "wanted": wanted})  # fmt: skip
    return found


def steps(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Some plans' seconds and bytes, pipelines whose neighbours share a node and such that do not."""
    found = []
    for nodes, per_node, batch in ((1, 4, 12), (1, 6, 24), (2, 4, 32), (3, 8, 48), (4, 6, 24)):
        cluster, work = random_cluster(rng, nodes, per_node), random_work(rng, batch)
        plans = plans_tried(cluster, work)
        for place in rng.permutation(len(plans))[:12]:
            seconds, size = plan_played(cluster, work, plans[place])
            wanted = {"seconds": seconds, "bytes": size}
            found.append({"cluster": cluster, "work": work, "plan": plans[place], "wanted": wanted})
    return found


def lists_and_best(rng: np.random.Generator) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """All plans of five jobs; and of each with five memories the best: all that are as good."""
    lists, best = [], []
    for nodes, per_node, batch in ((1, 1, 4), (1, 8, 16), (2, 4, 24), (3, 6, 36), (4, 8, 64)):
        cluster, work = random_cluster(rng, nodes, per_node), random_work(rng, batch)
        plans = sorted(plans_tried(cluster, work))
        lists.append({"cluster": cluster, "work": work, "wanted": {"plans": plans}})
        costs = [plan_played(cluster, work, plan) for plan in plans]
        sizes = sorted(size for _, size in costs)
        for memory in (1.0, *(sizes[int(len(sizes) * part)] * 1.001 for part in (0, 0.1, 0.4, 0.99))):
            case = {"cluster": {**cluster, "memory": memory}, "work": work}
            found = best_by_search(**case)
            wanted: dict[str, Any] = {"plans": []}
            if found is not None:
                as_good = [plan for plan, cost in zip(plans, costs, strict=True)
                           if np.allclose(cost, found, rtol=1e-8, atol=0)]  # fmt: skip
                wanted = {"plans": as_good, "seconds": found[0], "bytes": found[1]}
            best.append({**case, "wanted": wanted})
    return lists, best


def main() -> None:
    """Make them all, and write."""
    rng = np.random.default_rng(SEED)
    made: dict[str, Any] = {"costs": costs(rng), "steps": steps(rng)}
    made["lists"], made["best"] = lists_and_best(rng)
    target = Path(__file__).resolve().parents[1] / "tests" / "golden" / "planner.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(made) + "\n", encoding="utf-8")
    print(f"{target.name}: {', '.join(f'{len(cases)} {kind}' for kind, cases in made.items())}")


if __name__ == "__main__":
    main()
