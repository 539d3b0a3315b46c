"""Task 4.2: tree and hierarchical all-reduce by the switch; the cost model; the planner."""

from __future__ import annotations

import drivers_planner as drivers
import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight
from planner_cases import (
    best_by_search,
    best_played,
    check_trees,
    plan_played,
    plans_tried,
    random_cluster,
    random_work,
    ring_played,
    tree_case,
    tree_played,
    two_levels_played,
)

from autograder.testing import Hint, assert_close, assert_equal

WORLDS = (1, 2, 3, 4)


@number("4.2")
@weight(1)
def test_tree_sends_the_whole_once_up_and_once_down(student, rng):
    """Sum and mean, the same bits everywhere; 2·(size − 1) messages along a binomial tree."""
    for size in WORLDS:
        cases = [
            tree_case(rng, size, (int(rng.integers(5, 40)),)),
            tree_case(rng, size, (3, 4), average=True),
            tree_case(rng, size, (0,)),
            tree_case(rng, size, (5,), "int64"),
            tree_case(rng, size, (4, 3), "bfloat16", average=True, layout="transposed"),
        ]
        check_trees(student, drivers.run_trees, cases, size)


@number("4.2")
@weight(1)
def test_across_nodes_only_a_chunk_travels(student, rng):
    """Sum and mean on nodes of 1, 2, 4 ranks; the bytes inside and across, to the byte."""
    for size, per_node in ((1, 1), (3, 1), (2, 2), (4, 2), (4, 4)):
        cases = [
            tree_case(rng, size, (int(rng.integers(9, 40)),), per_node=per_node),
            tree_case(rng, size, (3, 3), per_node=per_node, average=True),
            tree_case(rng, size, (1,), "int32", per_node=per_node),
            tree_case(rng, size, (3, 4), "bfloat16", per_node=per_node, layout="transposed"),
        ]
        check_trees(student, drivers.run_trees, cases, size)


def _cost_cases(rng: np.random.Generator) -> list[dict]:
    shapes = [(1, 1, 4, 8), (2, 1, 4, 8), (8, 1, 2, 8), (4, 2, 3, 8), (16, 1, 2, 8), (3, 2, 3, 4),
              (4, 8, 4, 8), (6, 4, 4, 8), (3, 1, 3, 8), (3, 1, 5, 6), (12, 2, 4, 6)]  # fmt: skip
    return [
        {"cluster": random_cluster(rng, nodes, per_node), "size": size, "stride": stride,
         "length": float(10 ** rng.uniform(2, 9))}
        for size, stride, nodes, per_node in shapes for _ in range(3)
    ]  # fmt: skip


def _cost_label(case: dict) -> str:
    shape = f"{case['cluster']['nodes']} nodes of {case['cluster']['per_node']}"
    return f"{case['size']} ranks {case['stride']} apart, {case['length']:.3g} bytes, {shape}"


@number("4.2")
@weight(1)
def test_costs_are_those_of_the_messages_played_through(student, rng):
    """Ring, tree, two levels and the cheapest, against clocks that go message by message."""
    cases = _cost_cases(rng)
    answers = student.run_cases(drivers.all_reduce_costs, cases, _cost_label)
    for case, got in zip(cases, answers, strict=True):
        cluster, size, length = case["cluster"], case["size"], case["length"]
        wanted = {
            "ring": ring_played(size, length, cluster["across"]),
            "tree": tree_played(size, length, cluster["across"]),
            "hierarchical": two_levels_played(
                cluster["nodes"], cluster["per_node"], length, cluster
            ),
            "best": best_played(size, case["stride"], length, cluster),
        }
        for name, seconds in wanted.items():
            assert_close(got[name], seconds, rtol=1e-9, atol=0, name=f"{name}: {_cost_label(case)}",
                         hint="a group is inside only if none of its kind lies across two nodes"
                         if name == "best" else "")  # fmt: skip


def _plan_label(case: dict) -> str:
    shape = f"{case['cluster']['nodes']} nodes of {case['cluster']['per_node']}"
    return f"plan {case.get('plan', '')} for {case['work']} on {shape}"


@number("4.2")
@weight(0.75)
def test_a_step_costs_its_slots_and_its_gradients(student, rng):
    """step_seconds and memory_bytes of random plans, stage by stage and slot by slot."""
    cases = []
    for nodes, per_node, batch in ((1, 4, 12), (2, 4, 32), (3, 8, 48), (4, 6, 24)):
        cluster, work = random_cluster(rng, nodes, per_node), random_work(rng, batch)
        plans = plans_tried(cluster, work)
        for place in rng.permutation(len(plans))[:12]:
            cases.append({"cluster": cluster, "work": work, "plan": plans[place]})
    for case, got in zip(
        cases, student.run_cases(drivers.plan_costs, cases, _plan_label), strict=True
    ):
        seconds, size = plan_played(**case)
        assert_close(got[1], size, rtol=1e-9, name=f"memory_bytes, {_plan_label(case)}")
        assert_close(got[0], seconds, rtol=1e-9, atol=0, name=f"step_seconds, {_plan_label(case)}")


def check_best(student, cases: list[dict]) -> None:
    """Each best plan can run, fits, and costs what the search's best costs."""
    for case, plan in zip(
        cases, student.run_cases(drivers.best_plans, cases, _plan_label), strict=True
    ):
        wanted = best_by_search(case["cluster"], case["work"])
        if wanted is None:
            assert plan is None, f"{_plan_label(case)}: nothing fits, yet {plan} came back"
            continue
        assert plan is not None, f"{_plan_label(case)}: None, though plans fit into memory"
        assert plan in plans_tried(case["cluster"], case["work"]), f"{plan} can't run: {case}"
        seconds, size = plan_played(case["cluster"], case["work"], plan)
        assert size <= case["cluster"]["memory"], (
            f"{_plan_label(case)}: {plan} needs {size:.4g} bytes on a GPU that has "
            f"{case['cluster']['memory']:.4g}"
        )
        assert_close(np.array([seconds, size]), np.array(wanted), rtol=1e-8, atol=0,
                     name=f"[seconds, bytes] of {plan} against the best: {_plan_label(case)}",
                     hint=Hint(values="the fewest seconds of those that fit, then the least memory"))  # fmt: skip


@number("4.2")
@weight(1.25)
def test_the_planner_finds_what_a_full_search_finds(student, rng):
    """Every plan is listed once; the best one is the cheapest that fits, with memory ample or tight."""
    cases = []
    for nodes, per_node, batch in ((1, 1, 4), (1, 8, 16), (2, 4, 24), (3, 6, 36), (4, 8, 64)):
        cluster, work = random_cluster(rng, nodes, per_node), random_work(rng, batch)
        sizes = sorted(plan_played(cluster, work, plan)[1] for plan in plans_tried(cluster, work))
        for memory in (1.0, *(sizes[int(len(sizes) * part)] * 1.001 for part in (0, 0.1, 0.4, 0.99))):
            cases.append({"cluster": {**cluster, "memory": memory}, "work": work})
    listed = student.run_cases(drivers.all_plans, cases[::5], _plan_label)
    for case, plans in zip(cases[::5], listed, strict=True):
        assert_equal(sorted(plans), sorted(plans_tried(case["cluster"], case["work"])),
                     name=f"plans, sorted: {_plan_label(case)}")  # fmt: skip
    check_best(student, cases)
