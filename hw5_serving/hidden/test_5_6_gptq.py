"""Task 5.6, hidden: blocks of any size, inputs that never fire, refusals, another real block."""

from __future__ import annotations

from pathlib import Path

import drivers_compression as drivers
import numpy as np
from compression_cases import correlated, greedy, meaning, rounded
from gradescope_utils.autograder_utils.decorators import number, weight
from real_measures import check_gptq

from autograder.testing import assert_close, packaged

PROSE = Path(__file__).with_name("prose_hidden.npy")


@number("5.6")
@weight(1.2)
def test_the_block_size_changes_nothing(student, rng):
    """Blocks of 1, 5, 12 and more than all columns, groups across their borders."""
    inputs = correlated(rng, 90, 32, 9).astype(np.float64)
    hessian = inputs.T @ inputs / 45
    matrix = rng.standard_normal((4, 32)).astype(np.float32)
    base = {"bits": 4, "group": 8, "symmetric": False, "damping": 0.02, "by_importance": False}
    wanted = greedy(matrix, hessian, **base)
    cases = [{"weight": matrix, "hessian": hessian, "options": {**base, "block": block}}
             for block in (1, 5, 12, 100)]  # fmt: skip
    for got, case in zip(student.run(drivers.calibrated, cases=cases), cases, strict=True):
        assert_close(meaning(got, 4), wanted, rtol=1e-4, atol=1e-5,
                     name=f"block {case['options']['block']}")  # fmt: skip


@number("5.6")
@weight(1)
def test_inputs_that_never_fire(student, rng):
    """Features of zeros, all of them zero, and equal ones when the important come first."""
    matrix = rng.standard_normal((3, 16)).astype(np.float32)
    inputs = correlated(rng, 40, 16, 5).astype(np.float64)
    inputs[:, [0, 5, 15]] = 0.0
    for data in (inputs, 0 * inputs, np.repeat(inputs[:, :8], 2, 1)):
        hessian = data.T @ data / 20
        cases = [{"weight": matrix, "hessian": hessian,
                  "options": {"bits": 3, "group": 8, "symmetric": False, "damping": 0.01,
                              "by_importance": order}} for order in (False, True)]  # fmt: skip
        for got, case in zip(student.run(drivers.calibrated, cases=cases), cases, strict=True):
            wanted = greedy(matrix, hessian, **case["options"])
            assert_close(meaning(got, 3), wanted, rtol=1e-4, atol=1e-5, name=str(case["options"]))
            assert got["unchanged"] is True, "the weight or the hessian given was written into"


@number("5.6")
@weight(0.2)
def test_what_does_not_fit_is_refused(student, rng):
    """A hessian of another size, groups that do not fit, a weight that is no number: ValueError."""
    matrix = rng.standard_normal((2, 8)).astype(np.float32)
    options = {"bits": 3, "group": 4}
    good = {"weight": matrix, "hessian": np.eye(8), "options": options}
    bad = matrix.copy()
    bad[0, 5] = np.inf
    for change in ({"hessian": np.eye(7)}, {"hessian": np.ones((2, 8))}, {"weight": bad},
                   {"options": {"bits": 3, "group": 3}}, {"options": {"bits": 0, "group": 4}}):  # fmt: skip
        student.raises(drivers.calibrated, "ValueError", cases=[{**good, **change}])
    # These lines come with the stub; and where no input depends on another, nothing is made good.
    got = student.run(drivers.calibrated, cases=[good])[0]
    assert_close(meaning(got, 3), rounded(matrix, 3, 4, True), rtol=1e-5, atol=1e-6,
                 name="weights where the hessian is the identity")  # fmt: skip


@number("5.6")
@weight(0.8)
def test_another_real_block(student, rng):
    """A layer of SmolLM2 in 3 bits, q and k on a text that is not released."""
    check_gptq(student, rng, packaged("smollm2"), np.load(PROSE))
