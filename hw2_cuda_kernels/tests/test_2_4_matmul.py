"""Task 2.4: the matrix product in shared tiles, then in register tiles, and what each costs."""

from __future__ import annotations

import pytest
from gradescope_utils.autograder_utils.decorators import number, weight
from matmul_cases import matmul_case, multiplied, plain_cases

from autograder.testing import cuda

pytestmark = pytest.mark.warm_up("2.4")
N = 128


@number("2.4")
@weight(2)
def test_tiled_products_of_any_size(student, rng):
    """The tiled product, for sizes of whole tiles, of less than a tile and of tiles and a rest."""
    sizes = [(32, 32, 32), (64, 96, 32), (3, 4, 5), (33, 40, 65), (1, 70, 1), (50, 1, 34)]
    sizes.append(tuple(int(n) for n in rng.integers(33, 100, 3)))
    multiplied(student, plain_cases(rng, "tiled", sizes))


@number("2.4")
@weight(0.5)
def test_tiled_batches(student, rng):
    """Each product of a batch has its own A and B; an A of two dimensions serves them all."""
    shapes = [((3, 32, 32), (3, 32, 32)), ((2, 2, 5, 40), (2, 2, 40, 7)), ((4, 9), (3, 9, 35))]
    multiplied(student, [matmul_case(rng, *pair, "tiled") for pair in shapes])


@number("2.4")
@weight(1.25)
def test_tiles_divide_the_traffic_by_the_side_of_a_tile(student, rng, figure):
    """Global loads of the tiled product: each value once for every tile of C that needs it."""
    cases = [matmul_case(rng, (N, N), (N, N), version) for version in ("naive", "tiled")]
    naive, tiled = multiplied(student, cases)
    for name, answer in (("naive (given)", naive), ("tiled", tiled)):
        title = f"Product of 128 × 128 matrices, {name}"
        cuda.attach(figure, answer["report"], title, flops=2 * N**3)
    report = tiled["report"]
    # 4 × 4 tiles of C take 4 steps each; a step loads 2 tiles of 32 × 32 floats, which are 64
    # requests of a warp with 4 sectors each: 4096 requests, 16384 sectors. The naive kernel makes a
    # request for each of 2 × 128³ / 32 loads, of 1 sector for A and 4 for B: 131072 and 327680.
    cuda.at_most(
        report, "global_load_sectors", 16384,
        why="16 tiles of C x 4 steps x 2 tiles of 128 sectors",
    )  # fmt: skip
    cuda.at_most(
        report, "global_load_requests", 4096, why="16 tiles of C x 4 steps x 2 tiles of 32 rows"
    )
    # 128 × 128 floats of C, 8 to a sector.
    cuda.at_most(report, "global_store_sectors", 2048, why="each element of C once")


@number("2.4")
@weight(0.75)
def test_tiled_barriers_and_banks(student, rng):
    """Two barriers a step, and no bank conflict."""
    (answer,) = multiplied(student, plain_cases(rng, "tiled", [(64, 96, 64)]))
    # 2 × 2 blocks, 3 steps, one barrier after writing the tiles and one after reading them.
    cuda.at_most(
        answer["report"], "barriers", 24, why="4 tiles of C x 3 steps x 2 barriers", slack=1.0
    )
    # A row of A's tile: one float for all lanes. A row of B's: 32 neighbours in 32 banks.
    cuda.at_most(
        answer["report"], "worst_bank_degree", 1, slack=1.0,
        why="the lanes of a warp read one float of A's tile and a row of B's",
    )  # fmt: skip


@number("2.4")
@weight(2)
def test_register_products_of_any_size(student, rng):
    """The register-tiled product, with rows of whole float4s and with others."""
    sizes = [(64, 64, 64), (128, 16, 64), (4, 4, 4), (3, 4, 5), (65, 33, 70), (68, 36, 132)]
    sizes += [(1, 70, 1), (50, 1, 34), (20, 7, 64), (20, 64, 7)]
    sizes.append(tuple(4 * int(n) for n in rng.integers(17, 30, 3)))
    sizes.append(tuple(int(n) for n in rng.integers(65, 120, 3)))
    multiplied(student, plain_cases(rng, "register", sizes))


@number("2.4")
@weight(0.75)
def test_register_batches_and_many_tiles(student, rng):
    """Batches, and as many tiles as make the launcher choose the large ones."""
    shapes = [((3, 32, 32), (3, 32, 32)), ((2, 2, 5, 40), (2, 2, 40, 7)), ((4, 12), (3, 12, 36))]
    shapes.append(((129, 68, 8), (129, 8, 72)))  # 129 large tiles
    multiplied(student, [matmul_case(rng, *pair, "register") for pair in shapes])


@number("2.4")
@weight(1)
def test_register_tiles_halve_the_global_traffic_in_float4s(student, rng, figure):
    """Global traffic of the register-tiled product: tiles of 64 × 64, 16 bytes a lane."""
    (answer,) = multiplied(student, plain_cases(rng, "register", [(N, N, N)]))
    report = answer["report"]
    cuda.attach(figure, report, title="Product of 128 × 128 matrices, register", flops=2 * N**3)
    # 2 × 2 tiles of C, each with 64 rows of A and 64 columns of B: 2 × 64 × 128 floats, which are
    # 2048 sectors.
    cuda.at_most(
        report, "global_load_sectors", 8192, why="4 tiles of C x 2 x 64 x 128 floats, 8 to a sector"
    )
    # A warp's request for 32 float4s brings 128 floats: 4 × 16384 / 128. Single floats: 2048.
    cuda.at_most(
        report, "global_load_requests", 512, why="4 tiles of C x 2 x 64 x 128 floats, 128 a request"
    )
    # 128 × 128 floats of C: 2048 sectors, in 128 requests of 32 float4s.
    cuda.at_most(report, "global_store_sectors", 2048, why="each element of C once")
    cuda.at_most(report, "global_store_requests", 128, why="each element of C once, 128 a request")


@number("2.4")
@weight(0.75)
def test_a_value_from_shared_memory_serves_four_products(student, rng):
    """Shared memory is read 2 bytes a multiply-add, where the tiled product reads 8."""
    (answer,) = multiplied(student, plain_cases(rng, "register", [(N, N, N)]))
    report = answer["report"]
    # For each k a thread reads 4 floats of A and 4 of B, 32 bytes, for 16 multiply-adds.
    cuda.at_most(
        report, "shared_load_bytes", 2 * N**3,
        why="128^3 multiply-adds; 4 + 4 floats feed 4 x 4 of them: 2 bytes each",
    )  # fmt: skip
    cuda.at_most(
        report, "worst_bank_degree", 2, slack=1.0,
        why="no request may take more than twice the wavefronts it needs: pad or swizzle A's tile",
    )  # fmt: skip
