"""Task 1.11: SGD, AdamW, clipping, the cosine schedule, and the speed of AdamW."""

from __future__ import annotations

import math

import hw1_autodiff_drivers as drivers
import numpy as np
import peers_training as peers
import pytest
import torch
from gradescope_utils.autograder_utils.decorators import number, partial_credit, weight
from oracles_training import assert_same_path, torch_optimized

from autograder.testing import assert_close, race, score_ratio, speed

STEPS = 50


def _problem(rng, steps=STEPS):
    """Parameters of several shapes and a gradient of each for every step."""
    shapes = [(4, 3), (5,), (2, 3, 2), ()]
    parameters = [np.asarray(rng.standard_normal(shape)) for shape in shapes]
    gradients = [[np.asarray(rng.standard_normal(s)) for s in shapes] for _ in range(steps)]
    return parameters, gradients


@number("1.11")
@weight(0.75)
def test_sgd_follows_torch(student, rng):
    """SGD with and without momentum, Nesterov and decay: 50 steps as torch takes them."""
    for options in (
        {}, {"momentum": 0.9}, {"momentum": 0.8, "weight_decay": 0.1},
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}, {"weight_decay": 0.2},
    ):  # fmt: skip
        parameters, gradients = _problem(rng)
        rates = [0.1 / (1 + step) for step in range(STEPS)]
        got = student.run(
            drivers.optimize, optimizer="SGD", options={"learning_rate": 0.1, **options},
            parameters=parameters, gradients=gradients, rates=rates,
        )  # fmt: skip
        expected = torch_optimized(
            lambda leaves, options=options: torch.optim.SGD(leaves, 0.1, **options), parameters,
            gradients, rates,
        )  # fmt: skip
        assert_same_path(got, expected, rtol=1e-9, atol=1e-12, about=f"SGD with {options}")


@number("1.11")
@pytest.mark.warm_up("1.11")
@weight(0.75)
def test_adamw_follows_torch(student, rng):
    """AdamW: 50 steps as torch takes them, decay decoupled, in float64 and float32."""
    for options, dtype in (
        ({"weight_decay": 0.0}, np.float64), ({"weight_decay": 0.1}, np.float64),
        ({"betas": [0.8, 0.9], "eps": 1e-3, "weight_decay": 0.5}, np.float64), ({}, np.float32),
    ):  # fmt: skip
        parameters, gradients = _problem(rng)
        parameters = [p.astype(dtype) for p in parameters]
        gradients = [[g.astype(dtype) for g in row] for row in gradients]
        got = student.run(
            drivers.optimize, optimizer="AdamW", options={"learning_rate": 0.02, **options},
            parameters=parameters, gradients=gradients,
        )  # fmt: skip
        decay = {"weight_decay": 0.01, **options}
        expected = torch_optimized(
            lambda leaves, decay=decay: torch.optim.AdamW(leaves, 0.02, **decay), parameters,
            gradients,
        )  # fmt: skip
        exact = dtype == np.float64
        assert_same_path(
            got, expected, rtol=1e-9 if exact else 1e-6, atol=1e-12 if exact else 2e-6,
            about=f"AdamW with {options} in {np.dtype(dtype)}",
        )  # fmt: skip


@number("1.11")
@weight(0.5)
def test_clipping_scales_all_gradients_by_one_factor(student, rng):
    """clip_grad_norm_ returns the joint norm, shortens a longer gradient, leaves a shorter one."""
    gradients = [rng.standard_normal((3, 4)), None, rng.standard_normal(6) * 10]
    norm = math.sqrt(sum(float((g**2).sum()) for g in gradients if g is not None))
    for max_norm in (norm / 3, norm * 0.99, norm * 1.5):
        got, after = student.run(drivers.clipped, gradients=gradients, max_norm=max_norm)
        assert_close(got, norm, rtol=1e-12, name="the norm that is returned")
        factor = min(1.0, max_norm / (norm + 1e-6))
        assert after[1] is None, "a parameter without gradient got one"
        for place in (0, 2):
            assert_close(
                after[place], gradients[place] * factor, rtol=1e-9,
                name=f"gradient {place} of norm {norm:.4g}, clipped to {max_norm:.4g}",
            )  # fmt: skip


@number("1.11")
@weight(0.5)
def test_the_schedule_warms_up_and_follows_a_cosine(student, rng):
    """CosineSchedule: linear warm-up from the first step, then torch's cosine, then the floor."""
    peak, floor = float(rng.uniform(0.1, 1)), float(rng.uniform(0.001, 0.01))
    warmup, total = 7, 40
    got = student.run(
        drivers.schedule_rates, steps=total + 5,
        options={"peak": peak, "warmup_steps": warmup, "total_steps": total, "floor": floor},
    )  # fmt: skip
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], peak)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total - warmup, floor)
    cosine = []
    for _ in range(total - warmup):
        cosine.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    expected = [peak * (s + 1) / warmup for s in range(warmup)] + cosine + [floor] * 5
    assert_close(np.array(got), np.array(expected), rtol=1e-9, name="learning rate by step")


def adamw_in_turns(x: np.ndarray, g: np.ndarray, steps: int, rate: float) -> np.ndarray:
    """AdamW with the default settings in float64; the gradients are in turn g and -g / 2."""
    x, g = x.astype(np.float64), g.astype(np.float64)
    first, second = np.zeros_like(x), np.zeros_like(x)
    for step in range(1, steps + 1):
        now = g if step % 2 else -0.5 * g
        first, second = 0.9 * first + 0.1 * now, 0.999 * second + 0.001 * now**2
        move = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        x = x * (1 - rate * 0.01) - rate * move
    return x


@number("1.11")
@pytest.mark.warm_up("1.11")
@partial_credit(1.25)
@speed
def test_speed_of_adamw(student, rng, set_score):
    """AdamW on 2 million float32 parameters against numpy one array at a time, one thread."""
    shapes = [(1024, 1024), (1 << 19,), (2048, 256)]
    steps, rate = 8, 1e-2

    def make_arguments(index):
        return {
            "parameters": [rng.standard_normal(s, dtype=np.float32) for s in shapes],
            "gradients": [rng.standard_normal(s, dtype=np.float32) for s in shapes],
            "steps": steps, "rate": rate,
        }  # fmt: skip

    def check(value, arguments):
        # All entries are computed; some, not known beforehand, are compared.
        assert len(value) == len(shapes), "one array for each parameter"
        for got, x, g in zip(value, arguments["parameters"], arguments["gradients"], strict=True):
            assert np.shape(got) == x.shape, f"a parameter of shape {x.shape} came as {np.shape(got)}"
            some = rng.integers(0, x.size, 20_000)
            expected = adamw_in_turns(x.reshape(-1)[some], g.reshape(-1)[some], steps, rate)
            assert_close(
                got.reshape(-1)[some], expected, rtol=1e-5, atol=2e-6, name="a parameter"
            )

    result = race(student, drivers.adamw_steps, peers.adamw_steps, make_arguments, check, pairs=5)
    score_ratio(
        student, set_score, 1.25, result.ratio, full=2.5, zero=1.1, name="AdamW step",
        peer="numpy, one array at a time",
    )  # fmt: skip
