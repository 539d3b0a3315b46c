"""Task 2.6: LayerNorm and RMSNorm, forward and backward."""

from __future__ import annotations

import pytest
from gradescope_utils.autograder_utils.decorators import number, weight
from normalization_cases import Layer

from autograder.testing import cuda

pytestmark = pytest.mark.warm_up("2.6")

SHAPES = [(4, 64), (3, 100), (2, 256), (3, 1000), (2, 3, 33)]


@number("2.6")
@weight(1)
def test_layernorm_follows_torch(student, rng):
    """LayerNorm gives torch's values, and saves mean and rstd."""
    for shape in SHAPES:
        layer = Layer(rng, *shape, centred=True)
        layer.check_forward(layer.run_forward(student), f"layernorm of {shape}")


@number("2.6")
@weight(0.75)
def test_rmsnorm_follows_torch(student, rng):
    """RMSNorm gives torch's values, and saves rstd."""
    for shape in SHAPES:
        layer = Layer(rng, *shape, centred=False)
        layer.check_forward(layer.run_forward(student), f"rmsnorm of {shape}")


@number("2.6")
@weight(0.75)
def test_a_large_mean_leaves_the_variance_alone(student, rng):
    """At a mean of +-10,000 and a deviation of 1, rstd is right to five digits."""
    for offset in (1e4, -1e4):
        layer = Layer(rng, 3, 500, centred=True, offset=offset, deviation=1.0)
        got = layer.run_forward(student)
        layer.check_forward(got, f"layernorm at a mean of {offset:g}")


@number("2.6")
@weight(1)
def test_forward_reads_x_once(student, rng, figure):
    """Forward reads x once, gamma and beta once a row, and writes out once, coalesced."""
    rows, cols = 32, 512
    for centred in (True, False):
        layer = Layer(rng, rows, cols, centred=centred)
        got = layer.run_forward(student)
        name = "LayerNorm" if centred else "RMSNorm"
        layer.check_forward(got, name)
        # In sectors of 8 floats x is 32 * 512 / 8 = 2048; gamma and beta are 64 a row, as much as
        # x. LayerNorm: 3 * 2048 loads; 2048 stores, and one a row for mean and for rstd. RMSNorm:
        # 2 * 2048 loads, 2048 + 32 stores. The reference has exactly these; to read x twice is
        # 8192 and 6144 loads.
        matrix = rows * cols // 8
        vectors, saved = (2, 2) if centred else (1, 1)
        cuda.at_most(
            got["report"], "global_load_sectors", (1 + vectors) * matrix,
            why=f"{name}: x once, and {'gamma and beta' if centred else 'gamma'} once a row",
        )  # fmt: skip
        cuda.at_most(
            got["report"], "global_store_sectors", matrix + saved * rows,
            why=f"{name}: out once, and {'mean and rstd' if centred else 'rstd'}",
        )  # fmt: skip
        if centred:
            cuda.attach(figure, got["report"], title=f"LayerNorm: {rows} rows of {cols}")


@number("2.6")
@weight(1.5)
def test_layernorm_backward_follows_torch(student, rng):
    """The gradients of x, gamma and beta are torch's, for one row up to several for each block."""
    for shape in [(1, 64), (5, 100), (40, 33), (3, 25, 70), (18, 700)]:
        layer = Layer(rng, *shape, centred=True)
        layer.check_backward(layer.run_backward(student), f"layernorm of {shape}")


@number("2.6")
@weight(0.75)
def test_rmsnorm_backward_follows_torch(student, rng):
    """The gradients of x and gamma are torch's, for one row up to several for each block."""
    for shape in [(1, 64), (5, 100), (40, 33), (3, 25, 70), (18, 700)]:
        layer = Layer(rng, *shape, centred=False)
        layer.check_backward(layer.run_backward(student), f"rmsnorm of {shape}")


@number("2.6")
@weight(1.5)
def test_backward_is_one_pass_without_atomics(student, rng, figure):
    """Backward reads x and upstream once, sums down the columns in registers, without atomics or
    bank conflicts."""
    rows, cols = 64, 512
    layer = Layer(rng, rows, cols, centred=True)
    got = layer.run_backward(student)
    layer.check_backward(got, "layernorm backward")
    cuda.attach(figure, got["report"], title=f"LayerNorm, backward: {rows} rows of {cols}")
    # In sectors of 8 floats. A matrix is 64 * 512 / 8 = 4096. Loads: x, upstream and, once a row,
    # gamma: 3 * 4096; mean and rstd: one each for each of a row's 2 warps, 256; the partial sums of
    # 64 / 16 = 4 blocks, for gamma and for beta: 2 * 4 * 64 = 512. In all 13056. Stores: grad_x
    # 4096, the partial sums 512, the two gradients 2 * 64: 4736. The reference has exactly these.
    matrix, partial = rows * cols // 8, 2 * 4 * cols // 8
    cuda.at_most(
        got["report"], "global_load_sectors", 3 * matrix + 2 * 2 * rows + partial,
        why="x and upstream once, gamma, mean and rstd once a row, the partial sums once",
    )  # fmt: skip
    cuda.at_most(
        got["report"], "global_store_sectors", matrix + partial + 2 * cols // 8,
        why="grad_x once, the partial sums once a block, grad_gamma and grad_beta once",
    )  # fmt: skip
    cuda.exactly(
        got["report"], "global_atomic_requests", 0,
        why="a thread adds up its columns in registers; sum_partials adds what the blocks have",
    )  # fmt: skip
    cuda.at_most(
        got["report"], "worst_bank_degree", 1, slack=1,
        why="the lanes of a warp are neighbours in every array in shared memory",
    )  # fmt: skip
