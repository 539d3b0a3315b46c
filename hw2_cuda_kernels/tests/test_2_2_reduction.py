"""Task 2.2: row reductions by a tree and by shuffles, the sum of a vector, and what they cost."""

from __future__ import annotations

import numpy as np
import pytest
from gradescope_utils.autograder_utils.decorators import number, weight
from reduction_cases import row_answers, rows_case, vector_answers, vector_case

from autograder.testing import cuda

pytestmark = pytest.mark.warm_up("2.2")
SHAPES = [(3, 256), (2, 1000), (5, 40), (1, 257), (7, 1), (4, 31), (2, 2, 300)]


def _random_cases(rng: np.random.Generator, version: str) -> list[dict]:
    cases = []
    for shape in SHAPES:
        x = rng.standard_normal(shape)
        cases.append(rows_case(version, "sum", x))
        cases.append(rows_case(version, "max", x - 6))  # all below 0: a 0 from elsewhere would show
    return cases


@number("2.2")
@weight(1.25)
def test_tree_reduces_rows(student, rng):
    """Version 2 gives each row's sum and maximum, for rows shorter and longer than a block."""
    row_answers(student, _random_cases(rng, "tree"))


@number("2.2")
@weight(1.25)
def test_shuffles_reduce_rows(student, rng):
    """Version 3 gives each row's sum and maximum, for rows shorter and longer than a block."""
    row_answers(student, _random_cases(rng, "shuffle"))


@number("2.2")
@weight(0.75)
def test_vector_is_summed(student, rng):
    """The sum of a vector, for fewer elements than threads and for many more."""
    sizes = [(1, 4), (200, 4), (256, 1), (5000, 3), (2049, 8), (700, 1000), (30_000, 7)]
    vector_answers(student, [vector_case(rng.standard_normal(n), blocks) for n, blocks in sizes])


@number("2.2")
@weight(1.25)
def test_tree_works_in_whole_warps(student, rng, figure):
    """Version 2: idle lanes in one warp only, no bank conflict, at most 10 barriers a block."""
    rows, columns = 5, 1024
    x = rng.standard_normal((rows, columns))
    given, tree = row_answers(student, [rows_case(v, "sum", x) for v in ("interleaved", "tree")])
    for name, answer in (("interleaved (given)", given), ("tree", tree)):
        cuda.attach(figure, answer["report"], title=f"Row sums, {name}")
    report = tree["report"]
    # By hand, for a block. Steps of 128, 64, 32 threads are 4, 2, 1 whole warps; those of 16, 8, 4,
    # 2, 1 threads are one warp with idle lanes. A step reads the other's value, and its own unless
    # that is kept in a register, and writes: at most 3 requests, so 5 × 3 with idle lanes, and at
    # most 2 for the result: 17. (A lane that has returned is not idle: the reference, in whose last
    # step and store thread 0 is alone, has 4 × 2 = 8.) Version 1: all 8 warps take part in the first
    # five steps, 4, 2 and 1 in the others, 47 warp steps, each with idle lanes: 47 × 3 = 141.
    cuda.at_most(
        report, "partial_requests", 17 * rows,
        why=f"in each of {rows} blocks, 5 steps of one warp with idle lanes, 3 requests each, and "
        "2 for the result",
    )  # fmt: skip
    # Neighbouring lanes touch neighbouring floats: 32 banks.
    cuda.at_most(
        report, "worst_bank_degree", 1, slack=1.0, why="32 neighbouring floats lie in 32 banks"
    )
    # 8 warps write; 4 + 2 + 1 + 5 = 12 warp steps of 3 requests; the result: 45. The reference: 32.
    requests = _shared_requests(report)
    assert requests <= 48 * rows, (
        f"{requests} warp requests to shared memory for {rows} rows; {48 * rows} allow 8 writes, "
        "12 warp steps of 3 and the result for each (version 1 makes 150)"
    )
    # One after the first writes and one a step: 9. (The last may go: 8, the reference.)
    cuda.at_most(
        report, "barriers", 10 * rows, slack=1.0,
        why=f"in each of {rows} blocks one after the first writes, and one for each of 8 steps",
    )  # fmt: skip
    # The row once: 1024 floats are 32 requests of 4 sectors. The reference: exactly that.
    cuda.at_most(
        report, "global_load_sectors", rows * columns // 8,
        why=f"{rows} rows of {columns} floats once, 8 to a sector",
    )  # fmt: skip


@number("2.2")
@weight(1)
def test_shuffles_take_the_place_of_barriers(student, rng, figure):
    """Version 3: at most 2 barriers a block and 16 requests to shared memory, the row read once."""
    rows, columns = 5, 1024
    x = rng.standard_normal((rows, columns))
    (answer,) = row_answers(student, [rows_case("shuffle", "max", x)])
    report = answer["report"]
    cuda.attach(figure, report, title="Row maxima by shuffles")
    # By hand, for a block: 8 warps write their results, one barrier, one warp reads them: 9
    # requests (the reference). One more read and write, where thread 0 hands the result on, and a
    # second barrier for it: 11 and 2.
    cuda.at_most(
        report, "barriers", 2 * rows, slack=1.0,
        why=f"in each of {rows} blocks one, before the first warp reads what the others wrote",
    )  # fmt: skip
    requests = _shared_requests(report)
    assert requests <= 16 * rows, (
        f"{requests} warp requests to shared memory for {rows} rows; 16 for each are allowed: "
        "8 warps write one number each, and one warp reads them"
    )
    cuda.at_most(
        report, "global_load_sectors", rows * columns // 8,
        why=f"{rows} rows of {columns} floats once, 8 to a sector",
    )  # fmt: skip
    # 5 shuffles for each of the 8 warps and for the first one again: 45. Without any, the tree's
    # requests would have come up above.
    shuffles = cuda.totals(report)["shuffles"]
    assert shuffles > 0, "version 3 has no shuffle: reduce within a warp by __shfl_down_sync"


@number("2.2")
@weight(0.5)
def test_vector_is_read_once_without_atomics(student, rng):
    """The sum of a vector reads each element once, coalesced, and uses no atomics."""
    n, blocks = 20_480, 6
    (answer,) = vector_answers(student, [vector_case(rng.standard_normal(n), blocks)])
    report = answer["report"]
    # 640 warps of 32 floats, 4 sectors each; then the 6 partial sums: 1 sector. With a run of
    # elements for each thread, a warp's 32 floats would cost 32.
    cuda.at_most(
        report, "global_load_sectors", n // 8 + 1,
        why=f"{n} floats once, 8 to a sector, and {blocks} partial sums",
    )  # fmt: skip
    cuda.no_access(report, "global_atomic", why="the order of arrival would decide the sum")


def _shared_requests(report: dict) -> int:
    counts = cuda.totals(report)
    return counts["shared_load_requests"] + counts["shared_store_requests"]
