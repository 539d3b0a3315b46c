"""Task 4.2: tree and hierarchical all-reduce by the switch; the cost model; the planner."""

from __future__ import annotations

import drivers_planner as drivers
from gradescope_utils.autograder_utils.decorators import number, weight
from planner_cases import check_trees, golden, tree_case
from traffic import in_words

from autograder.testing import assert_close, assert_equal, stands_alone

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


def _shape(case: dict) -> str:
    nodes, per_node = case["cluster"]["nodes"], case["cluster"]["per_node"]
    return f"{nodes} node{'s' * (nodes > 1)} of {per_node}"


def _cost_label(case: dict) -> str:
    where = f"{case['length']:.3g} bytes, {_shape(case)}"
    return f"{in_words(case['size'])} {case['stride']} apart, {where}"


@number("4.2")
@stands_alone
@weight(1)
def test_costs_are_those_of_the_messages_played_through(student, rng):
    """Ring, tree, two levels and the cheapest: what clocks that go message by message come to."""
    cases = golden("costs", rng)
    answers = student.run_cases(drivers.all_reduce_costs, cases, _cost_label)
    for case, got in zip(cases, answers, strict=True):
        for name, seconds in case["wanted"].items():
            assert_close(got[name], seconds, rtol=1e-9, atol=0, name=f"{name}: {_cost_label(case)}",
                         hint="a group is inside only if none of its kind lies across two nodes"
                         if name == "best" else "")  # fmt: skip


def _plan_label(case: dict) -> str:
    plan = f"plan {case['plan']} for " if "plan" in case else ""
    return f"{plan}{case['work']} on {_shape(case)}"


STEP = (
    "(microbatches + pipeline − 1) slots. Pipeline neighbours stand tensor · data apart: as soon as one "
    "pair of them lies on two nodes, so unless the whole plan fits into one, a slot's two messages "
    "cross. The gradients are all-reduced once, in groups whose ranks stand `tensor` apart"
)


@number("4.2")
@stands_alone
@weight(0.75)
def test_a_step_costs_its_slots_and_its_gradients(student, rng):
    """step_seconds and memory_bytes of sixty plans, stage by stage and slot by slot."""
    cases = golden("steps", rng)
    answers = student.run_cases(drivers.plan_costs, cases, _plan_label)
    for case, (seconds, size) in zip(cases, answers, strict=True):
        wanted, text = case["wanted"], _plan_label(case)
        assert_close(size, wanted["bytes"], rtol=1e-9, name=f"memory_bytes, {text}")
        assert_close(seconds, wanted["seconds"], rtol=1e-9, atol=0, name=f"step_seconds, {text}",
                     hint=STEP)  # fmt: skip


def _check_best(case: dict, plan: list[int] | None) -> None:
    """The plan is one of those that are best."""
    best, text = case["wanted"]["plans"], _plan_label(case)
    memory = f"{case['cluster']['memory']:.4g} bytes a GPU"
    if not best:
        assert plan is None, f"{text}, {memory}: nothing fits, yet {plan} came back"
        return
    assert plan is not None, f"{text}, {memory}: None, though plans fit into memory"
    assert plan in best, (
        f"{text}, {memory}: best_plan gave {plan} (data, tensor, pipeline, microbatches), the best "
        f"is {best[0]} with {case['wanted']['seconds']:.6g} s and {case['wanted']['bytes']:.6g} bytes\n"
        "hint: the fewest seconds of the plans that fit; of those as fast, the least memory"
    )


@number("4.2")
@stands_alone
@weight(1.25)
def test_the_planner_finds_what_a_full_search_finds(student, rng):
    """Every plan is listed once; the best one is the cheapest that fits, with memory ample or tight."""
    cases = golden("lists", rng)
    listed = student.run_cases(drivers.all_plans, cases, _plan_label)
    for case, plans in zip(cases, listed, strict=True):
        assert_equal(sorted(plans), case["wanted"]["plans"],
                     name=f"plans, sorted: {_plan_label(case)}")  # fmt: skip
    cases = golden("best", rng)
    for case, plan in zip(
        cases, student.run_cases(drivers.best_plans, cases, _plan_label), strict=True
    ):
        _check_best(case, plan)
