"""Task 2.10, hidden: random shapes, keys without weight, the future, empty sizes, other counts."""

from __future__ import annotations

import numpy as np
import pytest
from attention_cases import UNIT, attended, attention_case, load_sectors, multiply_adds
from gradescope_utils.autograder_utils.decorators import number, weight

from autograder.testing import assert_equal, cuda

pytestmark = pytest.mark.warm_up("2.10")


@number("2.10")
@weight(1.5)
def test_random_shapes(student, rng):
    """Random numbers of samples and heads, lengths and scales; scores that rise or fall."""
    cases = []
    for place in range(6):
        samples, heads, time = (int(n) for n in rng.integers(1, [3, 4, 150]))
        shape = (samples, heads, time, (32, 64)[place % 2])
        scale = None if place % 2 else float(rng.uniform(0.02, 0.6))
        case = attention_case(rng, shape, scale=scale, logsumexp=bool(place % 3))
        # With rising scores nearly every tile brings a new largest one, falling ones none.
        trend = np.linspace(0, 4 if place % 4 < 2 else -4, time, dtype=np.float32)
        case["q"][..., 0] = 2.0
        case["k"][..., 0] += trend
        cases.append(case)
    attended(student, cases)


@number("2.10")
@weight(0.75)
def test_keys_with_a_score_of_minus_infinity(student, rng):
    """A key whose score is -inf counts for nothing, even where a whole tile has only such keys."""
    for blocked, time in ((32, 90), (70, 130), (64, 65)):
        case = attention_case(rng, (1, 1, time, 32))
        case["q"][..., 3] = np.abs(case["q"][..., 3]) + 0.1
        case["k"][..., :blocked, 3] = -np.inf
        error = 40 * UNIT * 30  # as for finite keys: no sum of products of these exceeds 30
        attended(student, [case], error=error, first=blocked)


@number("2.10")
@weight(0.5)
def test_the_future_is_invisible(student, rng):
    """Rows before a token are the same, bit for bit, whatever the token and those after it are."""
    time = int(rng.integers(70, 130))
    cases = []
    for when in (1, 33, 64):
        case = attention_case(rng, (1, 1, time, 32), logsumexp=True)
        other = {**case, "q": case["q"].copy(), "k": case["k"].copy(), "v": case["v"].copy()}
        other["k"][..., when:, :] *= 1e3
        other["v"][..., when:, :] = 1e3 * rng.standard_normal(other["v"][..., when:, :].shape)
        cases += [(case, when), (other, when)]
    answers = attended(student, [case for case, _ in cases])
    for (_, when), plain, changed in zip(cases[::2], answers[::2], answers[1::2], strict=True):
        before = {"out": (..., slice(when), slice(None)), "logsumexp": (..., slice(when))}
        for name, rows in before.items():
            assert_equal(changed[name][rows], plain[name][rows], name=f"{name} before token {when}")


@number("2.10")
@weight(0.25)
def test_empty_sizes(student, rng):
    """No samples, no heads, no tokens: nothing is launched."""
    shapes = [(0, 2, 5, 32), (2, 0, 5, 64), (1, 2, 0, 32), (3, 1, 1, 64)]
    attended(student, [attention_case(rng, shape, logsumexp=True) for shape in shapes])


@number("2.10")
@weight(1.5)
def test_counts_of_other_shapes(student, rng):
    """The closed form holds for lengths that are no multiple of a tile, for several heads."""
    # 200 tokens: the query tiles read 64, 128, 192 and 200 rows of k and of v. 65: 64 and 65.
    for shape, rows in (((1, 2, 200, 64), 2 * 584), ((3, 1, 65, 32), 2 * 129)):
        batch, heads, time, head_dim = shape
        sectors = batch * heads * (time + rows) * head_dim // 8
        assert load_sectors(shape) == sectors, "the grader's closed form is off"
        (answer,) = attended(student, [attention_case(rng, shape, logsumexp=True)])
        cuda.at_most(
            answer["report"], "global_load_sectors", sectors, slack=1.0,
            why="q once; k and v once a query tile, up to the tile's last query",
        )  # fmt: skip
        cuda.at_most(
            answer["report"], "global_store_sectors", batch * heads * time * (head_dim // 8 + 1),
            why="out once, and a sector for each logsumexp",
        )  # fmt: skip
        # head_dim 64: 2 bytes for the scores, 4 × 4 + 8 × 4 bytes for 4 × 8 multiply-adds for v.
        cuda.at_most(
            answer["report"], "shared_load_bytes", 2 * multiply_adds(shape),
            why="4 + 4 floats feed 4 x 4 multiply-adds: 2 bytes each",
        )  # fmt: skip
