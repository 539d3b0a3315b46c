"""Task 1.10, hidden: layouts, extreme sizes, copies, tied and frozen parameters."""

from __future__ import annotations

import hw1_autodiff_drivers as drivers
import numpy as np
import torch
from gradescope_utils.autograder_utils.decorators import number, weight
from oracles_training import TREE_NAMES, check_layer, dropout_problem

from autograder.testing import assert_close, assert_equal


@number("1.10")
@weight(0.5)
def test_layer_norm_of_large_means_size_one_and_strides(student, rng):
    """LayerNorm stays exact far from zero, over one element, without rows, and over strides."""
    for x, transposed in (
        (rng.standard_normal((3, 6)) + 1e6, False),
        (rng.standard_normal((5, 1)), False),
        (rng.standard_normal((0, 4)), False),
        (rng.standard_normal((4, 3, 7)), True),
    ):
        size = x.shape[-1]
        check_layer(
            student, "LayerNorm", {"size": size, "eps": 1e-5},
            {"weight": rng.standard_normal(size), "bias": rng.standard_normal(size)},
            lambda x, p, size=size: torch.nn.functional.layer_norm(
                x, (size,), p["weight"], p["bias"], 1e-5
            ),
            x, rng, transposed=transposed, rtol=1e-6,
        )  # fmt: skip


@number("1.10")
@weight(0.5)
def test_dropout_of_everything_and_of_nothing(student, rng):
    """Dropout with p = 1 gives zeros, with p = 0 its input, and keeps float32 float32."""
    x = rng.uniform(1, 2, (7, 5)).astype(np.float32)
    upstream = rng.standard_normal((7, 5)).astype(np.float32)
    everything, nothing, some = (
        student.run(
            drivers.dropout_passes, x=x, p=p, training=[True], seed=int(rng.integers(2**31)),
            upstream=upstream,
        )[0]
        for p in (1.0, 0.0, 0.5)
    )  # fmt: skip
    assert_equal(everything[0], np.zeros_like(x), name="the value for p = 1")
    assert_equal(everything[1], np.zeros_like(x), name="the gradient for p = 1")
    assert_equal(nothing[0], x, name="the value for p = 0")
    assert_equal(nothing[1], upstream, name="the gradient for p = 0")
    assert np.asarray(some[0]).dtype == np.float32, "float32 became another dtype"
    large, sent = rng.uniform(1, 2, (90, 90)), rng.standard_normal((90, 90))
    [seen] = student.run(
        drivers.dropout_passes, x=large, p=0.9, training=[True], seed=int(rng.integers(2**31)),
        upstream=sent,
    )  # fmt: skip
    problem = dropout_problem(*seen, large, sent, 0.9)
    assert not problem, problem


@number("1.10")
@weight(0.25)
def test_modes_reach_every_module_once(student, rng):
    """train and eval reach modules in nested lists, return the module, and survive circles."""
    first, after_eval, after_train, flags = student.run(
        drivers.tree_modes, seed=int(rng.integers(1000))
    )
    assert_equal(first, [True] * 6, name="training at first")
    assert_equal(after_eval, [False] * 6, name="training after eval()")
    assert_equal(after_train, [True] * 6, name="training after train()")
    assert_equal(flags, [True, True], name="[train and eval return self, each module once]")


@number("1.10")
@weight(0.5)
def test_a_state_is_a_copy_and_loading_all_or_nothing(student, rng):
    """Later training changes no state taken before; a state that does not fit changes nothing."""
    got = student.run(drivers.state_round_trip, seed=int(rng.integers(1000)))
    assert got["in place"] is True, "load_state_dict must write into the arrays that are there"
    for name in TREE_NAMES:
        assert_equal(got["after training on"][name], got["taken"][name], name=f"the state's {name}")
        assert_equal(got["after writing"][name], got["taken"][name], name=f"the model's {name}")
    for wrong in ("missing", "unexpected", "shape"):
        before, after = student.run(
            drivers.load_wrong_state, seed=int(rng.integers(1000)), wrong=wrong, swallow=True
        )
        assert_equal(list(before), TREE_NAMES, name="the names")
        assert np.any(before[TREE_NAMES[0]]), "the parameters are all zero"
        for name in TREE_NAMES:
            assert_equal(after[name], before[name], name=f"{name} after a refused state ({wrong})")


@number("1.10")
@weight(0.5)
def test_tied_and_frozen_weights(student, rng):
    """A tied weight is one parameter with both gradients; a frozen one is listed and gets none."""
    weight_, x, upstream = (rng.standard_normal((4, 4)) for _ in range(3))
    count, got = student.run(
        drivers.tied_linear_gradients, x=x, weight=weight_, upstream=upstream
    )
    leaf = torch.tensor(weight_, requires_grad=True)
    inner = torch.nn.functional.gelu(torch.tensor(x) @ leaf, approximate="tanh")
    (inner @ leaf).backward(torch.tensor(upstream))
    assert count == 1, f"a weight used by two layers is one parameter, not {count}"
    assert_close(got, leaf.grad.numpy(), rtol=1e-9, name="the tied weight's gradient")
    seen = student.run(
        drivers.layer_gradients, layer="Linear", options={"in_features": 4, "out_features": 4},
        parameters={"weight": weight_, "bias": weight_[0]}, x=x, upstream=upstream,
        frozen=["weight"],
    )  # fmt: skip
    assert seen["weight"] is None, "a frozen weight got a gradient"
    assert_close(seen["bias"], upstream.sum(0), name="the gradient of the bias beside it")
    wanted = student.run(drivers.tree_names, seed=1)["wanted"]
    assert_equal(
        wanted, {name: name != "frozen" for name in TREE_NAMES}, name="requires_grad by name"
    )
