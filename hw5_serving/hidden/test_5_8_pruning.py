"""Task 5.8, hidden: ties, other shares, the impossible, nothing to learn from."""

from __future__ import annotations

import drivers_compression as drivers
import numpy as np
from compression_cases import stays
from gradescope_utils.autograder_utils.decorators import number, weight

from autograder.testing import assert_close, assert_equal


@number("5.8")
@weight(1.2)
def test_ties_go_to_the_lower_place(student, rng):
    """Scores of three values, shares that do not come out even, other runs than two of four."""
    scores = rng.integers(0, 3, (6, 40)).astype(np.float32)
    for sparsity in (0.5, 0.33, 0.9):
        mask = student.run(drivers.kept_rows, scores=scores, sparsity=sparsity)
        assert_equal(mask, stays(scores, 40 - round(sparsity * 40)), name=f"kept at {sparsity}")
    for keep, of in ((2, 4), (4, 8), (1, 4)):
        mask = student.run(drivers.kept_runs, scores=scores, keep=keep, of=of)
        wanted = stays(scores.reshape(-1, of), keep).reshape(scores.shape)
        assert_equal(mask, wanted, name=f"{keep} of {of}")
    zeros = np.zeros((2, 16), np.float32)  # what is kept may be 0, and still takes a place
    runs = student.run(drivers.kept_runs, scores=zeros, keep=2, of=4)
    got = student.run(drivers.halved, weight=zeros, mask=runs)
    assert_equal(got["places"], np.full((2, 2), 0b01000100, np.uint8), name="places of zeros")


@number("5.8")
@weight(1.2)
def test_the_impossible_and_the_masked(student, rng):
    """−inf in the teacher, in both; no position counted: finite values and gradients."""
    student_logits, teacher = rng.standard_normal((2, 3, 4, 6))
    targets = rng.integers(0, 5, (3, 4))
    targets[1, 2] = -100
    teacher[..., 5] = -np.inf
    both = student_logits.copy()
    both[..., 5] = -np.inf
    base = {"teacher": teacher, "targets": targets, "options": {"alpha": 1.0, "temperature": 3.0}}
    cases = [{**base, "student": student_logits}, {**base, "student": both},
             {**base, "student": student_logits, "targets": np.full((3, 4), -100)}]  # fmt: skip
    results = student.run(drivers.distilled, cases=cases)
    keep, t = targets != -100, 3.0
    for got, case in zip(results[:2], cases[:2], strict=True):
        p, q = (np.exp(case[k] / t) for k in ("teacher", "student"))
        p, q = (a / a.sum(-1, keepdims=True) for a in (p, q))
        value = t * t * (p[..., :5] * np.log(p[..., :5] / q[..., :5])).sum(-1)[keep].mean()
        gradient = t * (q - p) * keep[..., None] / keep.sum()
        assert_close(got["loss"], value, rtol=1e-6, atol=1e-9, name="loss with impossible tokens")
        assert_close(got["gradient"], gradient, rtol=1e-6, atol=1e-9, name="its gradient")
    assert results[2]["loss"] == 0.0, "nothing counted: the loss is 0"
    assert_equal(results[2]["gradient"], np.zeros((3, 4, 6)), name="gradient with nothing counted")
