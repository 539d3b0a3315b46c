"""Task 1.3: the matrix product, blocked for the cache and for the registers."""

from __future__ import annotations

import hw1_autodiff_drivers as drivers
import numpy as np
import peers_kernels as peers
import pytest
from gradescope_utils.autograder_utils.decorators import number, partial_credit, weight
from matmul_cases import (
    DEPTH,
    INNER,
    ROWS,
    WIDTH,
    chain_arguments,
    check_chain,
    check_products,
    matrix,
)

from autograder.testing import assert_close, assert_equal, race, score_ratio, speed

pytestmark = pytest.mark.forbid_blas


@number("1.3")
@weight(0.5)
def test_pack_b_copies_a_block(student, rng):
    """pack_b copies b[p0:p1, j0:j1] and fills rows up to a multiple of 4 with zeros."""
    b = matrix(rng, 300, 700)
    cases = [[0, 8, 0, 5], [256, 300, 512, 700], [3, 10, 1, 2], [0, INNER, 0, WIDTH - 1]]
    for (p0, p1, j0, j1), got in zip(
        cases, student.run(drivers.packed_b, b=b, cases=cases), strict=True
    ):
        block = b[p0:p1, j0:j1]
        rounded = -(-len(block) // DEPTH) * DEPTH
        padded = np.zeros((rounded, block.shape[1]), np.float32)
        padded[: len(block)] = block
        assert isinstance(got, np.ndarray), "not an array"
        assert_equal(
            got[:rounded, : block.shape[1]], padded, name=f"packed b[{p0}:{p1}, {j0}:{j1}]"
        )


@number("1.3")
@weight(0.75)
def test_pack_a_arranges_register_blocks(student, rng):
    """pack_a puts a[:, p0:p1] into blocks of 3 × 4, with zeros where A has no element."""
    for rows, columns, cases in (
        (6, 8, [[0, 8], [4, 8]]), (7, 10, [[0, 10], [3, 9]]), (1, 5, [[0, 5]]), (5, 3, [[2, 3]]),
        (31, 300, [[256, 300], [0, 256]]),
    ):  # fmt: skip
        a = matrix(rng, rows, columns)
        for (p0, p1), got in zip(
            cases, student.run(drivers.packed_a, a=a, cases=cases), strict=True
        ):
            panels, blocks = -(-rows // ROWS), -(-(p1 - p0) // DEPTH)
            padded = np.zeros((panels * ROWS, blocks * DEPTH), np.float32)
            padded[:rows, : p1 - p0] = a[:, p0:p1]
            expected = padded.reshape(panels, ROWS, blocks, DEPTH).transpose(0, 2, 1, 3)
            assert_equal(got, expected, name=f"packed a[:, {p0}:{p1}] of shape {a.shape}")


@number("1.3")
@weight(0.75)
def test_micro_kernel_multiplies_one_panel(student, rng):
    """micro_kernel sums the products of all register blocks, from zero, and keeps to the width."""
    cases = []
    for blocks, width in ((1, 1), (2, 16), (5, 37), (64, WIDTH), (3, 8), (1, WIDTH - 1)):
        a = rng.standard_normal((blocks, ROWS, DEPTH), dtype=np.float32)
        cases.append({"a": a, "b": matrix(rng, blocks * DEPTH, width)})
    for case, got in zip(cases, student.run(drivers.micro_products, cases=cases), strict=True):
        a, b = case["a"].astype(np.float64), case["b"].astype(np.float64)
        expected = a.transpose(1, 0, 2).reshape(ROWS, -1) @ b
        beyond = np.full((ROWS, 1), np.nan)
        assert_close(
            got, np.hstack([expected, beyond]), rtol=1e-4, atol=1e-4,
            name=f"{len(a)} blocks times b of {b.shape}, and the column behind the width",
            hint="set the sums to 0 first, and stay within the width",
        )  # fmt: skip


@number("1.3")
@pytest.mark.warm_up("1.3 products")
@weight(1.25)
def test_blocked_product(student, rng):
    """matmul_blocked equals the product, for sizes that are no multiples of a block."""
    check_products(
        student, rng, "blocked",
        [(2, 3, 4), (1, 1, 1), (5, INNER, WIDTH), (33, 300, 70), (20, 257, 513), (3, 700, 1100)],
        hint="the last block of a dimension may be smaller than the others",
    )  # fmt: skip


@number("1.3")
@pytest.mark.warm_up("1.3 products")
@weight(1.25)
def test_register_product(student, rng):
    """matmul_register equals the product, for sizes that are no multiples of a block."""
    check_products(
        student, rng, "register",
        [(3, 4, 4), (1, 1, 1), (6, INNER, WIDTH), (33, 300, 70), (20, 257, 513), (4, 700, 1100)],
        hint="the last panel of A may reach beyond C's rows, the last block of A end in zeros",
    )  # fmt: skip


@number("1.3")
@pytest.mark.warm_up("1.3 products")
@partial_credit(1.5)
@speed
def test_register_blocks_are_fast_at_512(student, rng, set_score, figure):
    """matmul_register against the given ikj kernel at 512, one thread."""
    arguments = chain_arguments(rng, "register", (512, 512, 512), times=6)
    result = race(student, drivers.product_chain, peers.product_chain, arguments, check_chain)
    blocked = chain_arguments(rng, "blocked", (512, 512, 512), times=6)
    other = race(student, drivers.product_chain, peers.blas_chain, blocked, check_chain, pairs=3)
    steps = {
        "ikj (given)": result.peer_seconds, "blocked": other.student_seconds,
        "register": result.student_seconds,
    }  # fmt: skip
    work = 6 * 2 * 512**3 / 1e9
    figure(
        kind="ladder", title="Your matrix products at 512, one thread, against numpy's BLAS",
        data={
            "bars": [{"label": name, "value": work / spent} for name, spent in steps.items()],
            "unit": "GFLOP/s", "peer_label": "BLAS", "peer_value": work / other.peer_seconds,
        },
    )  # fmt: skip
    score_ratio(
        student, set_score, 1.5, result.ratio, full=1.4, zero=1.1, name="matmul 512",
        peer="the given ikj kernel",
    )  # fmt: skip


@number("1.3")
@pytest.mark.warm_up("1.3 products")
@partial_credit(1)
@speed
def test_blocking_helps_where_b_exceeds_the_cache(student, rng, set_score):
    """matmul_blocked against the given ikj kernel where B takes 16 MB, one thread."""
    arguments = chain_arguments(rng, "blocked", (64, 1024, 4096), times=4)
    result = race(
        student, drivers.product_chain, peers.product_chain, arguments, check_chain, pairs=5
    )
    score_ratio(
        student, set_score, 1, result.ratio, full=1.35, zero=1, name="blocked, B of 16 MB",
        peer="the given ikj kernel",
    )  # fmt: skip


@number("1.3")
@pytest.mark.warm_up("1.3 products")
@partial_credit(1.5)
@speed
def test_register_blocks_are_fast_at_1024(student, rng, set_score):
    """matmul_register against the given ikj kernel at 1024, one thread."""
    arguments = chain_arguments(rng, "register", (1024, 1024, 1024), times=2)
    result = race(
        student, drivers.product_chain, peers.product_chain, arguments, check_chain, pairs=5
    )
    score_ratio(
        student, set_score, 1.5, result.ratio, full=1.5, zero=1.1, name="matmul 1024",
        peer="the given ikj kernel",
    )  # fmt: skip
