"""Task 1.2, hidden: sizes around a block, accuracy, NaN and infinities, the same answer each time."""

from __future__ import annotations

import hw1_autodiff_drivers as drivers
import numpy as np
import pytest
from gradescope_utils.autograder_utils.decorators import number, weight
from kernel_cases import BLOCK, LAYOUTS, case, check, check_cases, floats

from autograder.testing import assert_close, assert_equal


@number("1.2")
@pytest.mark.warm_up("1.2 maps", "1.2 zips", "1.2 reductions")
@weight(1)
def test_sizes_around_a_block(student, rng):
    """Arrays of one block, one element less and one more, in every layout."""
    cases = []
    for size in (BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 5):
        for layout in ("plain", "reversed", "strided"):
            x, y = floats(rng, size), floats(rng, size)
            more = {"kernel": True}
            cases.append(case("map_array", "neg", x, layouts=[layout], **more))
            cases.append(case("zip_arrays", "sub", x, y, layouts=[layout, "plain"], **more))
            cases.append(case("zip_arrays", "sub", x, y, layouts=["plain", layout], **more))
            for name in ("sum", "max"):
                question = case("reduce_array", name, x, layouts=[layout], axis=0, **more)
                cases.append(question)
    for rows in (1, 3):
        x = floats(rng, rows, BLOCK + 1) - np.float32(4)
        cases += [
            case("reduce_array", name, x, layouts=[layout], axis=1, kernel=True)
            for name in ("sum", "max") for layout in LAYOUTS
        ]  # fmt: skip
    check_cases(student, cases)


@number("1.2")
@pytest.mark.warm_up("1.2 reductions")
@weight(1)
def test_a_sum_of_a_million_is_accurate(student, rng):
    """The sum of a million elements is right to the last digits of float32."""
    cases = []
    for layout in ("plain", "strided", "reversed"):
        x = np.asarray(rng.uniform(0.5, 1.5, 1_000_003), np.float32)
        cases.append(case("reduce_array", "sum", x, layouts=[layout], axis=0))
    wide = np.asarray(rng.uniform(0.5, 1.5, (2, 300_001)), np.float32)
    cases += [case("reduce_array", "sum", wide, axis=1), case("reduce_array", "sum", wide.T, axis=0)]
    cases.append(case("reduce_array", "sum", wide.T.copy(), axis=0))
    check_cases(student, cases, lambda _: "add the blocks up in float64, round once", rtol=2e-7)


@number("1.2")
@pytest.mark.warm_up("1.2 maps", "1.2 zips", "1.2 reductions")
@weight(0.5)
def test_nan_and_infinities_go_through(student, rng):
    """NaN in a block makes its maximum and its sum NaN; infinities and signs survive."""
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, 3e38, -3e38], np.float32)
    cases = [case("map_array", name, special) for name in ("neg", "exp", "log", "tanh", "relu")]
    cases += [
        case("zip_arrays", name, special[:, None], special[None, :], kernel=kernel)
        for name in ("add", "mul", "maximum") for kernel in (False, True)
    ]  # fmt: skip
    for place in (0, BLOCK, 2 * BLOCK + 3):
        x = floats(rng, 2 * BLOCK + 4)
        x[place] = np.nan
        lowest = np.full(2 * BLOCK + 4, -np.inf, np.float32)
        for name in ("sum", "max"):
            for layout in ("plain", "strided"):
                more = {"layouts": [layout], "axis": 0, "kernel": True}
                cases.append(case("reduce_array", name, x, **more))
                cases.append(case("reduce_array", name, lowest, **more))
    check_cases(student, cases, lambda _: "combine keeps a NaN; your comparison may drop it")


@number("1.2")
@pytest.mark.warm_up("1.2 maps", "1.2 zips", "1.2 reductions")
@weight(1)
def test_many_dimensions_and_broadcast_rows(student, rng):
    """Arrays of five dimensions and over a block in size, permuted and broadcast."""
    cases = []
    for _ in range(12):
        shape = tuple(int(n) for n in rng.permutation([1, 3, 5, 7, 131]))
        x, y = floats(rng, *shape), floats(rng, *shape[-2:])
        layouts = [str(name) for name in rng.choice(LAYOUTS, 2)]
        cases.append(case("map_array", "relu", x, layouts=layouts[:1], kernel=True))
        cases.append(case("zip_arrays", "mul", x, y, layouts=layouts, kernel=True))
        cases.append(case("zip_arrays", "sub", y, x, layouts=layouts, kernel=True))
        axis = int(rng.integers(0, 5))
        cases.append(case("reduce_array", "sum", x, layouts=layouts[:1], axis=axis, kernel=True))
    check_cases(student, cases)


@number("1.2")
@pytest.mark.warm_up("1.2 maps", "1.2 zips", "1.2 reductions")
@weight(0.5)
def test_every_run_gives_the_same(student, rng):
    """Two threads give the same answer every time: no two of them write to one place."""
    x = floats(rng, 5, 3 * BLOCK + 11)
    for question in (
        case("reduce_array", "sum", x, axis=1),
        case("reduce_array", "sum", x, axis=1, layouts=["reversed"]),
        case("map_array", "neg", x, layouts=["transposed"]),
        case("zip_arrays", "add", x, x[:1], layouts=["transposed", "plain"]),
    ):
        results = [student.run(drivers.two_threads, case=question, times=25) for _ in range(4)]
        for first, last in results:
            check(question, first)
            assert_equal(last, first, name="the same call again")
    ones = np.ones(40 * BLOCK, np.float32)
    question = case("reduce_array", "sum", ones, axis=0)
    _, total = student.run(drivers.two_threads, case=question, times=30)
    assert_close(total, np.float32(ones.size), rtol=0, name="the sum of ones")
