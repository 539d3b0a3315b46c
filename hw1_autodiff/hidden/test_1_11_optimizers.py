"""Task 1.11, hidden: missing, shared and row-sparse gradients, odd arrays, exact resume."""

from __future__ import annotations

import math

import hw1_autodiff_drivers as drivers
import numpy as np
import pytest
import torch
from gradescope_utils.autograder_utils.decorators import number, weight
from oracles_training import assert_same_path, torch_optimized

from autograder.testing import assert_close, assert_equal

CHOICES = [
    ("SGD", {"momentum": 0.9, "weight_decay": 0.1}, {"momentum": 0.9, "weight_decay": 0.1}),
    ("SGD", {}, {}),
    ("AdamW", {"weight_decay": 0.2}, {"weight_decay": 0.2}),
]


def _path(student, rng, optimizer, options, theirs, parameters, gradients, **how):
    got = student.run(
        drivers.optimize, optimizer=optimizer, options={"learning_rate": 0.05, **options},
        parameters=parameters, gradients=gradients, **how,
    )  # fmt: skip
    expected = torch_optimized(
        lambda leaves: getattr(torch.optim, optimizer)(leaves, 0.05, **theirs), parameters,
        gradients,
    )  # fmt: skip
    assert_same_path(got, expected, rtol=1e-9, atol=1e-12, about=f"{optimizer} with {options}")


@number("1.11")
@pytest.mark.warm_up("1.11")
@weight(0.5)
def test_parameters_without_gradient_and_listed_twice(student, rng):
    """No gradient: no decay, no moment, no step counted. Listed twice: stepped once."""
    for optimizer, options, theirs in CHOICES:
        parameters = [rng.standard_normal(3), rng.standard_normal((2, 2))]
        gradients = [[rng.standard_normal(3), rng.standard_normal((2, 2))] for _ in range(12)]
        for step in (0, 1, 2, 6):
            gradients[step][1] = None
        gradients[8][0] = None
        _path(student, rng, optimizer, options, theirs, parameters, gradients, twice=True)


@number("1.11")
@pytest.mark.warm_up("1.11")
@weight(0.5)
def test_row_sparse_gradients_mean_the_dense_ones(student, rng):
    """A RowSparseGradient gives the steps of the dense gradient it stands for, and clips as it."""
    shape = (9, 3)

    def sparse():
        rows = np.sort(rng.choice(9, int(rng.integers(0, 5)), replace=False)).astype(np.int64)
        return {"rows": rows, "values": rng.standard_normal((len(rows), 3)), "shape": list(shape)}

    for optimizer, options, theirs in CHOICES:
        parameters = [rng.standard_normal(shape), rng.standard_normal(4)]
        gradients = [[sparse(), rng.standard_normal(4)] for _ in range(10)]
        gradients[4][0] = rng.standard_normal(shape)
        _path(student, rng, optimizer, options, theirs, parameters, gradients)
    given = {"rows": np.array([1, 7]), "values": rng.standard_normal((2, 3)), "shape": list(shape)}
    other = rng.standard_normal(5)
    norm = math.sqrt(float((given["values"] ** 2).sum() + (other**2).sum()))
    got, after = student.run(drivers.clipped, gradients=[given, other], max_norm=norm / 2)
    assert_close(got, norm, rtol=1e-12, name="the norm")
    assert isinstance(after[0], list), "clipping made the row-sparse gradient dense"
    assert_equal(after[0][0], given["rows"], name="the rows")
    factor = norm / 2 / (norm + 1e-6)
    assert_close(after[0][1], given["values"] * factor, rtol=1e-9, name="the clipped values")
    assert_close(after[1], other * factor, rtol=1e-9, name="the gradient beside it")


