"""Task 1.10: modules and their parameters, Linear, LayerNorm, Dropout, state_dict."""

from __future__ import annotations

import hw1_autodiff_drivers as drivers
import numpy as np
import torch
from gradescope_utils.autograder_utils.decorators import number, weight
from oracles_training import TREE_NAMES, TREE_SHAPES, check_layer, dropout_problem

from autograder.testing import assert_close, assert_equal


@number("1.10")
@weight(0.75)
def test_linear_equals_torch(student, rng):
    """Linear: value and gradients over any number of leading axes, with and without bias."""
    for shape, bias in (((5, 3), True), ((2, 4, 3), True), ((2, 1, 4, 3), False)):
        parameters = {"weight": rng.standard_normal((3, 6))}
        if bias:
            parameters["bias"] = rng.standard_normal(6)
        check_layer(
            student, "Linear", {"in_features": 3, "out_features": 6, "bias": bias}, parameters,
            lambda x, p: x @ p["weight"] + p.get("bias", torch.zeros(6, dtype=torch.float64)),
            rng.standard_normal(shape), rng,
        )  # fmt: skip


@number("1.10")
@weight(1)
def test_layer_norm_equals_torch(student, rng):
    """LayerNorm: value and gradients of x, weight and bias equal torch's, for any eps."""
    for shape, eps in (((4, 8), 1e-5), ((2, 3, 5), 1e-2), ((3, 2), 1e-5)):
        size = shape[-1]
        check_layer(
            student, "LayerNorm", {"size": size, "eps": eps},
            {"weight": rng.standard_normal(size), "bias": rng.standard_normal(size)},
            lambda x, p, size=size, eps=eps: torch.nn.functional.layer_norm(
                x, (size,), p["weight"], p["bias"], eps
            ),
            rng.standard_normal(shape) * 0.3 + 1.0, rng,
            hint="the variance divides by n, and eps is added to it under the root",
        )  # fmt: skip


@number("1.10")
@weight(0.75)
def test_dropout_zeroes_scales_and_is_off_in_evaluation(student, rng):
    """Dropout drops each element with probability p, scales the rest, and does nothing in eval."""
    x, upstream = rng.uniform(1, 2, (60, 80)), rng.standard_normal((60, 80))
    for p in (0.25, 0.6):
        seen = student.run(
            drivers.dropout_passes, x=x, p=p, training=[True, False, True],
            seed=int(rng.integers(2**31)), upstream=upstream,
        )  # fmt: skip
        for place in (0, 2):
            problem = dropout_problem(*seen[place], x, upstream, p)
            assert not problem, f"pass {place} of p = {p}: {problem}"
        hint = (
            "the Dropout lies two modules deep: Module.train must descend to every module inside "
            "(eval calls it); in evaluation Dropout returns its input"
        )
        assert_equal(seen[1][0], x, name="Dropout's value in evaluation", hint=hint)
        assert_equal(seen[1][1], upstream, name="Dropout's gradient in evaluation", hint=hint)
        same = np.mean((np.asarray(seen[0][0]) == 0) == (np.asarray(seen[2][0]) == 0))
        assert same < 0.9, "two passes dropped the same elements: draw anew in every forward"


@number("1.10")
@weight(0.5)
def test_parameters_are_found_by_name_and_once(student, rng):
    """named_parameters finds members in lists and in modules, and shared ones once."""
    got = student.run(drivers.tree_names, seed=int(rng.integers(1000)))
    assert_equal(got["names"], TREE_NAMES, name="the names", hint="members in order, depth first")
    assert_equal(got["shapes"], TREE_SHAPES, name="the shapes")
    assert got["same"] is True, "parameters() are not the tensors of named_parameters(), in order"


@number("1.10")
@weight(0.75)
def test_a_state_loaded_elsewhere_is_the_same_bit_for_bit(student, rng):
    """state_dict and load_state_dict: a round trip between two models changes no bit."""
    got = student.run(drivers.state_round_trip, seed=int(rng.integers(1000)))
    assert_equal(list(got["taken"]), TREE_NAMES, name="the state's names")
    assert_equal(list(got["loaded"]), TREE_NAMES, name="the loaded state's names")
    for name, shape in zip(TREE_NAMES, TREE_SHAPES, strict=True):
        taken, loaded = got["taken"][name], got["loaded"][name]
        assert_equal(list(np.shape(taken)), shape, name=f"the shape of {name}")
        assert_equal(loaded, taken, name=f"{name} after loading")
        assert np.asarray(loaded).dtype == np.asarray(taken).dtype, f"{name} changed its dtype"
    assert np.any(got["other"]["first.scale"] != got["taken"]["first.scale"]), (
        "two models with different seeds have the same state"
    )
    assert_close(got["taken"]["frozen"], np.arange(4.0), rtol=0, name="the state's frozen")
    for wrong in ("missing", "unexpected", "shape"):
        error = "ValueError" if wrong == "shape" else "KeyError"
        naming = "groups.7.bias" if wrong == "unexpected" else "groups.0.1.bias"
        student.raises(drivers.load_wrong_state, error, naming, seed=3, wrong=wrong)
