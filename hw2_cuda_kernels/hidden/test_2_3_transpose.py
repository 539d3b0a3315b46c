"""Task 2.3, hidden: random shapes, thin and empty matrices, special values, counts elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from gradescope_utils.autograder_utils.decorators import number, weight
from transpose_cases import transpose_case, transposed

from autograder.testing import assert_equal, cuda

pytestmark = pytest.mark.warm_up("2.3")


@number("2.3")
@weight(1)
def test_random_shapes(student, rng):
    """Random sizes around one, two and three tiles, and random batches."""
    shapes = [tuple(int(n) for n in rng.integers(1, 110, 2)) for _ in range(8)]
    shapes += [tuple(int(n) for n in rng.integers((2, 20, 20), (5, 50, 50))) for _ in range(4)]
    edges = (8, 31, 32, 33, 64, 65)
    shapes += [(int(rng.choice(edges)), int(rng.choice(edges))) for _ in range(6)]
    transposed(student, [transpose_case(rng.standard_normal(shape)) for shape in shapes])


@number("2.3")
@weight(0.5)
def test_thin_and_empty_matrices(student, rng):
    """One row, one column, one element, a batch of those, and sizes of 0."""
    shapes = [(1, 1), (1, 100), (100, 1), (33, 1), (5, 1, 9), (40, 1, 1), (0, 4), (4, 0), (0, 3, 2)]
    transposed(student, [transpose_case(rng.standard_normal(shape)) for shape in shapes])


@number("2.3")
@weight(0.25)
def test_every_bit_is_copied(student, rng):
    """NaN, infinities, zeros of both signs, tiny and huge numbers arrive as they were."""
    values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, 3e38, 1e4, -1e4], np.float32)
    x = rng.choice(values, (37, 50))
    (answer,) = transposed(student, [transpose_case(x)])
    numbers = ~np.isnan(x.T)  # a NaN's sign means nothing
    signs = np.signbit(np.asarray(answer["out"]))
    assert_equal(signs[numbers], np.signbit(x.T)[numbers], name="the signs, zeros' too")


@number("2.3")
@weight(0.75)
def test_counts_for_batches_and_ragged_tiles(student, rng):
    """A batch costs what its matrices cost; rows that straddle sectors cost 5 sectors a warp."""
    whole, ragged = transposed(
        student, [transpose_case(rng.standard_normal(s)) for s in ((3, 32, 64), (50, 70))]
    )
    for kind in ("global_load", "global_store"):
        cuda.at_most(
            whole["report"], f"{kind}_sectors", 3 * 32 * 64 // 8,
            why="3 matrices of 32 x 64 floats once, 8 to a sector",
        )  # fmt: skip
        # Rows of 70 floats start 0, 24, 16 or 8 bytes into a sector in turn, rows of 50 likewise.
        # 32 floats take 4 sectors from an edge on, else 5; the 6 that are left of a row of 70 take 1
        # or 2, the 18 of a row of 50 take 3 or 4. So at most 50 × (5 + 5 + 2) = 600 for loads and
        # 70 × (5 + 4) = 630 for stores. The reference takes 549 and 542. Naive stores: 3500.
        cuda.at_most(
            ragged["report"], f"{kind}_sectors", 550,
            why="4 or 5 sectors for 32 neighbours, fewer for the rest of a row",
        )  # fmt: skip
    for answer in (whole, ragged):
        cuda.at_most(
            answer["report"], "worst_bank_degree", 1, slack=1.0,
            why="32 lanes that read a column find their floats in 32 banks",
        )  # fmt: skip
