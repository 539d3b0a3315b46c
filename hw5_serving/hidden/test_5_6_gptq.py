"""Task 5.6, hidden: blocks of any size, inputs that never fire, other groups."""

from __future__ import annotations

import drivers_compression as drivers
import numpy as np
from compression_cases import correlated, greedy, meaning
from gradescope_utils.autograder_utils.decorators import number, weight

from autograder.testing import assert_close


@number("5.6")
@weight(1.6)
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
@weight(1.6)
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
