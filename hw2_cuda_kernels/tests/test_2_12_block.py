"""Task 2.12: a transformer block from the student's own kernels."""

from __future__ import annotations

import hw2_cuda_kernels_drivers as drivers
import numpy as np
import pytest
from block_cases import expected_block, trained_weights
from checked import checked
from gradescope_utils.autograder_utils.decorators import number, weight

from autograder.testing import assert_close, cuda

pytestmark = pytest.mark.warm_up("2.12")


@number("2.12")
@weight(0.5)
def test_residual(student, rng):
    """add_residual gives x + y + bias, with or without a bias, also over one of its inputs."""
    for rows, cols in [(3, 8), (1, 4), (20, 128), (9, 1028)]:
        x, y = rng.standard_normal((2, rows, cols)).astype(np.float32)
        bias = rng.standard_normal(cols).astype(np.float32)
        for of_column, into in ((bias, "new"), (None, "x"), (bias, "y")):
            got = checked(student, drivers.residual, x=x, y=y, bias=of_column, into=into)
            expected = x.astype(np.float64) + y + (0 if of_column is None else of_column)
            # Two roundings of numbers whose size is at most |x| + |y| + |bias| < 16.
            assert_close(
                got["out"], expected, rtol=0, atol=16 * 2.0**-23,
                name=f"x + y{'' if of_column is None else ' + bias'}, {(rows, cols)}, into {into}",
            )  # fmt: skip
    x, y = rng.standard_normal((2, 16, 128)).astype(np.float32)
    report = checked(student, drivers.residual, x=x, y=y, bias=x[0])["report"]
    # 16 * 128 / 8 = 256 sectors each of x, y and out; the bias, 16 sectors, for each of 2 blocks:
    # 544 and 256 in the reference.
    cuda.at_most(report, "global_load_sectors", 544, why="x and y once, the bias once a block")
    cuda.at_most(report, "global_store_sectors", 256, why="out once")


@number("2.12")
@weight(1)
def test_the_block_agrees_with_torch(student, rng):
    """The block's output is that of layer_norm, attention, gelu and the products of torch."""
    sizes = [(1, 5, 64, 2, 128), (2, 70, 64, 1, 256), (1, 1, 32, 1, 4)]
    for batch, time, dim, heads, hidden in sizes:
        weights = trained_weights(rng, dim, hidden)
        x = rng.standard_normal((batch, time, dim)).astype(np.float32)
        got = checked(student, drivers.transformer_block, x=x, weights=weights, heads=heads)
        # Six products, of at most 256 terms of size 1 / 16 to 1, one after the other: each is right
        # to 256 * 2**-24 = 1.5e-5 of its terms' size at worst, the norms keep the size at 1.
        assert_close(
            got["out"], expected_block(x, weights, heads), rtol=1e-4, atol=1e-4,
            name=f"block, batch {batch}, time {time}, dim {dim}, {heads} heads, hidden {hidden}",
            hint="try the steps one by one: `residual` alone has its own test; does a launch write "
            "what it, or a later one, still reads?",
        )  # fmt: skip


@number("2.12")
@weight(1)
def test_launches_and_sectors(student, rng, figure):
    """Twelve launches, which move what the block's operations need and no more."""
    batch, time, dim, heads, hidden = 1, 64, 64, 2, 256
    weights = trained_weights(rng, dim, hidden)
    x = rng.standard_normal((batch, time, dim)).astype(np.float32)
    got = checked(student, drivers.transformer_block, x=x, weights=weights, heads=heads)
    report = got["report"]
    title = "A transformer block: 64 tokens of 64, 2 heads, 256 hidden"
    # Four products by dim × dim, two by dim × hidden, and causal attention, a multiply-add two.
    cuda.attach(figure, report, title, flops=2 * time * dim * (4 * dim + 2 * hidden + time + 1))
    assert_close(got["out"], expected_block(x, weights, heads), rtol=1e-4, atol=1e-4, name="block")
    assert len(report["launches"]) <= 12, (
        f"{len(report['launches'])} launches: "
        f"{', '.join(launch['kernel'] for launch in report['launches'])}; twelve are enough"
    )
    # In sectors; x is 64 * 64 / 8 = 512, and so is a 64 x 64 part of anything.
    #   launch               loads                                   stores
    #   layernorm            512 x + 64 * 16 gamma, beta      1536   512 + 128 mean, rstd   640
    #   product with w_qkv   3 tiles of 64 x 64: 512 + 512    3072   3 * 512               1536
    #   split                                                 1536                         1536
    #   attention            q, k, v: one tile a head         1536                          512
    #   join                                                   512                          512
    #   product with w_out   one tile                         1024                          512
    #   residual             x, y                             1024                          512
    #   layernorm                                             1536                          640
    #   product with w_up    4 tiles                          4096                         2048
    #   bias and gelu        2048 + 2 blocks * 32 of bias     2112                         2048
    #   product with w_down  one tile, 256 deep: 2048 twice   4096                          512
    #   residual             x, y, 8 blocks * 8 of bias       1088                          512
    # Together 23,168 and 11,520: exact in the reference.
    cuda.at_most(
        report, "global_load_sectors", 23_168,
        why="the sum over twelve launches, each of which reads its inputs as its own task asks",
    )  # fmt: skip
    cuda.at_most(
        report, "global_store_sectors", 11_520,
        why="the sum over twelve launches, each of which writes its output once",
    )  # fmt: skip
