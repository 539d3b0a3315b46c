"""Task 2.4, hidden: all small sizes, empty ones, special values, counts of other shapes."""

from __future__ import annotations

import numpy as np
import pytest
from gradescope_utils.autograder_utils.decorators import number, weight
from matmul_cases import matmul_case, multiplied, plain_cases

from autograder.testing import cuda

pytestmark = pytest.mark.warm_up("2.4")


def _some_sizes(rng, most, count, multiple=1):
    """Random (m, k, n) up to `most`, all multiples of `multiple`."""
    draws = rng.integers(1, most // multiple + 1, (count, 3)) * multiple
    return [tuple(int(n) for n in draw) for draw in draws]


@number("2.4")
@weight(1)
def test_tiled_small_and_random_sizes(student, rng):
    """Every size of 1 to 3, sizes next to the edges of tiles, and random ones, tiled."""
    sizes = [(m, k, n) for m in (1, 2, 3) for k in (1, 2, 3) for n in (1, 2, 3)]
    edges = (31, 32, 33, 64, 65)
    sizes += [tuple(int(n) for n in rng.choice(edges, 3)) for _ in range(5)]
    multiplied(student, plain_cases(rng, "tiled", sizes + _some_sizes(rng, 110, 4)))


@number("2.4")
@weight(1.25)
def test_register_small_and_random_sizes(student, rng):
    """Every size of 1 to 3, sizes next to the edges of tiles, and random ones, register-tiled."""
    sizes = [(m, k, n) for m in (1, 2, 3) for k in (1, 2, 3) for n in (1, 2, 3)]
    edges = (15, 16, 17, 60, 63, 64, 65, 68, 127, 128, 129)
    sizes += [tuple(int(n) for n in rng.choice(edges, 3)) for _ in range(8)]
    sizes += _some_sizes(rng, 150, 3) + _some_sizes(rng, 150, 3, multiple=4)
    multiplied(student, plain_cases(rng, "register", sizes))


@number("2.4")
@weight(0.75)
def test_nan_and_infinity_stay_in_their_rows_and_columns(student, rng):
    """A NaN in A spoils its row of C, an infinity in B its column, and nothing else."""
    cases = []
    for version in ("tiled", "register"):
        for m, k, n in ((40, 45, 50), (70, 36, 68), (64, 64, 64)):
            (case,) = plain_cases(rng, version, [(m, k, n)])
            case["a"][m // 2, k - 1] = np.nan
            case["b"][k - 1, n // 3] = np.inf
            cases.append(case)
    multiplied(student, cases)


@number("2.4")
@weight(0.75)
def test_empty_products_batches_and_a_shared_matrix(student, rng):
    """Sizes of 0 (an inner size of 0 gives zeros), random batches, and one A for all products."""
    shapes = [((0, 4), (4, 3)), ((3, 4), (4, 0)), ((0, 5, 4), (0, 4, 3)), ((2, 0, 4), (4, 3))]
    shapes += [((5, 0), (0, 8)), ((3, 40, 0), (3, 0, 33)), ((2, 3, 20), (20, 36))]
    batch = int(rng.integers(2, 6))
    m, k, n = (int(size) for size in rng.integers(5, 70, 3))
    shapes += [((batch, m, k), (batch, k, n)), ((m, k), (batch, k, n))]
    cases = [matmul_case(rng, *pair, v) for pair in shapes for v in ("tiled", "register")]
    cases.append(matmul_case(rng, (130, 3, 5), (130, 5, 40), "register"))  # large tiles
    multiplied(student, cases)


@number("2.4")
@weight(0.25)
def test_large_and_small_numbers(student, rng):
    """Factors between 1e-4 and 1e4 of either sign keep float32's precision."""
    cases = []
    for version in ("tiled", "register"):
        for size in ((33, 70, 40), (64, 8, 64)):
            (case,) = plain_cases(rng, version, [size])
            for name in ("a", "b"):
                powers = 10.0 ** rng.integers(-4, 5, case[name].shape)
                case[name] = (case[name] * powers).astype(np.float32)
            cases.append(case)
    multiplied(student, cases)


@number("2.4")
@weight(1)
def test_counts_of_oblong_products_and_large_tiles(student, rng):
    """The traffic follows the shape, and large tiles halve it again."""
    m, k, n = 64, 96, 192
    tiled, register = multiplied(
        student, [plain_cases(rng, v, [(m, k, n)])[0] for v in ("tiled", "register")]
    )
    # 2 × 6 tiles of 32 × 32, 3 steps, 2 × 128 sectors each.
    cuda.at_most(
        tiled["report"], "global_load_sectors", 9216,
        why="2 x 6 tiles of C x 3 steps x 2 tiles of 128 sectors",
    )  # fmt: skip
    # 1 × 3 tiles of 64 × 64, each with 64 × 96 floats of A and of B: 1536 sectors, in 96 requests.
    cuda.at_most(
        register["report"], "global_load_sectors", 4608, why="3 tiles x 2 x 64 x 96 / 8 sectors"
    )
    cuda.at_most(
        register["report"], "global_load_requests", 288, why="3 tiles x 2 x 64 x 96 / 128 float4s"
    )
    cuda.at_most(
        register["report"], "shared_load_bytes", 2 * m * k * n, why="2 bytes a multiply-add"
    )
    # 128 products of 128 × 8 times 8 × 128, one large tile each: 2 × 128 × 8 floats, 256 sectors.
    # Tiles of 64 × 64 would load twice as much. 8 + 8 floats feed 8 × 8 multiply-adds.
    large = [matmul_case(rng, (128, 128, 8), (128, 8, 128), "register")]
    (answer,) = multiplied(student, large)
    cuda.at_most(
        answer["report"], "global_load_sectors", 128 * 256, why="128 x 2 x 128 x 8 / 8 sectors"
    )
    cuda.at_most(answer["report"], "shared_load_bytes", 128**3 * 8, why="1 byte a multiply-add")
