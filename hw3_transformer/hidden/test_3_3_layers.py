"""Task 3.3, hidden: degenerate rows and sizes, positions far out, half precision, random shapes."""

from __future__ import annotations

import drivers_layers as drivers
import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight
from layers_cases import (
    NORM,
    TURN,
    angles_of,
    check,
    gated_case,
    gated_formula,
    norm_case,
    norm_formula,
    turn_case,
    turn_formula,
)

from autograder.testing import assert_close

LAYOUTS = ("plain", "transposed", "strided")


@number("3.3")
@weight(0.75)
def test_rms_norm_of_rows_of_zeros_and_empty_batches(student, rng):
    """A row of zeros gives zeros and finite gradients, no rows give none, width 1 gives a sign."""
    cases = []
    for dtype in ("float64", "float32"):
        zero = norm_case(rng, (3, 4, 8), dtype, eps=1e-3)
        zero["x"][1] = 0.0
        zero["x"][2, 1] = 0.0
        cases += [zero, norm_case(rng, (0, 8), dtype), norm_case(rng, (2, 0, 3), dtype)]
        cases += [norm_case(rng, (5, 1), dtype, eps=1e-6), norm_case(rng, (1,), dtype)]
        cases += [norm_case(rng, (2, 6), dtype, scale=s) for s in (1e4, 1e-4)]
    check(student, drivers.norms, norm_formula, cases, ("x", "weight"), ("eps",), NORM, "rms_norm")


@number("3.3")
@weight(0.5)
def test_rms_norm_sees_one_row_at_a_time(student, rng):
    """A row's result does not depend on its neighbours, and nearly not on its length."""
    case = norm_case(rng, (4, 6, 10), "float64")
    other = {**case, "x": case["x"].copy()}
    other["x"][2, 3] *= 50.0
    first, second = student.run(drivers.norms, cases=[case, other])
    changed = np.abs(np.asarray(first["value"]) - np.asarray(second["value"])).max(-1) > 1e-12
    assert changed.sum() <= 1, f"one row was made longer, and {changed.sum()} rows changed"
    assert_close(second["value"][2, 3], first["value"][2, 3], rtol=1e-4, atol=1e-4,
                 name="the row that is 50 times as long", hint=NORM)  # fmt: skip


@number("3.3")
@weight(0.75)
def test_rope_far_out_and_row_by_row(student, rng):
    """Positions that repeat, fall, or lie at 100,000; theta of 500,000; a batch of one."""
    packed = np.array([[5, 4, 3, 3, 0, 9], [0, 0, 0, 1, 1, 1], [7, 99_990, 2, 0, 50_000, 1]])
    cases = [
        {"positions": positions, "head_dim": head_dim, "theta": theta}
        for positions in (packed, packed[1:2], packed[2], np.zeros((2, 0), np.int64))
        for head_dim, theta in ((4, 500_000.0), (2, 7.0), (10, 10_000.0), (128, 1e6))
    ]
    for case, reply in zip(cases, student.run(drivers.tables, cases=cases), strict=True):
        angles = angles_of(case["positions"], case["head_dim"], case["theta"])
        atol = 2e-6 + 2.5e-7 * float(np.abs(angles).max(initial=0.0))
        for name, expected in (("cos", np.cos(angles)), ("sin", np.sin(angles))):
            text = f"{name}, head_dim={case['head_dim']}, theta={case['theta']:g}"
            assert_close(reply[name]["value"], expected, rtol=0, atol=atol, name=text)
    turns = [
        turn_case(rng, (1, 2, 6, 4), packed[:1], "float64"),
        turn_case(rng, (3, 1, 6, 2), packed, "float32", "strided", theta=50.0),
        turn_case(rng, (3, 3, 3, 2), packed[:, :3], "float64", "transposed"),
        turn_case(rng, (2, 2, 0, 4), np.zeros((2, 0)), "float32"),
        turn_case(rng, (3, 2, 6, 8), packed[1], "bfloat16"),
    ]
    check(student, drivers.turned, turn_formula, turns, ("x",), ("cos", "sin"), TURN, "apply_rope")


@number("3.3")
@weight(0.5)
def test_swiglu_of_large_and_half_precision_numbers(student, rng):
    """silu of ±1e4 is 0 or its argument, not NaN; one row, no row, bfloat16."""
    cases = [
        gated_case(rng, (3, 6), 5, "float64", scale=1e4), gated_case(rng, (3, 6), 5, "float32"),
        gated_case(rng, (4,), 7, "float64"), gated_case(rng, (0, 4), 3, "float64"),
        gated_case(rng, (2, 2, 4), 1, "float64", "transposed"),
    ]  # fmt: skip
    leaves = ("x", "gate", "up", "down")
    check(student, drivers.gated, gated_formula, cases, leaves, result="SwiGLU")
    half = gated_case(rng, (2, 3, 8), 16, "bfloat16", scale=0.3)
    del half["upstream"]
    check(student, drivers.gated, gated_formula, [half], leaves, result="SwiGLU")


@number("3.3")
@weight(0.5)
def test_any_shape_and_layout(student, rng):
    """Random shapes, layouts, types, eps and positions."""
    norms, turns = [], []
    for place in range(24):
        dims = int(rng.integers(1, 4))
        shape = tuple(int(n) for n in rng.integers(1, 7, dims))
        layout = LAYOUTS[place % 3] if dims > 1 else "plain"
        eps = float(10.0 ** rng.integers(-6, 0))
        norms.append(norm_case(rng, shape, ("float64", "float32")[place % 2], layout, eps))
        batch, heads, time = (int(n) for n in rng.integers(1, 4, 3))
        positions = rng.integers(0, 3000, [(time,), (batch, time)][place % 2])
        four = (batch, heads, time, 2 * int(rng.integers(1, 6)))
        turns.append(turn_case(rng, four, positions, "float64", LAYOUTS[place % 3]))
    check(student, drivers.norms, norm_formula, norms, ("x", "weight"), ("eps",), NORM, "rms_norm")
    check(student, drivers.turned, turn_formula, turns, ("x",), ("cos", "sin"), TURN, "apply_rope")
