"""Task 1.6: sum, mean, max, logsumexp and softmax over any axes, against torch and scipy."""

from __future__ import annotations

import hw1_autodiff_drivers as drivers
import numpy as np
import scipy.special
import torch
from gradescope_utils.autograder_utils.decorators import number, weight
from oracles_operations import check_cases, make_case

from autograder.testing import Hint, assert_close

TIES = (
    "[3, 1, 3] with upstream 1 gives [0.5, 0, 0.5]: divide by the number of winners, counted over "
    "all reduced axes together"
)
WINNER = "no two elements tie here: the largest of each group gets all of its gradient, others 0"
SHIFT = "take the maximum of each row out before exp: the largest exponent is then 0"
AXES = (None, 0, 1, -1, -3, (0, 2), (2, 0), (-1, 0), (0, 1, 2))


def _reduction(function, x, rng, axis, keepdims, **more):
    """The case of one reduction; torch has the same functions, all taking a tuple of axes."""
    axes = tuple(range(x.ndim)) if axis is None else axis
    reference = {
        "sum": torch.sum, "mean": torch.mean, "max": torch.amax, "logsumexp": torch.logsumexp
    }[function]  # fmt: skip
    return make_case(
        f"reductions.{function}", lambda t: reference(t, dim=axes, keepdim=keepdims), [x], rng,
        options={"axis": axis, "keepdims": keepdims}, **more,
    )  # fmt: skip


def _over_all_axes(function, rng, draw):
    """Every axis, keepdims on and off, both dtypes, several layouts; x comes from draw(shape)."""
    cases = []
    for place, axis in enumerate(AXES):
        for keepdims in (False, True):
            dtype = np.float32 if (place + keepdims) % 3 == 0 else np.float64
            layout = ["plain", "transposed", "reversed"][place % 3]
            x = np.asarray(draw((3, 4, 2)), dtype)
            cases.append(_reduction(function, x, rng, axis, keepdims, layouts=[layout]))
    return cases


@number("1.6")
@weight(1)
def test_sum_and_mean(student, rng):
    """sum and mean over one axis, several or all, with and without keepdims, match torch."""
    back = "without keepdims, upstream lacks the reduced axes: np.expand_dims puts them back"
    divisor = "a mean's gradient is divided by the number of elements averaged, over all its axes"
    for function in ("sum", "mean"):
        check_cases(
            student, drivers.answers, _over_all_axes(function, rng, rng.standard_normal),
            hint=Hint(values=divisor if function == "mean" else back, shape=back),
        )  # fmt: skip


@number("1.6")
@weight(1)
def test_max_shares_the_gradient_among_ties(student, rng):
    """Elements that tie for the maximum share its gradient equally, as torch.amax has it."""
    cases = _over_all_axes("max", rng, lambda shape: rng.integers(-1, 2, shape))
    cases += _over_all_axes("max", rng, rng.standard_normal)
    check_cases(
        student, drivers.answers, cases,
        hint=lambda case: TIES if np.all(case.question["inputs"][0] % 1 == 0) else WINNER,
    )  # fmt: skip


@number("1.6")
@weight(1)
def test_logsumexp(student, rng):
    """logsumexp matches torch and scipy, and its gradient is the softmax."""
    cases = _over_all_axes("logsumexp", rng, lambda shape: 3 * rng.standard_normal(shape))
    for case in cases:
        axis, keepdims = case.question["options"].values()
        x = case.question["inputs"][0].astype(np.float64)
        second = scipy.special.logsumexp(x, axis=axis, keepdims=keepdims)
        assert_close(case.value, second, rtol=1e-6, name="torch against scipy")
    check_cases(
        student, drivers.answers, cases,
        hint="the slopes are exp(x - value), with value put back over the reduced axes",
        value_hint="m + log(sum(exp(x - m))), m the maximum over the reduced axes",
    )  # fmt: skip


@number("1.6")
@weight(1)
def test_softmax(student, rng):
    """softmax over each axis matches torch, and each row sums to 1."""
    cases = []
    for place, (shape, axis) in enumerate(
        [((3, 4), -1), ((3, 4), 0), ((4, 4), 1), ((2, 3, 4), 1), ((2, 3, 4), -3), ((5,), 0)]
    ):
        for dtype in (np.float64, np.float32):
            x = (3 * rng.standard_normal(shape)).astype(dtype)
            layout = ["plain", "transposed", "strided"][place % 3]
            options = {} if axis == -1 else {"axis": axis}
            cases.append(
                make_case(
                    "reductions.softmax",
                    lambda t, axis=axis: torch.softmax(t, axis),
                    [x],
                    rng,
                    options=options,
                    layouts=[layout],
                )
            )
    check_cases(
        student, drivers.answers, cases,
        hint="s * (g - sum(g * s)): every output depends on every input of its row",
    )  # fmt: skip


@number("1.6")
@weight(1)
def test_large_inputs_do_not_overflow(student, rng):
    """logsumexp and softmax are exact at 1e4 and -1e4, where exp alone gives inf or 0."""
    cases = []
    for dtype in (np.float64, np.float32):
        for offset in (1e4, -1e4):
            x = (offset + 2 * rng.standard_normal((3, 5))).astype(dtype)
            spread = (1e4 * rng.standard_normal((3, 5))).astype(dtype)
            for values in (x, spread):
                cases.append(_reduction("logsumexp", values, rng, 1, False))
                cases.append(
                    make_case("reductions.softmax", lambda t: t.softmax(-1), [values], rng)
                )
    # exp(x - value) is off by the rounding of value, 2e-3 in float32 at 4e4: not a mistake.
    check_cases(
        student, drivers.answers, cases, float32_rtol=5e-3,
        hint=Hint(not_finite=SHIFT), value_hint=Hint(values=SHIFT),
    )  # fmt: skip
