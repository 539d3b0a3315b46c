"""Drivers of task 4.2: tree and hierarchical all-reduce on ranks, the cost model by itself."""

from __future__ import annotations

from typing import Any


def run_trees(cases: list[dict[str, Any]]) -> list[Any]:
    """This rank's result of each case, a barrier after each. per_node 0 asks for the tree."""
    from distributed_training import tree_collectives
    from distributed_training.communicator import connect
    from drivers_collectives import make_tensor, pack

    ranks = connect()
    results = []
    for case in cases:
        tensor = make_tensor(case["tensor"], case["dtype"], case.get("layout", "plain"))
        average = case.get("average", False)
        if case["per_node"]:
            node, across = tree_collectives.two_levels(ranks, case["per_node"])
            tree_collectives.hierarchical_all_reduce(node, across, tensor, average)
        else:
            tree_collectives.tree_all_reduce(ranks, tensor, average)
        results.append(pack(tensor))
        ranks.barrier()
    return results


def errors_of_trees(cases: list[dict[str, Any]]) -> list[str]:
    """The exception that each case raises here, "none" where it raises none."""
    from distributed_training import tree_collectives
    from distributed_training.communicator import connect
    from drivers_collectives import make_tensor

    ranks = connect()
    node, across = tree_collectives.two_levels(ranks, 1)
    found = []
    for case in cases:
        tensor = make_tensor(case["tensor"], case["dtype"])
        try:
            if case["per_node"]:
                tree_collectives.hierarchical_all_reduce(node, across, tensor, True)
            else:
                tree_collectives.tree_all_reduce(ranks, tensor, True)
        except NotImplementedError:
            raise
        except Exception as error:
            found.append(type(error).__name__)
        else:
            found.append("none")
    return found


def _cluster(given: dict[str, Any]) -> Any:
    from distributed_training.cluster import Cluster, Link

    return Cluster(given["nodes"], given["per_node"], Link(*given["inside"]),
                   Link(*given["across"]), given["flops"], given["memory"])  # fmt: skip


def _plan(plan: Any) -> list[int]:
    return [plan.data, plan.tensor, plan.pipeline, plan.microbatches]


def all_reduce_costs(cases: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Seconds of each all-reduce: of "length" bytes, over "size" ranks that stand "stride" apart."""
    from distributed_training import planner

    answers = []
    for case in cases:
        cluster, size, length = _cluster(case["cluster"]), case["size"], case["length"]
        answers.append({
            "ring": planner.ring_seconds(size, length, cluster.across),
            "tree": planner.tree_seconds(size, length, cluster.across),
            "hierarchical": planner.hierarchical_seconds(
                cluster.nodes, cluster.per_node, length, cluster
            ),
            "best": planner.all_reduce_seconds(size, case["stride"], length, cluster),
        })  # fmt: skip
    return answers


def plan_costs(cases: list[dict[str, Any]]) -> list[list[float]]:
    """[seconds of a step, bytes on the fullest rank] of each "plan"."""
    from distributed_training import planner
    from distributed_training.cluster import Plan, Workload

    answers = []
    for case in cases:
        work, plan = Workload(**case["work"]), Plan(*case["plan"])
        seconds = planner.step_seconds(_cluster(case["cluster"]), work, plan)
        answers.append([seconds, planner.memory_bytes(work, plan)])
    return answers


def all_plans(cases: list[dict[str, Any]]) -> list[list[list[int]]]:
    """Every plan of each case, as [data, tensor, pipeline, microbatches]."""
    from distributed_training import planner
    from distributed_training.cluster import Workload

    return [
        [_plan(p) for p in planner.plans(_cluster(case["cluster"]), Workload(**case["work"]))]
        for case in cases
    ]


def best_plans(cases: list[dict[str, Any]]) -> list[list[int] | None]:
    """The best plan of each case."""
    from distributed_training import planner
    from distributed_training.cluster import Workload

    found = []
    for case in cases:
        plan = planner.best_plan(_cluster(case["cluster"]), Workload(**case["work"]))
        found.append(None if plan is None else _plan(plan))
    return found
