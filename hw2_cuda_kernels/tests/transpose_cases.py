"""Checks that the tests of task 2.3 share."""

from __future__ import annotations

from typing import Any

import hw2_cuda_kernels_drivers as drivers
import numpy as np

from autograder.testing import Hint, assert_equal, cuda

HINT = Hint(
    values="tiles at the edge are cut off: the guard of the store is not that of the load",
    not_finite="new memory holds NaN: an element that stays NaN is one that no thread wrote",
)


def transpose_case(x: np.ndarray, version: str = "tiled") -> dict[str, Any]:
    """A question for `drivers.transposes`."""
    return {"x": np.asarray(x, np.float32), "version": version}


def transpose_label(case: dict[str, Any]) -> str:
    """What a question is about."""
    return f"the transpose of {case['x'].shape}, {case['version']}"


def transposed(student: Any, cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ask all cases in one call; each report is checked and each answer compared with numpy's."""
    answers = student.run_cases(drivers.transposes, cases, transpose_label)
    for case, answer in zip(cases, answers, strict=True):
        cuda.check(answer["report"])  # before the values: it says why they are wrong
        wanted = np.swapaxes(case["x"], -1, -2)
        assert_equal(answer["out"], wanted, name=transpose_label(case), hint=HINT)
    return answers
