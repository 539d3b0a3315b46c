"""Task 2.3: the transpose through shared memory, and what it costs."""

from __future__ import annotations

import pytest
from gradescope_utils.autograder_utils.decorators import number, weight
from transpose_cases import transpose_case, transposed

from autograder.testing import cuda

pytestmark = pytest.mark.warm_up("2.3")


@number("2.3")
@weight(1.25)
def test_matrices_of_any_size(student, rng):
    """The transpose of square and oblong matrices, of whole tiles and of parts of them."""
    shapes = [(32, 32), (2, 3), (64, 32), (32, 96), (33, 31), (5, 70), (70, 5), (45, 100)]
    shapes.append(tuple(int(n) for n in rng.integers(33, 120, 2)))
    transposed(student, [transpose_case(rng.standard_normal(shape)) for shape in shapes])


@number("2.3")
@weight(0.5)
def test_batches(student, rng):
    """Each matrix of a batch is transposed for itself."""
    shapes = [(3, 32, 32), (4, 7, 40), (2, 3, 33, 65)]
    transposed(student, [transpose_case(rng.standard_normal(shape)) for shape in shapes])


@number("2.3")
@weight(1)
def test_both_sides_are_coalesced(student, rng, figure):
    """Each element is read and written once, in 4 sectors a warp on either side."""
    rows, columns = 64, 96
    x = rng.standard_normal((rows, columns))
    naive, tiled = transposed(student, [transpose_case(x, v) for v in ("naive", "tiled")])
    for name, answer in (("naive (given)", naive), ("tiled", tiled)):
        cuda.attach(figure, answer["report"], title=f"Transpose of 64 × 96, {name}")
    # 6144 elements are 192 warps of 32. Rows of 96 and of 64 floats start at a sector's edge, so 32
    # neighbours are 4 sectors: 768 either way, which is all the memory there is. The naive store
    # touches 32 sectors a warp, 6144 in all.
    for kind in ("global_load", "global_store"):
        cuda.at_most(
            tiled["report"], f"{kind}_sectors", rows * columns // 8,
            why=f"{rows * columns} floats once, 8 to a sector of 32 bytes",
        )  # fmt: skip


@number("2.3")
@weight(0.75)
def test_no_bank_conflict_and_one_barrier(student, rng):
    """The tile is written and read without a bank conflict, with one barrier a tile."""
    (answer,) = transposed(student, [transpose_case(rng.standard_normal((64, 96)))])
    report = answer["report"]
    # A column of a tile with rows of 33 floats: the lanes are 33 floats apart, which is 1 bank.
    cuda.at_most(
        report, "worst_bank_degree", 1, slack=1.0,
        why="32 lanes that read a column find their floats in 32 banks",
    )  # fmt: skip
    # 2 × 3 tiles. (A second barrier is needed only by a block that fills its tile again.)
    cuda.at_most(report, "barriers", 6, why="6 tiles, one barrier between writing and reading each")
