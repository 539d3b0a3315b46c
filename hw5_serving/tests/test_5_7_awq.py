"""Task 5.7: the scale is found, folded at no cost, and lowers the error of what is rounded."""

from __future__ import annotations

import drivers_compression as drivers
import numpy as np
from compression_cases import loss, rounded
from gradescope_utils.autograder_utils.decorators import number, weight
from real_measures import GOLDEN, check_awq

from autograder.testing import Measure, assert_close, assert_equal, packaged


def uneven(rng: np.random.Generator, rows: int, features: int) -> np.ndarray:
    """Inputs of which a few features are many times as large as most: (rows, features)."""
    sizes = np.exp(1.2 * rng.standard_normal(features))
    return (rng.standard_normal((rows, features)) * sizes).astype(np.float32)


@number("5.7")
@weight(0.7)
def test_candidates_by_the_formula(student, rng):
    """mean |x|, its powers, over the root of largest times smallest; no scale of 0."""
    inputs = uneven(rng, 24, 10).reshape(4, 6, 10)
    inputs[..., 3] = 0.0
    alphas = [0.0, 0.35, 1.0]
    got = student.run(drivers.magnitudes, inputs=inputs, alphas=alphas)
    mean = np.abs(inputs.astype(float)).mean((0, 1))
    assert_close(got["magnitude"], mean, rtol=1e-5, atol=1e-7, name="mean |x|")
    for alpha, scale in zip(alphas, got["scales"], strict=True):
        powers = np.maximum(mean, 1e-4) ** alpha
        wanted = powers / np.sqrt(powers.max() * powers.min())
        assert_close(scale, wanted, rtol=1e-4, atol=0, name=f"scale for alpha {alpha}")


@number("5.7")
@weight(1.2)
def test_folding_changes_no_output(student, rng):
    """Norm and matrices, and two matrices with a gate between: the same product before rounding."""
    x, norm = rng.standard_normal((9, 16)), rng.standard_normal(16).astype(np.float32)
    scale = np.exp(rng.standard_normal(16)).astype(np.float32)
    weights = [rng.standard_normal((rows, 16)).astype(np.float32) for rows in (5, 3, 5)]
    got = student.run(drivers.folded, norm=norm, weights=weights, scale=scale)
    assert_close(got["norm"], norm / scale, rtol=1e-5, atol=0, name="the norm's weight")
    for old, new in zip(weights, got["weights"], strict=True):
        after = (x * got["norm"]) @ np.asarray(new).T
        assert_close(after, (x * norm) @ old.T, rtol=1e-4, atol=1e-4, name="output after the norm")
        assert_close(new, old * scale, rtol=1e-5, atol=0, name="a matrix after the norm")
    for old, kept in zip([norm, *weights], got["kept"], strict=True):
        assert_equal(kept, old, name="the arguments, afterwards")
    up, down = (rng.standard_normal(shape).astype(np.float32) for shape in ((16, 7), (4, 16)))
    before, after = student.run(drivers.folded_rows, previous=up, following=down, scale=scale)
    data, gate = rng.standard_normal((6, 7)), rng.standard_normal((6, 16))
    assert_close(
        (gate * (data @ np.asarray(before).T)) @ np.asarray(after).T,
        (gate * (data @ up.T)) @ down.T,
        rtol=1e-4,
        atol=1e-4,
        name="down(gate · up(x))",
    )
    assert_close(after, down * scale, rtol=1e-5, atol=0, name="the second matrix")  # fmt: skip


@number("5.7")
@weight(1.1)
def test_the_scale_lowers_the_error(student, rng):
    """At most 0.85 of the error of rounding to nearest, for two matrices behind one norm."""
    inputs = uneven(rng, 200, 128)
    weights = [rng.standard_normal((40, 128)).astype(np.float32) for _ in range(2)]
    options = {"bits": 3, "group": 64, "symmetric": False}
    case = {"inputs": inputs, "weights": weights, "options": options}
    scale = np.asarray(student.run(drivers.searched, cases=[case])[0], float)
    mine = sum(loss(w, rounded(w * scale, 3, 64, False) / scale, inputs) for w in weights)
    plain = sum(loss(w, rounded(w, 3, 64, False), inputs) for w in weights)
    student.measure(Measure(name="AWQ's error against rounding to nearest", value=mine / plain))
    assert mine <= 0.85 * plain, f"{mine / plain:.2f} of the error, at most 0.85 is asked"


@number("5.7")
@weight(0.6)
def test_a_real_block(student, rng):
    """One layer of SmolLM2 in 4 bits, scales folded: at most 0.85 of rounding's error, other text."""
    check_awq(student, rng, packaged("smollm2"), np.load(GOLDEN / "prose_public.npy"))
