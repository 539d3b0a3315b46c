"""Checks that the tests of task 2.2 share."""

from __future__ import annotations

from typing import Any

import hw2_cuda_kernels_drivers as drivers
import numpy as np

from autograder.testing import Hint, assert_close, assert_equal, cuda

BLOCK = 256
EPSILON = float(np.finfo(np.float32).eps)
NOT_FINITE = "NaN where none is due: a value that was never written, or one from beyond the row"
HINTS = {
    "sum": Hint(
        values="reduce 256 ones first: the sum says how many of them were counted",
        not_finite=NOT_FINITE,
    ),
    "max": Hint(
        values="a lane without a value brings the identity, -inf: a 0 is above negative numbers",
        not_finite=NOT_FINITE,
    ),
    "too small": Hint(
        values="a part of the row was left out: each of the distances 16, 8, 4, 2, 1 needs its step, "
        "and all warps' results must meet",
        not_finite=NOT_FINITE,
    ),
}


def rows_case(version: str, operation: str, x: np.ndarray) -> dict[str, Any]:
    """A question for `drivers.row_reductions`."""
    return {"version": version, "operation": operation, "x": np.asarray(x, np.float32)}


def rows_label(case: dict[str, Any]) -> str:
    """What a question is about."""
    return f"{case['operation']} of the rows of {case['x'].shape} by version {case['version']}"


def row_answers(student: Any, cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ask all cases in one call; each report is checked and each answer compared with numpy's."""
    answers = student.run_cases(drivers.row_reductions, cases, rows_label)
    for case, answer in zip(cases, answers, strict=True):
        cuda.check(answer["report"])  # before the values: it says why they are wrong
        x = case["x"].astype(np.float64)
        if case["operation"] == "max":
            wanted = np.asarray(np.max(x, axis=-1, initial=-np.inf), np.float32)
            hint = HINTS["too small" if _all_at_most(answer["out"], wanted) else "max"]
            assert_equal(answer["out"], wanted, name=rows_label(case), hint=hint)
        else:
            # A thread adds up columns / 256 numbers, then come 8 levels of the tree. Each addition
            # is off by at most half an EPSILON of a partial sum, which is at most the sum of all
            # sizes: so the error is at most additions on the way × EPSILON / 2 × that. Twice it.
            additions = -(-x.shape[-1] // BLOCK) + 8
            with np.errstate(invalid="ignore"):
                wanted = x.sum(axis=-1)
                sizes = np.abs(np.where(np.isfinite(x), x, 0)).sum(axis=-1)
            assert_close(
                answer["out"], wanted, rtol=0, atol=additions * EPSILON * sizes.max(initial=0),
                name=rows_label(case), hint=HINTS["sum"],
            )  # fmt: skip
    return answers


def _all_at_most(out: Any, wanted: np.ndarray) -> bool:
    """Is no element above what is expected?"""
    if not isinstance(out, np.ndarray) or out.shape != wanted.shape or out.dtype.kind != "f":
        return False
    return bool((out <= wanted).all())


def vector_case(x: np.ndarray, blocks: int) -> dict[str, Any]:
    """A question for `drivers.vector_sums`."""
    return {"x": np.asarray(x, np.float32), "blocks": blocks}


def vector_label(case: dict[str, Any]) -> str:
    """What a question is about."""
    return f"the sum of {case['x'].size} elements by at most {case['blocks']} blocks"


def vector_answers(student: Any, cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ask all cases in one call; each report is checked and each answer compared with numpy's."""
    answers = student.run_cases(drivers.vector_sums, cases, vector_label)
    for case, answer in zip(cases, answers, strict=True):
        cuda.check(answer["report"])  # before the values: it says why they are wrong
        x, blocks = case["x"].astype(np.float64), case["blocks"]
        # As above: n / (256 blocks) numbers a thread, a tree, blocks / 256 partial sums, a tree.
        additions = -(-x.size // (BLOCK * blocks)) + 8 + -(-blocks // BLOCK) + 8
        assert_close(
            answer["out"], [x.sum()], rtol=0, atol=additions * EPSILON * np.abs(x).sum(),
            name=vector_label(case), hint=HINTS["sum"],
        )  # fmt: skip
    return answers
