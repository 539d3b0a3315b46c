"""Task 5.6: GPTQ against solving each step afresh, all assignments, and rounding a real block."""

from __future__ import annotations

import drivers_compression as drivers
import numpy as np
from compression_cases import best_of_all, correlated, greedy, loss, meaning, rounded
from gradescope_utils.autograder_utils.decorators import number, weight
from real_measures import GOLDEN, check_gptq

from autograder.testing import Measure, assert_close, packaged

STEP = "the loss of column j, divided by U[j, j], times row j of U is taken from later columns"
DEFAULTS = {"bits": 4, "group": 8, "symmetric": True, "damping": 0.01, "by_importance": False}


def second(inputs: np.ndarray) -> np.ndarray:
    """2 / count · Σ x xᵀ."""
    rows = inputs.astype(np.float64)
    return 2 * rows.T @ rows / len(rows)


@number("5.6")
@weight(0.6)
def test_statistics_do_not_depend_on_the_split(student, rng):
    """Batches of any shape, an empty one too: 2 / count · Σ x xᵀ."""
    inputs = rng.standard_normal((30, 6)).astype(np.float32)
    for batches in ([inputs], [inputs[:4].reshape(2, 2, 6), inputs[:0], inputs[4:]]):
        got = student.run(drivers.hessian, batches=batches)
        assert got["count"] == 30, f"count is {got['count']}, 30 inputs were given"
        assert_close(got["hessian"], second(inputs), rtol=1e-9, atol=1e-9, name="hessian")


@number("5.6")
@weight(1.8)
def test_each_column_is_made_good_by_the_rest(student, rng):
    """The same weights as solving for the free columns afresh after each one."""
    cases = []
    for change in ({}, {"symmetric": False}, {"bits": 3, "group": 24}, {"by_importance": True}):
        options = {**DEFAULTS, **change}
        cases.append({"weight": rng.standard_normal((5, 24)).astype(np.float32),
                      "hessian": second(correlated(rng, 60, 24, 8)), "options": options})  # fmt: skip
    for got, case in zip(student.run(drivers.calibrated, cases=cases), cases, strict=True):
        options = case["options"]
        wanted = greedy(case["weight"], case["hessian"], **options)
        assert_close(meaning(got, options["bits"]), wanted, rtol=1e-4, atol=1e-5, name=f"{options}",
                     hint=STEP)  # fmt: skip
        assert got["unchanged"] is True, "the weight or the hessian given was written into"


@number("5.6")
@weight(1.6)
def test_far_better_than_rounding_to_nearest(student, rng):
    """On 3-bit matrices with correlated inputs: at most 0.35 of the error; near the best codes on 2×4."""
    inputs = correlated(rng, 500, 128, 24)
    matrix = rng.standard_normal((48, 128)).astype(np.float32)
    options = {"bits": 3, "group": 64, "symmetric": False}
    got = student.run(drivers.calibrated, cases=[
        {"weight": matrix, "inputs": inputs, "options": options}])[0]  # fmt: skip
    ratio = loss(matrix, meaning(got, 3), inputs) / loss(
        matrix, rounded(matrix, 3, 64, False), inputs
    )
    student.measure(Measure(name="GPTQ's error against rounding to nearest", value=ratio))
    assert ratio <= 0.35, f"{ratio:.2f} of the error of rounding to nearest, at most 0.35 is asked"
    # log(own / least) of one 2×4 problem: mean 0.60, deviation 0.84; log(own / plain): -0.53, 0.58.
    # Of 64 problems the reference's means are 4.7 and 5.5 deviations inside the limits; without the
    # later columns' correction both are far outside.
    cases = [{"weight": rng.standard_normal((2, 4)).astype(np.float32),
              "inputs": correlated(rng, 40, 4, 2),
              "options": {"bits": 3, "group": 4, "damping": 1e-6}} for _ in range(64)]  # fmt: skip
    over, under = [], []
    for got, case in zip(student.run(drivers.calibrated, cases=cases), cases, strict=True):
        data = (case["weight"], case["inputs"])
        least, own = best_of_all(*data, 3), loss(case["weight"], meaning(got, 3), case["inputs"])
        assert own >= least * (1 - 1e-5), "below the least error of all codes on this grid"
        over.append(own / least)
        under.append(
            own / loss(case["weight"], rounded(case["weight"], 3, 4, True), case["inputs"])
        )
    for ratios, most, what in ((over, 3.0, "the best codes there are"), (under, 0.88, "rounding")):
        mean = float(np.exp(np.log(ratios).mean()))
        student.measure(Measure(name=f"GPTQ's error on 2×4 against {what}", value=mean))
        assert mean <= most, (
            f"on 64 2×4 problems {mean:.2f} times the error of {what}, limit {most}"
        )


@number("5.6")
@weight(0.8)
def test_a_real_block(student, rng):
    """A layer of SmolLM2 in 3 bits: at most 0.35 of rounding's error on the calibration text."""
    check_gptq(student, rng, packaged("smollm2"), np.load(GOLDEN / "prose_public.npy"))
