"""Task 2.12, hidden: other shapes, nothing at all, the future unseen, inputs left alone."""

from __future__ import annotations

import hw2_cuda_kernels_drivers as drivers
import numpy as np
import pytest
from block_cases import expected_block, trained_weights
from checked import checked
from gradescope_utils.autograder_utils.decorators import number, weight

from autograder.testing import assert_close, assert_equal

pytestmark = pytest.mark.warm_up("2.12")


@number("2.12")
@weight(0.75)
def test_other_shapes(student, rng):
    """Several samples, several heads of 32 or 64, more or fewer hidden units than 3 * dim."""
    for batch, time, dim, heads, hidden in [(3, 17, 128, 2, 100), (2, 33, 96, 3, 480)]:
        weights = trained_weights(rng, dim, hidden)
        x = (2 * rng.standard_normal((batch, time, dim)) + 1).astype(np.float32)
        got = checked(student, drivers.transformer_block, x=x, weights=weights, heads=heads)
        assert_close(
            got["out"], expected_block(x, weights, heads), rtol=1e-4, atol=2e-4,
            name=f"block, batch {batch}, time {time}, dim {dim}, {heads} heads, hidden {hidden}",
        )  # fmt: skip


@number("2.12")
@weight(0.75)
def test_inputs_and_future(student, rng):
    """x and weights stay as they were; no output depends on later tokens; there may be none."""
    weights = trained_weights(rng, 64, 128)
    x = rng.standard_normal((2, 40, 64)).astype(np.float32)
    first = checked(student, drivers.transformer_block, x=x, weights=weights, heads=2)
    assert_equal(first["x"], x, name="x afterwards")
    for name, value in weights.items():
        assert_equal(first["weights"][name], value, name=f"{name} afterwards")
    changed = x.copy()
    changed[:, 23:] += rng.standard_normal((2, 17, 64)).astype(np.float32)
    second = checked(student, drivers.transformer_block, x=changed, weights=weights, heads=2)
    assert_equal(second["out"][:, :23], first["out"][:, :23], name="outputs of tokens 0 to 22")
    assert (second["out"][:, 23:] != first["out"][:, 23:]).any(axis=2).all(), (
        "changing a token must change its own output"
    )
    for shape in [(0, 5, 64), (2, 0, 64)]:
        got = checked(
            student, drivers.transformer_block,
            x=np.zeros(shape, np.float32), weights=weights, heads=2,
        )  # fmt: skip
        assert_equal(got["out"], np.zeros(shape), name="block of no tokens")
