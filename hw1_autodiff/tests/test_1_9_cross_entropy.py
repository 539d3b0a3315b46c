"""Task 1.9: fused cross-entropy from logits, against torch."""

from __future__ import annotations

import hw1_autodiff_drivers as drivers
import numpy as np
import torch
from gradescope_utils.autograder_utils.decorators import number, weight
from oracles_operations import check_cases, make_case

from autograder.testing import Measure, assert_close, assert_equal

MB = 1 << 20


def _loss_case(logits, targets, rng, ignore_index=None, **more):
    """The case of one loss; torch wants the classes second, and has -100 for `none ignored`."""
    targets = np.asarray(targets)
    flat = torch.tensor(targets.reshape(-1).astype(np.int64))
    ignored = -100 if ignore_index is None else ignore_index

    def reference(t):
        rows = t.reshape(-1, t.shape[-1])
        return torch.nn.functional.cross_entropy(rows, flat, ignore_index=ignored)

    options = {"targets": targets}
    if ignore_index is not None:
        options["ignore_index"] = ignore_index
    return make_case("loss.cross_entropy", reference, [logits], rng, options=options, **more)


@number("1.9")
@weight(1)
def test_loss_and_gradient(student, rng):
    """The loss is torch's and its gradient is (softmax - one-hot) / positions, times upstream."""
    cases = []
    for shape in [(5, 4), (2, 3, 7), (1, 2), (6,)]:
        for dtype in (np.float64, np.float32):
            logits = (2 * rng.standard_normal(shape)).astype(dtype)
            targets = rng.integers(0, shape[-1], shape[:-1])
            cases.append(_loss_case(logits, targets, rng))
    check_cases(
        student, drivers.answers, cases,
        hint="one row: softmax(z) minus 1 at the target; all rows: divided by their number and "
        "multiplied by the upstream gradient, which is not always 1",
    )  # fmt: skip


@number("1.9")
@weight(0.5)
def test_large_logits(student, rng):
    """Logits of 1e4 and -1e4 give a finite loss, also where the target's probability is 0."""
    cases = []
    for dtype in (np.float64, np.float32):
        for offset, spread in ((1e4, 1.0), (-1e4, 1.0), (0.0, 1e4)):
            logits = (offset + spread * rng.standard_normal((4, 6))).astype(dtype)
            cases.append(_loss_case(logits, logits.argmin(axis=-1), rng))
    check_cases(
        student, drivers.answers, cases, float32_rtol=2e-3,
        hint="softmax with the row's maximum m taken out first: exp(z - m) / sum(exp(z - m))",
        value_hint="log(sum(exp(z - m))) + m - z[target]: no log of a probability, no exp of a logit",
    )  # fmt: skip


@number("1.9")
@weight(0.75)
def test_ignored_positions_count_for_nothing(student, rng):
    """Positions with ignore_index add nothing, get no gradient, and are not in the divisor."""
    cases = []
    for shape, ignore_index in [((6, 4), -100), ((2, 5, 3), -1), ((6, 4), 2), ((3, 5), 255)]:
        logits = rng.standard_normal(shape)
        targets = rng.integers(0, shape[-1], shape[:-1])
        if ignore_index == 2:
            targets.flat[0] = 0  # at least one is kept
        targets.flat[-2:] = ignore_index
        cases.append(_loss_case(logits, targets, rng, ignore_index))
    kept = "divide by the number of positions that are kept, in the loss and in the gradient"
    check_cases(
        student, drivers.answers, cases,
        hint=kept, value_hint=kept,
    )  # fmt: skip


@number("1.9")
@weight(0.75)
def test_one_buffer_the_size_of_the_logits(student, rng):
    """Forward and backward together make at most one array the size of the logits."""
    positions, classes = 2048, 8192
    tile = (3 * rng.standard_normal((64, classes))).astype(np.float32)
    logits = np.tile(tile, (positions // 64, 1))
    targets = rng.integers(0, classes, positions)
    rows = [int(row) for row in rng.integers(0, positions, 4)]
    upstream = float(positions) * float(rng.uniform(1.0, 2.0))
    memory = student.memory(
        drivers.loss_and_gradient_rows,
        logits=logits, targets=targets, upstream=upstream, rows=rows,
    )  # fmt: skip
    exact = torch.tensor(tile, dtype=torch.float64)
    logs = torch.log_softmax(exact, -1).numpy()[np.arange(positions) % 64]
    assert_close(
        memory.value["loss"], -logs[np.arange(positions), targets].mean(), rtol=1e-4, name="loss"
    )
    expected = np.exp(logs[rows])
    expected[np.arange(len(rows)), targets[rows]] -= 1
    expected *= upstream / positions
    assert_close(memory.value["rows"], expected, rtol=1e-3, atol=1e-5, name="rows of the gradient")
    assert_equal(memory.value["logits"], logits[rows], name="logits afterwards")
    buffers = memory.extra_bytes / logits.nbytes
    student.measure(Measure(name="buffers the size of the logits", value=buffers, full=1.5))
    assert buffers <= 1.5, (
        f"{memory.extra_bytes / MB:.0f} MB were used beside the logits of {logits.nbytes / MB:.0f} "
        f"MB: {buffers:.1f} arrays of their size, one is allowed.\n"
        "hint: np.subtract(…, out=buffer), np.exp(buffer, out=buffer); keep that buffer, and let "
        "backward turn it into the gradient in place"
    )


@number("1.9")
@weight(0.5)
def test_wrong_targets(student, rng):
    """A target that is no class raises IndexError and is named; a wrong shape is a ValueError."""
    logits = rng.standard_normal((3, 4))

    def question(targets, **options):
        options["targets"] = np.asarray(targets)
        return {"function": "loss.cross_entropy", "inputs": [logits], "options": options}

    for targets, named in [([0, 4, 1], "4"), ([2, 1, 55], "55"), ([0, -1, 2], "-1")]:
        student.raises(
            drivers.answer, "IndexError", naming=named, question=question(targets)
        )
    student.raises(drivers.answer, "ValueError", question=question([0, 1]))
    student.raises(drivers.answer, "TypeError", question=question([0.0, 1.0, 2.0]))
    check_cases(student, drivers.answers, [_loss_case(logits, [0, -1, 2], rng, ignore_index=-1)])
