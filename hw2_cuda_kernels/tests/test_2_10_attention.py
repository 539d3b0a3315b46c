"""Task 2.10: flash attention, causal, forward: its values and its memory traffic."""

from __future__ import annotations

import pytest
from attention_cases import UNIT, attended, attention_case, load_sectors, multiply_adds
from gradescope_utils.autograder_utils.decorators import number, weight

from autograder.testing import cuda

pytestmark = pytest.mark.warm_up("2.10")


@number("2.10")
@weight(1.25)
def test_whole_tiles(student, rng):
    """Attention over whole tiles of queries and keys equals SDPA, head by head."""
    shapes = [(1, 1, 64, 32), (1, 1, 64, 64), (1, 2, 128, 64), (2, 2, 128, 32), (1, 1, 192, 64)]
    attended(student, [attention_case(rng, shape) for shape in shapes])


@number("2.10")
@weight(1.25)
def test_any_length(student, rng):
    """Sequences shorter than a tile, and of tiles and a rest; one token attends to itself."""
    lengths = [1, 2, 5, 31, 32, 33, 63, 65, 96, 100, int(rng.integers(102, 190))]
    cases = [
        attention_case(rng, (1 + i % 2, 2, t, (32, 64)[i % 2])) for i, t in enumerate(lengths)
    ]
    attended(student, cases)


@number("2.10")
@weight(0.75)
def test_scale_and_logsumexp(student, rng):
    """Another scale than 1 / sqrt(head_dim), and the logsumexp of each row on request."""
    scale = float(rng.uniform(0.05, 0.5))
    attended(
        student,
        [
            attention_case(rng, (2, 1, 70, 32), scale=scale),
            attention_case(rng, (1, 2, 64, 64), logsumexp=True),
            attention_case(rng, (2, 2, 101, 32), scale=scale, logsumexp=True),
        ],
    )


@number("2.10")
@weight(0.75)
def test_scores_of_ten_thousand(student, rng):
    """Scores near 1e4 and -1e4, where exp alone overflows or vanishes, keep their differences."""
    cases = []
    for sign in (1, -1):
        for time in (40, 130):
            case = attention_case(rng, (1, 2, time, 64), logsumexp=True)
            # Whole numbers, so that every sum is exact: 60 × 36² is 77760, and scale is 1/8. The
            # other four columns move a score by 4.5 at most.
            for name in ("q", "k"):
                case[name][...] = rng.integers(-3, 4, case[name].shape)
                case[name][..., 4:] = 36
            case["q"][..., 4:] *= sign
            cases.append(case)
    # Scores are exact; multiplied by log2(e) before the largest is taken away they are rounded, by
    # half a unit of 9724 * 1.4427 in the last place, and so is the largest.
    attended(student, cases, error=2 * UNIT * 9724 * 1.4427)


@number("2.10")
@weight(1.75)
def test_traffic_of_keys_and_values(student, rng, figure):
    """q is read once, k and v once a query tile, without the tiles above the diagonal."""
    shape = (1, 1, 256, 32)
    (answer,) = attended(student, [attention_case(rng, shape)])
    title = "Flash attention, 256 tokens, head_dim 32"
    cuda.attach(figure, answer["report"], title, flops=4 * 32 * (256 * 257 // 2))
    # Query tiles of 64 read 64, 128, 192 and 256 rows of k, and of v: 640 each, and q has 256 rows:
    # 1536 rows of 128 bytes, 4 sectors. With the tiles above the diagonal it would be 4 × 256 rows
    # of k and v each, 9216 sectors. Exact: rows begin at sectors, and each is read as a whole.
    assert load_sectors(shape) == 6144, "the grader's closed form is off"
    cuda.at_most(
        answer["report"], "global_load_sectors", 6144, slack=1.0,
        why="256 rows of q, 64 + 128 + 192 + 256 of k and of v, 4 sectors each",
    )  # fmt: skip


@number("2.10")
@weight(0.75)
def test_nothing_but_the_output_is_stored(student, rng, figure):
    """No matrix of (time, time) is written: the stores are the output's and the logsumexp's."""
    shape = (1, 1, 128, 64)
    naive, flash = attended(
        student, [attention_case(rng, shape, "naive"), attention_case(rng, shape, logsumexp=True)]
    )
    for name, answer in (("naive (given)", naive), ("flash", flash)):
        title = f"Attention over 128 tokens, {name}"
        cuda.attach(figure, answer["report"], title, flops=4 * 64 * (128 * 129 // 2))
    # 128 × 64 floats of out and 128 of logsumexp: 1024 + 16 sectors, if each store fills its own.
    # A thread that stores one logsumexp by itself takes a sector for it: up to 128, so 1152. The
    # reference takes 1056 (4 rows of a warp lie in a sector). Naive: 2 × 2048 more, for its scores.
    cuda.at_most(
        flash["report"], "global_store_sectors", 1152,
        why="128 x 64 floats of out, 8 to a sector, and a sector for each logsumexp",
    )  # fmt: skip
    cuda.no_access(flash["report"], "global_atomic", why="each block owns its rows of the output")


@number("2.10")
@weight(1)
def test_shared_memory_feeds_register_tiles(student, rng):
    """Shared memory is read 2 bytes a multiply-add, with at most 2-way bank conflicts."""
    shape = (1, 1, 128, 32)
    (answer,) = attended(student, [attention_case(rng, shape)])
    # Scores: 4 rows of q and 4 of k feed 4 × 4 sums, 2 bytes a multiply-add. Values, head_dim 32: 4
    # values of p and 4 of v feed 4 × 4. Query tiles of 64 see 2 and 4 tiles of 32 keys, each of
    # 2 × 64 × 32 × 32 multiply-adds: 786432. A thread with one query reads 4 bytes for each.
    assert multiply_adds(shape) == 786432, "the grader's closed form is off"
    cuda.at_most(
        answer["report"], "shared_load_bytes", 2 * 786432,
        why="4 + 4 floats feed 4 x 4 multiply-adds: 2 bytes each",
    )  # fmt: skip
    cuda.at_most(
        answer["report"], "worst_bank_degree", 2, slack=1.0,
        why="rows of 32 or 64 floats begin in the same bank: pad them, by a multiple of 4 floats",
    )  # fmt: skip
