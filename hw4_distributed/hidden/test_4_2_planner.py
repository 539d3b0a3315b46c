"""Task 4.2, hidden: trees of other sizes, uneven nodes, misuse, thousands of GPUs."""

from __future__ import annotations

import drivers_planner as drivers
import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight
from planner_cases import check_trees, tree_case
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

from autograder.testing import assert_close, stands_alone


@number("4.2")
@weight(0.75)
def test_trees_of_five_to_eight_ranks(student, rng):
    """Sizes that are no power of two; integers wrap, booleans are or-ed, nothing is left out."""
    for size in (5, 7, 8):
        cases = [
            tree_case(rng, size, (int(rng.integers(3, 20)),), average=True),
            tree_case(rng, size, (2, 3), "float64", layout="strided"),
            tree_case(rng, size, (4,), "uint8"),
            tree_case(rng, size, (), "bool"),
        ]
        check_trees(student, drivers.run_trees, cases, size)


@number("4.2")
@weight(0.75)
def test_two_levels_of_any_shape(student, rng):
    """Three nodes of two and two of three; fewer elements than ranks; small floats, integers."""
    for size, per_node in ((6, 2), (6, 3)):
        cases = [
            tree_case(rng, size, (int(rng.integers(20, 50)),), per_node=per_node, average=True),
            tree_case(rng, size, (2,), per_node=per_node),
            tree_case(rng, size, (0, 4), per_node=per_node, average=True),
            tree_case(rng, size, (5, 3), "float64", per_node=per_node, layout="strided"),
            tree_case(rng, size, (7,), "int64", per_node=per_node),
        ]
        check_trees(student, drivers.run_trees, cases, size)
    ones = np.ones(3, np.float32)
    bad = [{"tensor": ones, "dtype": dtype, "per_node": per_node}
           for dtype in ("int64", "bool") for per_node in (0, 1)]  # fmt: skip
    group = student.group(2, drivers.errors_of_trees, cases=bad)
    for errors in group.results:
        assert errors == ["TypeError"] * 4, (
            f"means of integers and booleans raised {errors}, expected a TypeError each"
        )
    assert group.messages.sum() == 0, "something was sent before the error"


def _label(case: dict) -> str:
    return f"{case['cluster']['nodes']} nodes of {case['cluster']['per_node']}, {case['work']}"


def _check_costs(student, rng: np.random.Generator) -> None:
    """All-reduces and steps in clusters that are in no file."""
    cases = [
        {"cluster": random_cluster(rng, nodes, per_node), "size": size, "stride": stride,
         "length": float(10 ** rng.uniform(2, 9))}
        for size, stride, nodes, per_node in ((5, 1, 5, 5), (8, 1, 4, 4), (4, 2, 2, 8), (3, 2, 6, 5))
    ]  # fmt: skip
    answers = student.run_cases(drivers.all_reduce_costs, cases, str)
    for case, got in zip(cases, answers, strict=True):
        cluster, size, length = case["cluster"], case["size"], case["length"]
        shape = (cluster["nodes"], cluster["per_node"])
        wanted = [
            ring_played(size, length, cluster["across"]),
            tree_played(size, length, cluster["across"]),
            two_levels_played(*shape, length, cluster),
            best_played(size, case["stride"], length, cluster),
        ]
        found = [got[name] for name in ("ring", "tree", "hierarchical", "best")]
        assert_close(np.array(found), np.array(wanted), rtol=1e-9, atol=0, name=f"costs: {case}")
    cluster, work = random_cluster(rng, 2, 6), random_work(rng, 24)
    plans = plans_tried(cluster, work)
    steps = [{"cluster": cluster, "work": work, "plan": plans[int(place)]}
             for place in rng.permutation(len(plans))[:8]]  # fmt: skip
    answers = student.run_cases(drivers.plan_costs, steps, str)
    for case, got in zip(steps, answers, strict=True):
        assert_close(np.array(got), np.array(plan_played(**case)), rtol=1e-9, atol=0,
                     name=f"[seconds, bytes]: {case}")  # fmt: skip


