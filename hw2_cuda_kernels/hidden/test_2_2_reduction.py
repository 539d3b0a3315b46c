"""Task 2.2, hidden: sizes around warps and blocks, special values, accuracy, counts elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from gradescope_utils.autograder_utils.decorators import number, weight
from reduction_cases import row_answers, rows_case, vector_answers, vector_case

from autograder.testing import assert_equal, cuda

pytestmark = pytest.mark.warm_up("2.2")
VERSIONS = ("tree", "shuffle")


@number("2.2")
@weight(1.25)
def test_sizes_around_warps_and_blocks(student, rng):
    """Rows of one element, around a warp and a block, no columns, no rows, and random shapes."""
    columns = [1, 2, 16, 31, 32, 33, 63, 65, 127, 128, 129, 255, 256, 257, 511, 513, 0]
    shapes = [(1, n) for n in columns] + [(0, 5), (3, 0), (6,)]
    shapes += [(int(rng.integers(1, 6)), int(rng.integers(1, 900))) for _ in range(4)]
    cases = []
    for shape in shapes:
        x = rng.standard_normal(shape)
        for version in VERSIONS:
            cases.append(rows_case(version, "sum", x))
            cases.append(rows_case(version, "max", x - 6))
    row_answers(student, cases)


@number("2.2")
@weight(1)
def test_special_values(student, rng):
    """Infinities, NaN anywhere in the row, rows of -inf, values near 1e4 and their cancellation."""
    cases = []
    for version in VERSIONS:
        for columns in (37, 300, 700):
            x = rng.standard_normal((7, columns))
            x[0, columns // 2] = np.nan
            x[1, columns - 1] = np.inf
            x[2, 0] = -np.inf
            x[3, [0, -1]] = np.inf, -np.inf
            x[4] = -np.inf
            x[5, -1] = np.nan
            x[6] = 1e4 * np.where(np.arange(columns) % 2, -1, 1) + x[6]
            cases += [rows_case(version, operation, x) for operation in ("sum", "max")]
            ones = np.where(np.arange(columns) % 3, 1e4, -1e4)[None]
            cases += [rows_case(version, operation, ones) for operation in ("sum", "max")]
    row_answers(student, cases)


@number("2.2")
@weight(1)
def test_long_vectors(student, rng):
    """Vectors around multiples of the grid, an empty one, a long one of one sign, the same bits."""
    cases = [vector_case(np.zeros(0), 4), vector_case(rng.uniform(0.5, 1.5, 60_001), 9)]
    for n in (255, 257, 511, 512, 513, 767, 769):
        cases.append(vector_case(rng.standard_normal(n), 2))
    for blocks in (1, 31, 257, 300):
        cases.append(vector_case(rng.standard_normal(int(rng.integers(1000, 9000))), blocks))
    cases.append(vector_case(np.where(np.arange(3000) % 2, 1e4, -1e4), 5))
    cases.append(cases[1])
    answers = vector_answers(student, cases)
    assert_equal(answers[-1]["out"], answers[1]["out"], name="the same sum again")


@number("2.2")
@weight(0.75)
def test_counts_for_other_rows(student, rng):
    """Longer and ragged rows are read once, at the same number of barriers and no bank conflict."""
    rows, columns = 3, 1500
    x = rng.standard_normal((rows, columns))
    for version, barriers in (("tree", 10), ("shuffle", 2)):
        (answer,) = row_answers(student, [rows_case(version, "sum", x)])
        report = answer["report"]
        cuda.at_most(
            report, "barriers", barriers * rows, slack=1.0,
            why=f"{barriers} a block, however long the row is",
        )  # fmt: skip
        cuda.at_most(
            report, "worst_bank_degree", 1, slack=1.0, why="neighbouring lanes, neighbouring floats"
        )
        # 1500 floats are 46 warps of 32 and one of 28. A row is 6000 bytes: rows 0 and 2 start at a
        # sector's edge (4 sectors a warp: 188 a row), row 1 in the middle of one (5 a warp, and 4
        # for the last: 234). 610 in all, the reference exactly.
        cuda.at_most(
            report, "global_load_sectors", 610,
            why=f"{rows} rows of {columns} floats once, one of them across the sectors' edges",
        )  # fmt: skip
