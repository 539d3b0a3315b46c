"""Task 1.9, hidden: impossible classes, nothing left, other layouts, ignored rows of anything."""

from __future__ import annotations

import hw1_autodiff_drivers as drivers
import numpy as np
import torch
from gradescope_utils.autograder_utils.decorators import number, weight
from oracles_operations import check_cases, make_case

from autograder.testing import assert_close, assert_equal


def _case(logits, targets, rng, ignore_index=None, **more):
    targets = np.asarray(targets)
    flat = torch.tensor(targets.reshape(-1).astype(np.int64))
    ignored = -100 if ignore_index is None else ignore_index

    def reference(t):
        rows = t.reshape(-1, t.shape[-1])
        return torch.nn.functional.cross_entropy(rows, flat, ignore_index=ignored)

    options = {"targets": targets, "ignore_index": ignore_index}
    return make_case("loss.cross_entropy", reference, [logits], rng, options=options, **more)


@number("1.9")
@weight(0.5)
def test_impossible_classes(student, rng):
    """-inf logits: such a class has no gradient, and as the target it costs inf."""
    logits = rng.standard_normal((4, 5))
    logits[:, 2] = -np.inf
    logits[1, [0, 3]] = -np.inf
    cases = [_case(logits, [0, 1, 4, 3], rng), _case(logits, [0, 2, 4, 3], rng)]
    check_cases(student, drivers.answers, cases)


@number("1.9")
@weight(0.5)
def test_nothing_left(student, rng):
    """With every position ignored the loss is nan and each gradient 0; so it is with none given."""
    logits = rng.standard_normal((3, 4))
    cases = [
        _case(logits, [-1, -1, -1], rng, ignore_index=-1),
        _case(np.zeros((0, 4)), np.zeros(0, np.int64), rng),
        _case(logits, [-1, 2, -1], rng, ignore_index=-1),
    ]
    check_cases(student, drivers.answers, cases)


@number("1.9")
@weight(0.5)
def test_layouts_and_integer_dtypes(student, rng):
    """Logits of any strides and targets of any integer dtype."""
    cases = []
    for layout in ("plain", "transposed", "reversed", "strided"):
        for dtype, kind in ((np.float64, np.uint8), (np.float32, np.int32)):
            logits = rng.standard_normal((3, 2, 5)).astype(dtype)
            targets = rng.integers(0, 5, (3, 2)).astype(kind)
            targets[0, 0] = 4
            cases.append(_case(logits, targets, rng, 4, layouts=[layout]))
    cases.append(_case(rng.standard_normal((4, 1)), [0, 0, 0, 0], rng))
    check_cases(student, drivers.answers, cases)


@number("1.9")
@weight(0.5)
def test_upstream_scales_the_gradient(student, rng):
    """The gradient is linear in upstream: 0, negative and large ones too."""
    logits, targets = rng.standard_normal((6, 3)), rng.integers(0, 3, 6)
    factors = (0.0, -1.0, 1.0, 1e6)
    cases = [_case(logits, targets, rng, upstream=np.array(factor)) for factor in factors]
    check_cases(student, drivers.answers, cases)


@number("1.9")
@weight(0.5)
def test_ignored_rows_may_hold_anything(student, rng):
    """An ignored row of nan, inf or -inf has a gradient of exactly 0 and spoils nothing."""
    clean = rng.standard_normal((5, 4))
    targets = np.array([1, -1, 3, -1, -1])
    dirty = clean.copy()
    dirty[1], dirty[3], dirty[4, 2] = np.nan, -np.inf, np.inf
    case = _case(clean, targets, rng, ignore_index=-1)
    question = {**case.question, "inputs": [dirty]}
    reply = student.run(drivers.answer, question=question)
    assert_close(reply["value"], case.value, rtol=1e-10, name="loss")
    gradient = case.gradients[0]
    assert_close(reply["gradients"][0], gradient, rtol=1e-9, atol=1e-12, name="gradient")
    assert_equal(reply["gradients"][0][targets == -1], np.zeros((3, 4)), name="ignored rows")