@number("4.2")
@stands_alone
@weight(0.75)
def test_best_plans_of_odd_clusters(student, rng):
    """Nodes of 3, 5, 6; batches that leave few plans, or none; ties go to the smaller memory."""
    _check_costs(student, rng)
    cases = []
    for nodes, per_node, batch in ((5, 3, 30), (2, 5, 20), (7, 6, 42), (4, 4, 3), (3, 3, 7)):
        cluster, work = random_cluster(rng, nodes, per_node), random_work(rng, batch)
        sizes = sorted(plan_played(cluster, work, plan)[1] for plan in plans_tried(cluster, work))
        for part in (0.05, 0.5):
            memory = sizes[int(len(sizes) * part)] * 1.001 if sizes else 1e9
            cases.append({"cluster": {**cluster, "memory": memory}, "work": work})
    # No latency and one GPU: every number of micro-batches takes equally long.
    free = {**random_cluster(rng, 1, 1), "memory": 1e15}
    cases.append({"cluster": free, "work": random_work(rng, 16)})
    for case, plan in zip(cases, student.run_cases(drivers.best_plans, cases, _label), strict=True):
        wanted = best_by_search(case["cluster"], case["work"])
        if wanted is None:
            assert plan is None, f"{_label(case)}: no plan can run, yet {plan} came back"
            continue
        assert plan in plans_tried(case["cluster"], case["work"]), f"{_label(case)}: {plan}"
        got = plan_played(case["cluster"], case["work"], plan)
        assert_close(np.array(got), np.array(wanted), rtol=1e-8, atol=0, name=f"[seconds, bytes] of {plan}: {_label(case)}")


@number("4.2")
@stands_alone
@weight(0.75)
def test_thousands_of_gpus(student, rng):
    """4,096 GPUs and 64 billion parameters: fits, no slower than any plan of a list, nor than light."""
    cluster = {"nodes": 512, "per_node": 8, "inside": (3e-6, 400e9), "across": (10e-6, 45e9),
               "flops": float(rng.uniform(3e14, 5e14)), "memory": 72e9}  # fmt: skip
    work = {"layers": 80, "hidden_size": 8192, "num_heads": 64, "sequence": 4096,
            "batch": 2048}  # fmt: skip
    case = {"cluster": cluster, "work": work}
    (plan,) = student.run(drivers.best_plans, cases=[case], timeout=10)
    assert plan is not None, "no plan was found for 4,096 GPUs"
    data, tensor, pipeline, microbatches = plan
    assert data * tensor * pipeline == 4096 and tensor <= 8 and 2048 % (data * microbatches) == 0, (
        f"{plan} can't run"
    )
    seconds, size = plan_played(cluster, work, plan)
    assert size <= cluster["memory"], f"{plan} needs {size:.4g} bytes a GPU"
    flops = 6 * 12 * 80 * 8192**2 * 2048 * 4096
    assert seconds >= flops / 4096 / cluster["flops"], "faster than the GPUs"
    others = [
        [4096 // (t * p), t, p, m]
        for t in (1, 2, 4, 8) for p in (1, 2, 4, 8, 16) if 4096 % (t * p) == 0 and 2048 % (4096 // (t * p)) == 0
        for m in (1, 4, 16, 64) if 2048 % (4096 // (t * p) * m) == 0
    ]  # fmt: skip
    fitting = 0
    for other in others:
        theirs, needs = plan_played(cluster, work, other)
        if needs <= cluster["memory"]:
            fitting += 1
            assert seconds <= theirs * (1 + 1e-9), (
                f"{plan} takes {seconds:.4f} s, but {other} takes {theirs:.4f} s and fits"
            )
    assert fitting > 3, "the list holds hardly a plan that fits"
