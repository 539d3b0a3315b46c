"""Task 2.11, hidden: random shapes, large numbers, scales of 0, nothing at all, other counts."""

from __future__ import annotations

import hw2_cuda_kernels_drivers as drivers
import numpy as np
import pytest
from gradescope_utils.autograder_utils.decorators import number, weight
from quantized_cases import check, random_weights

from autograder.testing import assert_equal, cuda

pytestmark = pytest.mark.warm_up("2.11")


@number("2.11")
@weight(1)
def test_any_shape(student, rng):
    """Products of random shapes, group sizes and x agree with the dequantised ones."""
    for bits in (8, 4):
        for _ in range(4):
            group = int(rng.choice([64, 128, 256, 512]))
            rows, columns = int(rng.integers(1, 40)), group * int(rng.integers(1, 5))
            integers, scales = random_weights(rng, rows, columns, bits, group)
            x = rng.standard_normal(columns).astype(np.float32)
            check(student, drivers.gemv, integers, scales, x, bits)


@number("2.11")
@weight(0.5)
def test_large_and_vanishing_numbers(student, rng):
    """x up to 10,000, scales of 0, one weight that is not 0: exact or within the bound."""
    for bits in (8, 4):
        integers, scales = random_weights(rng, 9, 320, bits, 64)
        x = (1e4 * rng.uniform(-1, 1, 320)).astype(np.float32)
        scales[2], scales[4, 1] = 0, 0
        check(student, drivers.gemv, integers, scales, x, bits)
        single = np.zeros((64, 64), np.int8)
        np.fill_diagonal(single, -(1 << (bits - 1)))
        ones = np.ones((64, 1), np.float32)
        counted = np.arange(1, 65, dtype=np.float32)
        got = check(student, drivers.gemv, single, ones, counted, bits, exact=True)
        assert_equal(got["y"], counted * single[0, 0], name="a diagonal matrix times 1 … 64")


@number("2.11")
@weight(0.5)
def test_nothing_or_one_row(student, rng):
    """No rows launch nothing; rows that fill no block leave what lies behind y alone."""
    for bits in (8, 4):
        integers, scales = random_weights(rng, 0, 128, bits, 64)
        x = rng.standard_normal(128).astype(np.float32)
        got = student.run(drivers.gemv, integers=integers, scales=scales, x=x, bits=bits)
        assert_equal(got["y"], np.zeros(0), name="y of no rows")
        cuda.check(got["report"])
        for rows in (1, 7, 9):
            integers, scales = random_weights(rng, rows, 64, bits, 64)
            check(student, drivers.gemv, integers, scales, x[:64], bits)


@number("2.11")
@weight(0.5)
def test_traffic_elsewhere(student, rng):
    """The counts hold for other shapes: rows of 640 weights in groups of 128."""
    rows, columns, group = 12, 640, 128
    x = rng.standard_normal(columns).astype(np.float32)
    integers, scales = random_weights(rng, rows, columns, 8, group)
    report = check(student, drivers.gemv, integers, scales, x, 8)["report"]
    # int8: 160 words, 5 requests a row; for each 1 of words (4 sectors), 1 of x (16), 1 of scales
    # (1): 15 requests, 105 sectors a row. Exact in the reference.
    cuda.at_most(report, "global_load_requests", rows * 15, why="words, x, scales, 5 times a row")
    cuda.at_most(report, "global_load_sectors", rows * 105, why="21 sectors for 128 columns")
    integers, scales = random_weights(rng, rows, columns, 4, group)
    report = check(student, drivers.gemv, integers, scales, x, 4)["report"]
    # int4: 80 words, 2.5 requests a row, so 3; for each 1 of words, 2 of x, 1 of scales: 12
    # requests. Sectors: words 320 / 32 = 10, x 80, and 1 of scales for each request, 3 (a row of 5
    # scales is 20 bytes, so one row in four has a request more): at most 12 * 94.
    cuda.at_most(report, "global_load_requests", rows * 12, why="words, x twice, scales, 3 times")
    cuda.at_most(report, "global_load_sectors", rows * 94, why="37 sectors for 256 columns")
