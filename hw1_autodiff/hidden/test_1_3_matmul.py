"""Task 1.3, hidden: all small sizes, empty ones, other strides, and NaN."""

from __future__ import annotations

import hw1_autodiff_drivers as drivers
import numpy as np
import pytest
from gradescope_utils.autograder_utils.decorators import number, weight
from matmul_cases import check_product, check_products, matrix

from autograder.testing import assert_close

pytestmark = [pytest.mark.forbid_blas, pytest.mark.warm_up("1.3 products")]


@number("1.3")
@weight(0.75)
def test_every_small_size_and_random_larger_ones(student, rng):
    """All sizes from 0 to 4 in each dimension, and random ones around the blocks' edges."""
    small = [(m, k, n) for m in range(5) for k in range(6) for n in (0, 1, 2, 5)]
    large = [
        (int(rng.integers(1, 40)), int(rng.integers(250, 520)), int(rng.integers(500, 1030)))
        for _ in range(4)
    ]
    for kind in ("blocked", "register"):
        check_products(student, rng, kind, small + large)


@number("1.3")
@weight(0.25)
def test_factors_of_any_strides(student, rng):
    """Transposed, reversed and stepped factors give the same product."""
    sizes = [(5, 7, 9), (40, 261, 70)]
    for kind in ("blocked", "register"):
        for layouts in (["transposed", "plain"], ["plain", "transposed"], ["strided", "reversed"]):
            check_products(student, rng, kind, sizes, layouts)


@number("1.3")
@weight(0.5)
def test_nan_and_infinity_stay_in_their_rows_and_columns(student, rng):
    """A NaN in A spoils its row of C, an infinity in B its column, and nothing else."""
    for kind in ("blocked", "register"):
        for m, k, n in ((7, 10, 13), (20, 259, 30)):
            a, b = matrix(rng, m, k), matrix(rng, k, n)
            a[m // 2, k // 2] = np.nan
            b[k - 1, n // 3] = np.inf
            (result,) = student.run(drivers.products, kind=kind, pairs=[[a, b]])
            expected = a.astype(np.float64) @ b.astype(np.float64)
            assert_close(
                result, expected, rtol=1e-4, atol=1e-4, name=f"matmul_{kind} of {m, k, n}",
                hint="0 times NaN is NaN: set what pads a block of B to 0 as well",
            )  # fmt: skip
            first = [matrix(rng, 12, 300) + np.nan, matrix(rng, 300, 520)]
            clean = [matrix(rng, 5, 271), matrix(rng, 271, 20)]
            pairs = [first, clean]
            (_, again) = student.run(drivers.products, kind=kind, pairs=pairs)
            check_product(f"matmul_{kind} after a product of NaNs", again, *clean)
