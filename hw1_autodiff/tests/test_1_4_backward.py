"""Task 1.4: topological order, accumulation over every path, a graph that is freed."""

from __future__ import annotations

import hw1_autodiff_drivers as drivers
import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight
from programs import random_program, torch_gradients, wrong_order

from autograder.testing import Measure, assert_close, assert_equal, reported_by_worker


@number("1.4")
@weight(1)
def test_order_has_every_tensor_after_its_consumers(student, rng, figure):
    """topological_order lists each tensor once, after everything computed from it."""
    for _ in range(10):
        program, leaves = random_program(rng, operations=12)
        order = student.run(
            drivers.order_of_program, program=program, leaves=leaves, wanted=[True] * leaves
        )
        problem = wrong_order(order, program, leaves, [True] * leaves)
        assert not problem, problem
    graph = student.run(drivers.graph_of_expression)
    figure(kind="graph", title="Backward through (x·w + b)·(x·w), in your order", data=graph)


@number("1.4")
@weight(1.5)
def test_gradients_of_every_path_are_added(student, rng):
    """A tensor used several times gets the sum over all paths, as in torch."""
    for _ in range(8):
        program, leaves = random_program(rng, operations=10)
        arrays = [rng.standard_normal((2, 3)) for _ in range(leaves)]
        got, _ = student.run(
            drivers.evaluate_program, program=program, leaves=arrays, wanted=[True] * leaves
        )
        for place, expected in enumerate(torch_gradients(program, arrays, [True] * leaves)):
            if expected is None:
                assert got[place] is None, f"leaf {place} is not used: its grad stays None"
                continue
            assert_close(
                got[place], expected, rtol=1e-9, name=f"leaf {place}.grad",
                hint="add up what arrives over each path before you pass it on",
            )  # fmt: skip


@number("1.4")
@weight(1)
def test_grad_adds_up_over_several_backward_passes(student, rng):
    """A leaf keeps its grad: the next backward adds to it."""
    x = rng.standard_normal((3, 2))
    first, last = student.run(drivers.accumulated_gradients, x=x, times=3)
    assert_close(
        first, 2 * x, rtol=1e-12, name="the grad array taken after the first pass",
        hint="make a new array when you add: the old one may be held by someone",
    )  # fmt: skip
    assert_close(last, 6 * x, rtol=1e-12, name="leaf.grad after three passes")


@number("1.4")
@weight(1)
def test_no_array_of_others_is_written_to(student, rng):
    """Each leaf's grad is an array of its own."""
    x, upstream = rng.standard_normal((2, 2)), rng.standard_normal((2, 2))
    kept, other = student.run(drivers.gradient_is_own_array, x=x, upstream=upstream)
    hint = "copy the first gradient that arrives at a leaf; Add hands out `upstream` itself, twice"
    assert_close(kept, upstream, rtol=0, name="the caller's gradient", hint=hint)
    assert_close(other, upstream, rtol=0, name="the other leaf's grad", hint=hint)


@number("1.4")
@weight(0.5)
def test_a_missing_gradient_stops_there(student, rng):
    """An operation that returns None for an input passes nothing on to it."""
    x = rng.standard_normal(3)
    hint = "None means that nothing flows along this edge: skip it; a tensor may get no gradient"
    for name, program in (
        ("two paths, one of them blocked", [["Blocked", 0], ["Identity", 0], ["Add", 2, 3]]),
        ("a path blocked at the leaf", [["Blocked", 1], ["Add", 0, 2]]),
        ("a path blocked above an operation", [["Identity", 1], ["Blocked", 2], ["Add", 0, 3]]),
    ):
        got, _ = student.run(
            drivers.evaluate_program, program=program, leaves=[x, x], wanted=[True, True]
        )
        assert_close(got[0], np.ones(3), name=f"{name}: the grad over the open path", hint=hint)
        assert got[1] is None, f"{name}: nothing arrives at leaf 1, so its grad stays None"


@number("1.4")
@weight(1.5)
def test_a_long_chain_needs_no_recursion(student, rng):
    """A chain of 50,000 operations works."""
    x = rng.standard_normal(3)
    by = 1.0 + 1e-5
    got = student.run(drivers.chain_gradient, x=x, length=50_000, by=by)
    assert_close(got, np.full(3, by**50_000), rtol=1e-6, name="gradient through the chain")


@number("1.4")
@reported_by_worker
@weight(1)
def test_the_graph_is_freed(student, rng):
    """After backward the saved arrays are gone, without help of the garbage collector."""
    x = rng.standard_normal(4)
    seen = student.run(drivers.freed_after_backward, x=x)
    assert_close(seen["grad"], np.full(4, 64.0), name="leaf.grad")
    assert seen["before"] == 6, "the graph was freed before backward was called"
    assert seen["after"] == 0, (
        f"{seen['after']} of 6 saved arrays are alive after backward: call node.free() on every "
        "node you visited, and keep no reference to them"
    )
    assert seen["freed"] is True, "result.node.freed is False after backward"


def _seconds_of_walk(student, rungs: int) -> float:
    """CPU seconds of building a ladder of `rungs` and walking it back."""
    before = student.worker.cpu_seconds()
    got = student.run(drivers.ladder_gradient, x=np.array([1.0]), rungs=rungs)
    seconds = student.worker.cpu_seconds() - before
    assert np.shape(got) == (1,), "the gradient of a leaf of one element has one element"
    return seconds


def _growth(student, small: int, large: int, limit: float, best_of: int) -> float:
    """How many times as long the larger walk takes: the best of a few, ended by the first good one."""
    least = min(_seconds_of_walk(student, small) for _ in range(best_of))
    ratio = float("inf")
    for _ in range(best_of):
        ratio = min(ratio, _seconds_of_walk(student, large) / least)
        if ratio <= limit:
            break
    return ratio


@number("1.4")
@weight(1)
def test_the_walk_is_linear(student):
    """Eight times the nodes take at most 32 times as long, and at most 20 times from 20,000 on."""
    assert_equal(
        student.run(drivers.ladder_gradient, x=np.array([1.0]), rungs=60), np.array([2.0**60]),
        name="gradient of a ladder with 2**60 paths", hint="visit each tensor once",
    )  # fmt: skip
    # A quadratic walk takes 64 times as long; a linear one 9, and 11 to 12 for the longer pair, on
    # a busy machine too. That pair shows a search that is quick per element, as numpy's is (30).
    for small, large, limit, best_of in ((2_500, 20_000, 32, 5), (20_000, 160_000, 20, 2)):
        ratio = _growth(student, small, large, limit, best_of)
        name = f"t({large:,}) / t({small:,})"
        student.measure(Measure(name=name, value=ratio, full=limit))
        assert ratio <= limit, (
            f"{large:,} nodes took {ratio:.0f} times as long as {small:,}: the walk is not linear. "
            "Look for a search through a list or an array, or a tensor visited once per path"
        )
