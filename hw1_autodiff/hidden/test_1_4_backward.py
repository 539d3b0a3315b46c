"""Task 1.4, hidden: other graphs, frozen parts, second passes."""

from __future__ import annotations

import hw1_autodiff_drivers as drivers
import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight
from programs import random_program, torch_gradients, wrong_order

from autograder.testing import assert_close


@number("1.4")
@weight(1)
def test_order_leaves_out_what_needs_no_gradient(student, rng):
    """Tensors that need no gradient are not in the order."""
    for _ in range(12):
        program, leaves = random_program(rng, operations=15)
        wanted = [bool(w) for w in rng.random(leaves) < 0.5]
        wanted[int(rng.integers(leaves))] = True
        order = student.run(
            drivers.order_of_program, program=program, leaves=leaves, wanted=wanted
        )
        problem = wrong_order(order, program, leaves, wanted)
        assert not problem, problem


@number("1.4")
@weight(1.5)
def test_large_random_graphs_with_frozen_leaves(student, rng):
    """Gradients of large random graphs equal torch's; frozen leaves get none."""
    for _ in range(6):
        program, leaves = random_program(rng, operations=40, names=("Add", "Add", "Identity"))
        wanted = [bool(w) for w in rng.random(leaves) < 0.6]
        used = program[-1][1]
        wanted = wanted if any(wanted) else [True] * leaves
        arrays = [rng.standard_normal((1, 4)) for _ in range(leaves)]
        program.append(["Add", used, int(np.argmax(wanted))])
        got, interior_clean = student.run(
            drivers.evaluate_program, program=program, leaves=arrays, wanted=wanted
        )
        assert interior_clean, "only leaves keep a grad"
        for place, expected in enumerate(torch_gradients(program, arrays, wanted)):
            if expected is None:
                assert got[place] is None, f"leaf {place} should have no grad"
            else:
                assert_close(got[place], expected, rtol=1e-9, name=f"leaf {place}.grad")


@number("1.4")
@weight(0.5)
def test_backward_of_a_leaf_sets_its_grad(student, rng):
    """backward called on a leaf gives it the gradient itself."""
    x, upstream = rng.standard_normal((2, 5)), rng.standard_normal((2, 5))
    assert_close(
        student.run(drivers.backward_of_leaf, x=x, upstream=upstream), upstream, name="leaf.grad"
    )


@number("1.4")
@weight(0.5)
def test_a_freed_graph_can_not_be_walked_again(student, rng):
    """A second backward raises RuntimeError, also where only a part of the graph was freed."""
    x = rng.standard_normal(2)
    student.raises(drivers.backward_twice, "RuntimeError", x=x)
    student.raises(drivers.shared_part_after_backward, "RuntimeError", x=x)
