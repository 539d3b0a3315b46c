"""Checks that the tests of task 2.3 share."""

from __future__ import annotations

from typing import Any

import hw2_cuda_kernels_drivers as drivers
import numpy as np

from autograder.testing import Hint, assert_equal, cuda

TILE = 32
EDGE = "tiles at the edge are cut off: the guard of the store is not that of the load"
TURN = (
    "a whole tile is wrong in itself: what was written as tile[i][threadIdx.x] is read as "
    "tile[threadIdx.x][i], and goes to the tile's place in the result"
)
NOT_WRITTEN = "new memory holds NaN: an element that stays NaN is one that no thread wrote"


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
        hint = Hint(values=_hint(answer["out"], wanted), not_finite=NOT_WRITTEN)
        assert_equal(answer["out"], wanted, name=transpose_label(case), hint=hint)
    return answers


def _hint(out: Any, wanted: np.ndarray) -> str:
    """About the edge, unless the first tile is whole and wrong."""
    if not isinstance(out, np.ndarray) or out.shape != wanted.shape:
        return EDGE
    first = (..., slice(TILE), slice(TILE))
    whole = min(wanted.shape[-2:]) >= TILE
    return TURN if whole and not np.array_equal(out[first], wanted[first], equal_nan=True) else EDGE
