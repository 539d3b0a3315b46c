"""Checks that the tests of task 2.4 share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import hw2_cuda_kernels_drivers as drivers
import numpy as np

from autograder.testing import Hint, assert_close, cuda

UNIT = 2.0**-24  # the relative rounding error of float32
SIDE, LARGE = 64, 128  # of the tiles; the large ones are for batches and for sizes not tested here
EDGE = "where a tile reaches over an edge of A or B it must hold 0, whatever lay there before"
STEP = (
    "no tile reaches over an edge here: does each step multiply the tiles that were brought for it? "
    "With two buffers: the one that was stored is read behind the barrier, and then they swap"
)
HINT = Hint(
    values=EDGE,
    not_finite="new memory holds NaN: an element that stays NaN is one that no thread wrote, or "
    "one whose sum took in shared memory that no thread wrote",
)


def matmul_case(
    rng: np.random.Generator, a_shape: tuple[int, ...], b_shape: tuple[int, ...], version: str
) -> dict[str, Any]:
    """A question for `drivers.matmuls`: normal numbers."""
    a = rng.standard_normal(a_shape, dtype=np.float32)
    b = rng.standard_normal(b_shape, dtype=np.float32)
    return {"a": a, "b": b, "version": version}


def plain_cases(
    rng: np.random.Generator, version: str, sizes: list[tuple[int, int, int]]
) -> list[dict[str, Any]]:
    """Questions for (m, k) times (k, n), for each (m, k, n) of `sizes`."""
    return [matmul_case(rng, (m, k), (k, n), version) for m, k, n in sizes]


def matmul_label(case: dict[str, Any]) -> str:
    """What a question is about."""
    return f"{case['a'].shape} times {case['b'].shape}, {case['version']}"


def multiplied(student: Any, cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ask all cases in one call; each answer is compared with float64 and its report checked.

    Whatever the order of the additions, a sum of k products of float32 is off by at most k + 1
    rounding errors, |a| @ |b| * 2^-24 each; since they are as good as random, by 6 sqrt(k) of them
    except with a probability below 2 exp(-6 * 6 / 2) = 3e-8 (Higham and Mary 2019). A product in
    TF32 or half precision is off by 2^-11 a factor, and stands out already at k = 8.
    """
    answers = student.run_cases(drivers.matmuls, cases, matmul_label)
    for case, answer in zip(cases, answers, strict=True):
        cuda.check(answer["report"])  # first: a race explains wrong values, not the other way round
        a, b = case["a"].astype(np.float64), case["b"].astype(np.float64)
        finite = [np.where(np.isfinite(x), np.abs(x), 0.0) for x in (a, b)]
        largest = float((finite[0] @ finite[1]).max(initial=0.0))
        with np.errstate(invalid="ignore"):
            wanted = a @ b
        assert_close(
            answer["out"], wanted, rtol=0.0, atol=6 * UNIT * (a.shape[-1] + 1) ** 0.5 * largest,
            name=matmul_label(case), hint=_hint(case),
        )  # fmt: skip
    return answers


def _hint(case: dict[str, Any]) -> Hint:
    """About edges only where a tile reaches over one."""
    side = SIDE if case["a"].ndim == case["b"].ndim == 2 else LARGE
    sizes = (*case["a"].shape[-2:], case["b"].shape[-1])
    return HINT if any(size % side for size in sizes) else replace(HINT, values=STEP)