@number("1.11")
@pytest.mark.warm_up("1.11")
@weight(0.5)
def test_an_optimizer_goes_on_from_its_state(student, rng):
    """A new optimizer that loads the state takes the same steps, bit for bit."""
    for optimizer, options, _ in CHOICES:
        parameters = [rng.standard_normal((3, 3)), rng.standard_normal(2)]
        gradients = [[rng.standard_normal((3, 3)), rng.standard_normal(2)] for _ in range(9)]
        gradients[0][1] = None
        asked = {
            "optimizer": optimizer, "options": {"learning_rate": 0.05, **options},
            "parameters": parameters, "gradients": gradients,
        }  # fmt: skip
        straight = student.run(drivers.optimize, **asked)
        broken = student.run(drivers.optimize, **asked, interrupt=5)
        assert np.any(straight[0][0] != parameters[0]), "the first step changed nothing"
        assert np.any(straight[-1][0] != straight[5][0]), "the last steps changed nothing"
        assert_equal(broken, straight, name=f"{optimizer}'s parameters by step")
    options = {"peak": 0.5, "warmup_steps": 4, "total_steps": 15, "floor": 0.01}
    rates = student.run(drivers.schedule_rates, options=options, steps=15)
    again = student.run(drivers.schedule_rates, options=options, steps=15, reload_at=6)
    assert_equal(again, rates, name="rates after loading the schedule's state")
    assert len(set(rates)) > 10, "the rates hardly change"


@number("1.11")
@pytest.mark.warm_up("1.11")
@weight(0.25)
def test_arrays_of_any_strides_of_no_axes_and_empty(student, rng):
    """Parameters and gradients may lie in memory as they like, be 0-D, or have no elements."""
    for optimizer, options, theirs in CHOICES:
        shapes = [(3, 5), (), (0, 4), (2, 3, 4), (1, 1)]
        parameters = [np.asarray(rng.standard_normal(shape)) for shape in shapes]
        gradients = [[np.asarray(rng.standard_normal(s)) for s in shapes] for _ in range(4)]
        _path(student, rng, optimizer, options, theirs, parameters, gradients, transposed=True)


@number("1.11")
@weight(0.5)
def test_clipping_and_schedule_at_their_edges(student, rng):
    """Zero, shared, nan and infinite gradients; no warm-up, only warm-up."""
    zeros = [np.zeros(3), None, np.zeros((2, 2))]
    norm, after = student.run(drivers.clipped, gradients=zeros, max_norm=1.0)
    assert_equal(norm, 0.0, name="the norm of zeros")
    assert_equal(after[0], zeros[0], name="the zeros after clipping")
    g = rng.standard_normal(4) * 5
    norm, after = student.run(drivers.clipped, gradients=[g], max_norm=1.0, twice=True)
    length = float(np.sqrt((g**2).sum()))
    assert_close(norm, length, rtol=1e-12, name="the norm where a parameter is listed twice")
    assert_close(after[0], g / (length + 1e-6), rtol=1e-9, name="its gradient")
    for bad in (np.inf, np.nan):
        broken = [np.array([1.0, bad]), rng.standard_normal(3)]
        norm, after = student.run(drivers.clipped, gradients=broken, max_norm=1e-3)
        assert isinstance(norm, float) and not math.isfinite(norm), (
            f"a gradient with {bad} has no finite norm, yet {norm} was returned"
        )
        assert_equal(after[1], broken[1], name="the other gradient, which must stay")
    tiny = np.full(10, 1e-25, np.float32)
    norm, _ = student.run(drivers.clipped, gradients=[tiny], max_norm=1.0)
    expected = math.sqrt(10) * 1e-25
    assert_close(norm, expected, rtol=1e-5, atol=0, name="the norm of 1e-25 in float32")
    for warmup, total in ((0, 10), (6, 6), (1, 5)):
        options = {"peak": 0.3, "warmup_steps": warmup, "total_steps": total, "floor": 0.1}
        got = student.run(drivers.schedule_rates, options=options, steps=total + 3)
        expected = [0.3 * (s + 1) / warmup for s in range(warmup)]
        span = total - warmup
        expected += [0.1 + 0.1 * (1 + math.cos(math.pi * s / span)) for s in range(span)]
        assert_close(
            np.array(got), np.array(expected + [0.1] * 3), rtol=1e-9,
            name=f"rates for {warmup} warm-up steps of {total}",
        )  # fmt: skip
