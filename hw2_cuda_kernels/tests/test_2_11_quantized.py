"""Task 2.11: matrix times vector with int8 weights and with packed int4 weights."""

from __future__ import annotations

import hw2_cuda_kernels_drivers as drivers
import numpy as np
import pytest
from gradescope_utils.autograder_utils.decorators import number, weight
from quantized_cases import check, random_weights

from autograder.testing import cuda

pytestmark = pytest.mark.warm_up("2.11")

SHAPES = [(8, 128, 64), (1, 64, 64), (13, 192, 64), (20, 512, 128), (3, 1024, 256)]


def _product(student, rng, bits: int) -> None:
    for rows, columns, group in SHAPES:
        integers, scales = random_weights(rng, rows, columns, bits, group)
        x = rng.standard_normal(columns).astype(np.float32)
        check(student, drivers.gemv, integers, scales, x, bits)


@number("2.11")
@weight(0.75)
def test_int8_product(student, rng):
    """gemv_int8 equals the product with the dequantised weights."""
    _product(student, rng, 8)


@number("2.11")
@weight(0.75)
def test_int4_product(student, rng):
    """gemv_int4 equals the product with the dequantised, unpacked weights."""
    _product(student, rng, 4)


@number("2.11")
@weight(0.5)
def test_every_value_of_a_weight(student, rng):
    """All 256 values of an int8 and all 16 of an int4 come out exactly, anywhere in a word."""
    for bits in (8, 4):
        values = np.arange(-(1 << (bits - 1)), 1 << (bits - 1), dtype=np.int8)
        rows = np.stack([np.roll(np.resize(values, 256), shift) for shift in range(8)])
        x = rng.integers(-8, 9, 256).astype(np.float32)
        scales = np.exp2(rng.integers(-3, 4, (8, 4))).astype(np.float32)
        # Integers times powers of two: every partial sum is a multiple of 1/8 below 2**24 / 8.
        check(student, drivers.gemv, rows, scales, x, bits, exact=True)


@number("2.11")
@weight(0.75)
def test_int8_traffic(student, rng, figure):
    """A warp reads 32 words of four weights at a time, each once, and x beside them."""
    rows, columns = 16, 1024
    integers, scales = random_weights(rng, rows, columns, 8, 64)
    x = rng.standard_normal(columns).astype(np.float32)
    report = check(student, drivers.gemv, integers, scales, x, 8)["report"]
    title = "int8: 16 rows of 1024 weights times a vector"
    cuda.attach(figure, report, title, flops=2 * rows * columns)
    # A row has 256 words, 8 requests of 32. For each: 1 request for words (128 bytes, 4 sectors),
    # 1 for x (32 float4s, 16 sectors), 1 for scales (2 floats side by side, 1 sector). So a row is
    # 24 requests and 8 * 21 = 168 sectors, exact in the reference. A second read of the weights
    # makes 32 requests, a byte at a time 48. The given version 1 has 3072 requests and 33,792
    # sectors for all 16 rows, where the reference has 384 and 2688.
    cuda.at_most(
        report, "global_load_requests", rows * 24,
        why="a row is 8 requests of 32 words, with a request for x and one for scales each",
    )  # fmt: skip
    cuda.at_most(
        report, "global_load_sectors", rows * 168,
        why="4 sectors of weights, 16 of x and 1 of scales for every 128 columns of a row",
    )  # fmt: skip
    # One result a row, written by one lane of its warp: 16.
    cuda.at_most(report, "global_store_requests", rows, why="one y a row")


@number("2.11")
@weight(0.75)
def test_int4_traffic(student, rng, figure):
    """A warp reads 32 words of eight weights at a time, each once, and x beside them."""
    rows, columns = 16, 1024
    integers, scales = random_weights(rng, rows, columns, 4, 64)
    x = rng.standard_normal(columns).astype(np.float32)
    report = check(student, drivers.gemv, integers, scales, x, 4)["report"]
    title = "int4: 16 rows of 1024 weights times a vector"
    cuda.attach(figure, report, title, flops=2 * rows * columns)
    # A row has 128 words, 4 requests of 32. For each: 1 request for words (128 bytes, 4 sectors),
    # 2 for x (32 float4s that fill their sectors, 16 sectors), 1 for scales (4 floats, 1 sector).
    # So a row is 16 requests and 4 * 37 = 148 sectors, exact in the reference. A second read of the
    # weights makes 20 requests; columns 2j and 2j + 1 in a byte would make 4 * 69 = 276 sectors.
    cuda.at_most(
        report, "global_load_requests", rows * 16,
        why="a row is 4 requests of 32 words, with two requests for x and one for scales each",
    )  # fmt: skip
    cuda.at_most(
        report, "global_load_sectors", rows * 148,
        why="4 sectors of weights, 32 of x and 1 of scales for every 256 columns of a row",
    )  # fmt: skip
    cuda.at_most(report, "global_store_requests", rows, why="one y a row")
