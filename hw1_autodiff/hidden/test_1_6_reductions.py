"""Task 1.6, hidden: infinite inputs, empty axes, square shapes, softmax over several axes."""

from __future__ import annotations

import hw1_autodiff_drivers as drivers
import numpy as np
import scipy.special
import torch
from gradescope_utils.autograder_utils.decorators import number, weight
from oracles_operations import check_cases, make_case

from autograder.testing import assert_close, finite_difference

REFERENCES = {
    "sum": torch.sum,
    "mean": torch.mean,
    "max": torch.amax,
    "logsumexp": torch.logsumexp,
}


def _case(function, x, rng, axis, keepdims=False, **more):
    reference = REFERENCES[function]
    return make_case(
        f"reductions.{function}", lambda t: reference(t, dim=axis, keepdim=keepdims), [x], rng,
        options={"axis": axis, "keepdims": keepdims}, **more,
    )  # fmt: skip


@number("1.6")
@weight(0.5)
def test_infinite_inputs(student, rng):
    """Rows with -inf or +inf, and rows of nothing else, give what torch gives."""
    inf = np.inf
    rows = np.array([[-inf, -inf, -inf], [-inf, 1, 2], [inf, 1, 2], [-inf, inf, 0], [3, 1, 2]])
    rows[rows == 1] += rng.standard_normal()
    cases = []
    for dtype in (np.float64, np.float32):
        x = rows.astype(dtype)
        cases.append(_case("logsumexp", x, rng, 1))
        cases.append(make_case("reductions.softmax", lambda t: t.softmax(-1), [x], rng))
        cases.append(_case("max", x, rng, 1))
    # Where a value is infinite, the slope of logsumexp is left open: only finite rows are compared.
    replies = student.run(drivers.answers, questions=[case.question for case in cases])
    for case, reply in zip(cases, replies, strict=True):
        assert_close(reply["value"], case.value, rtol=1e-5, name=f"{case.label}: value")
        finite = [1, 4] if "max" not in case.label else [0, 1, 2, 3, 4]
        got, expected = reply["gradients"][0], case.gradients[0]
        assert np.shape(got) == expected.shape, f"{case.label}: gradient of shape {np.shape(got)}"
        assert_close(
            got[finite], expected[finite], rtol=1e-4, atol=1e-6, name=f"{case.label}: gradient"
        )


@number("1.6")
@weight(0.5)
def test_softmax_over_several_axes(student, rng):
    """softmax takes a tuple of axes or None, and its gradient agrees with finite differences."""
    x = rng.standard_normal((2, 3, 2))
    for axis in (None, (0, 2), (-1, 1), 1):
        upstream = rng.standard_normal(x.shape)
        question = {
            "function": "reductions.softmax", "inputs": [x], "upstream": upstream,
            "options": {"axis": axis},
        }  # fmt: skip
        reply = student.run(drivers.answer, question=question)
        value = scipy.special.softmax(x, axis=axis)
        assert_close(reply["value"], value, rtol=1e-9, name=f"softmax, axis={axis}")

        def weighted(inputs, axis=axis, upstream=upstream):
            return np.sum(upstream * scipy.special.softmax(inputs, axis=axis))

        assert_close(
            reply["gradients"][0], finite_difference(weighted, x), rtol=1e-5, atol=1e-7,
            name=f"gradient of softmax, axis={axis}",
        )  # fmt: skip


@number("1.6")
@weight(0.5)
def test_empty_and_single_axes(student, rng):
    """Axes of size 0 and 1 and 0-D tensors: the sum is 0, the mean nan, logsumexp -inf."""
    cases = []
    for shape, axis in [
        ((0, 3), 0), ((3, 0), 1), ((0, 3), 1), ((2, 0, 3), (0, 1)), ((1, 3), 0), ((1, 1), (0, 1)),
    ]:  # fmt: skip
        x = rng.standard_normal(shape)
        for function in ("sum", "mean", "logsumexp"):
            cases.append(_case(function, x, rng, axis, keepdims=len(cases) % 2 == 0))
        single = axis if isinstance(axis, int) else axis[0]
        softmax = {"axis": single}
        cases.append(
            make_case(
                "reductions.softmax", lambda t, a=single: t.softmax(a), [x], rng, options=softmax
            )
        )
    cases.append(_case("max", rng.standard_normal((0, 3)), rng, 1))
    for function in ("sum", "mean", "max", "logsumexp"):
        cases.append(
            make_case(
                f"reductions.{function}", lambda t: t + 0, [np.array(rng.standard_normal())], rng
            )
        )
    check_cases(student, drivers.answers, cases)
    empty = {"function": "reductions.max", "inputs": [np.zeros((2, 0))], "options": {"axis": 1}}
    student.raises(drivers.answer, "ValueError", question=empty)


@number("1.6")
@weight(0.5)
def test_square_shapes_line_up(student, rng):
    """Where sizes agree, the gradient still goes along the axis that was reduced."""
    cases = []
    for shape in [(3, 3), (2, 2, 2)]:
        for function in REFERENCES:
            for axis in range(len(shape)):
                cases.append(_case(function, rng.standard_normal(shape), rng, axis))
    check_cases(student, drivers.answers, cases)


@number("1.6")
@weight(0.5)
def test_ties_over_several_axes(student, rng):
    """Ties are counted over all reduced axes together, in each of the remaining places."""
    cases = []
    for shape, axis in [((3, 4, 2), (0, 2)), ((2, 3), (0, 1)), ((4, 3, 3), (1, 2)), ((6,), 0)]:
        for dtype in (np.float64, np.float32):
            ties = rng.integers(0, 2, shape).astype(dtype)
            cases.append(_case("max", ties, rng, axis, keepdims=dtype is np.float32))
        cases.append(_case("max", np.full(shape, rng.standard_normal()), rng, axis))
    check_cases(student, drivers.answers, cases)


@number("1.6")
@weight(0.5)
def test_any_shape_axis_and_layout(student, rng):
    """Random shapes, axes, layouts and dtypes match torch."""
    layouts = ["plain", "transposed", "reversed", "strided"]
    cases = []
    for _ in range(60):
        shape = tuple(int(size) for size in rng.integers(1, 5, int(rng.integers(1, 5))))
        chosen = rng.permutation(len(shape))[: int(rng.integers(1, len(shape) + 1))]
        signs = rng.integers(0, 2, len(chosen)) * len(shape)
        axis = tuple(int(place) for place in chosen - signs)
        x = (2 * rng.standard_normal(shape)).astype([np.float32, np.float64][len(cases) % 2])
        function = str(rng.choice(sorted(REFERENCES)))
        layout = [str(rng.choice(layouts))]
        cases.append(_case(function, x, rng, axis, rng.random() < 0.5, layouts=layout))
    check_cases(student, drivers.answers, cases)
