"""Task 2.9: losses from logits, and the gradient in the place of the logits."""

from __future__ import annotations

import hw2_cuda_kernels_drivers as drivers
import numpy as np
import pytest
from cross_entropy_cases import check
from gradescope_utils.autograder_utils.decorators import number, weight

from autograder.testing import Hint, assert_equal, cuda

pytestmark = pytest.mark.warm_up("2.9")


def _logits(rng: np.random.Generator, rows: int, vocabulary: int) -> np.ndarray:
    return (3 * rng.standard_normal((rows, vocabulary))).astype(np.float32)


@number("2.9")
@weight(1)
def test_losses_and_gradients(student, rng):
    """Losses and gradients follow the formula, in rows that begin anywhere."""
    for rows, vocabulary in [(4, 64), (3, 7), (5, 257), (2, 1003), (6, 130)]:
        targets = rng.integers(0, vocabulary, rows).astype(np.int32)
        targets[0], targets[-1] = 0, vocabulary - 1
        check(
            student, drivers.cross_entropy, f"{rows} rows of {vocabulary}",
            _logits(rng, rows, vocabulary), targets, scale=1 / rows,
        )  # fmt: skip


@number("2.9")
@weight(0.5)
def test_logits_near_ten_thousand(student, rng):
    """Logits near 10,000 and -10,000 neither overflow nor lose digits; -inf has probability 0."""
    targets = np.array([5, 30, 2, 77], np.int32)
    for offset in (1e4, -1e4):
        logits = _logits(rng, 4, 80) + np.float32(offset)
        logits[1, :40] = -np.inf
        logits[1, 30] = offset
        check(student, drivers.cross_entropy, f"logits near {offset:g}", logits, targets)
    wide = _logits(rng, 4, 80) * 300
    wide[2, 2] = -np.inf  # the target cannot be: loss inf
    check(student, drivers.cross_entropy, "logits far from each other", wide, targets)


@number("2.9")
@weight(0.5)
def test_the_max_may_be_anywhere(student, rng):
    """Rising, falling, constant rows and a lone peak at either end give the right sums."""
    n = 600
    rising = np.linspace(-20, 20, n)
    rows = [rising, rising[::-1], np.full(n, 3.0), np.zeros(n), np.zeros(n), -60 * np.ones(n)]
    logits = np.stack(rows).astype(np.float32)
    logits[3, 0], logits[4, -1], logits[5, 301] = 30, 30, 20
    targets = np.array([n - 1, n - 1, 17, 0, 3, 301], np.int32)
    check(student, drivers.cross_entropy, "rising, falling, constant, peaks", logits, targets)


@number("2.9")
@weight(0.5)
def test_ignored_rows(student, rng):
    """An ignored row has loss 0 and gradient 0 exactly, even if its logits are nan or infinite."""
    hint = "write zeros into an ignored row; 0 * nan is nan"
    for ignore_index in (-100, 0):
        logits = _logits(rng, 5, 99)
        targets = np.array([3, ignore_index, 98, ignore_index, 1], np.int32)
        logits[1, 7], logits[3, 0], logits[3, 98] = np.nan, np.inf, -np.inf
        got = check(
            student, drivers.cross_entropy, f"ignore_index {ignore_index}", logits, targets,
            scale=1 / 3, ignore_index=ignore_index, hint=Hint(values=hint, not_finite=hint),
        )  # fmt: skip
        for row in (1, 3):
            assert_equal(got["losses"][[row]], np.zeros(1), name=f"loss of ignored row {row}")
            assert_equal(
                got["gradient"][row], np.zeros(99), name=f"gradient of ignored row {row}",
                hint=hint,
            )  # fmt: skip


@number("2.9")
@weight(1)
def test_two_reads_and_one_write(student, rng, figure):
    """One launch reads each logit at most twice, writes it once, and nothing else that size."""
    rows, vocabulary = 4, 2048
    targets = rng.integers(0, vocabulary, rows).astype(np.int32)
    got = check(
        student, drivers.cross_entropy, f"{rows} rows of {vocabulary}",
        _logits(rng, rows, vocabulary), targets,
    )  # fmt: skip
    report = got["report"]
    cuda.attach(figure, report, title=f"Cross-entropy: {rows} rows of {vocabulary} classes")
    assert len(report["launches"]) == 1, (
        f"{len(report['launches'])} launches; the losses and the gradient come from one kernel"
    )
    # A row is 2048 / 8 = 256 sectors. Loads: two reads of 4 rows, 2048; each of a row's 16 warps
    # reads the target, one sector, 64; and one lane the target's logit, 4: 2116 in the reference.
    # Stores: 1024 and a loss a row, 4: 1028. Exact in the reference; the given version
    # 1 has 24,581 and 8,193 (its one warp has 4 lanes to use; with 32 rows it would be 32 sectors
    # for each request).
    row = vocabulary // 8
    cuda.at_most(
        report, "global_load_sectors", rows * (2 * row + 17),
        why="each logit twice, 4 sectors for 32 floats, and the targets",
    )  # fmt: skip
    cuda.at_most(
        report, "global_store_sectors", rows * (row + 1),
        why="each gradient once, over its logit, and a loss a row",
    )  # fmt: skip
