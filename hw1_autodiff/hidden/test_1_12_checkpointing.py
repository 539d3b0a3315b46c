"""Task 1.12, hidden: nested checkpoints, odd inputs, the generators afterwards, the peak."""

from __future__ import annotations

import hw1_autodiff_drivers as drivers
import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight
from oracles_training import chain_gradients, checkpoint_reference

from autograder.testing import assert_close, assert_equal


def _network(rng, blocks, width=4):
    x, upstream = rng.standard_normal((5, width)), rng.standard_normal((5, width))
    sizes = [((width, 6), (6, width)) for _ in range(blocks)]
    weights = [[rng.standard_normal(shape) * 0.5 for shape in pair] for pair in sizes]
    return {"x": x, "weights": weights, "upstream": upstream}


@number("1.12")
@weight(0.5)
def test_checkpoints_may_be_nested(student, rng):
    """A checkpoint inside a checkpoint gives the plain gradients, with and without dropout."""
    asked = _network(rng, blocks=4)
    value, gradient, _ = checkpoint_reference(**asked)
    for seed in (0, int(rng.integers(1, 2**31))):
        plain = student.run(drivers.checkpointed_network, how="plain", seed=seed, **asked)
        got = student.run(drivers.checkpointed_network, how="nested", seed=seed, **asked)
        if not seed:
            assert_close(got["values"][0], value, rtol=1e-9, name="the value")
            assert_close(got["x"], gradient, rtol=1e-8, name="the input's gradient")
        assert_equal(got["values"], plain["values"], name="[the value]")
        assert_equal(got["x"], plain["x"], name="the input's gradient")
        assert_equal(got["weights"], plain["weights"], name="the weights' gradients")


@number("1.12")
@weight(0.5)
def test_inputs_of_every_kind(student, rng):
    """Constants, numbers, a tensor given twice, no_grad, and nothing that needs a gradient."""
    x, w, upstream = (rng.standard_normal((3, 2)) for _ in range(3))
    got = student.run(drivers.checkpoint_of_mixed_inputs, x=x, w=w, upstream=upstream)
    inner = np.tanh(x * w)
    assert_close(got["value"], 3 * inner * x, rtol=1e-9, name="the value")
    expected = 3 * upstream * (inner + x * (1 - inner**2) * w)
    assert_close(got["x"], expected, rtol=1e-9, name="the gradient of a tensor given twice")
    assert got["constant"] is None, "a constant input got a gradient"
    assert_close(got["silent"], 2 * x, rtol=1e-12, name="the value under no_grad")
    for flag, wanted, about in zip(
        got["flags"], [False, False, False, True],
        [
            "under no_grad the result must need no gradient",
            "under no_grad the result must have no node",
            "a result that depends on nothing trainable must need no gradient",
            "a second backward must raise RuntimeError",
        ], strict=True,
    ):  # fmt: skip
        assert flag is wanted, about
    asked = _network(rng, blocks=2)
    frozen = student.run(
        drivers.checkpointed_network, how="checkpoint", wanted=False, frozen=True, **asked
    )
    assert frozen["wants"] is False, "all is frozen, yet the result asks for a gradient"
    assert_close(frozen["values"][0], checkpoint_reference(**asked)[0], rtol=1e-9, name="the value")


@number("1.12")
@weight(0.5)
def test_generators_go_on_as_if_nothing_was_replayed(student, rng):
    """After backward the generators stand where forward left them: later passes draw anew."""
    asked = _network(rng, blocks=2) | {"seed": int(rng.integers(1, 2**31)), "passes": 3}
    plain = student.run(drivers.checkpointed_network, how="plain", **asked)
    got = student.run(drivers.checkpointed_network, how="checkpoint", **asked)
    assert np.any(plain["values"][0] != plain["values"][1]), "two passes dropped the same elements"
    assert_equal(got["values"], plain["values"], name="the values of three passes")
    assert_equal(got["next draw"], plain["next draw"], name="what the generator gives next")
    # Three passes are added up in another order than without checkpoint.
    for one, other in zip(got["weights"], plain["weights"], strict=True):
        assert_close(one, other, rtol=1e-9, atol=1e-12, name="a weight's gradient")


@number("1.12")
@weight(0.75)
def test_backward_holds_one_block_at_a_time(student, rng):
    """The peak of forward and backward together is that of about one block, not of all."""
    x = rng.standard_normal((8_192, 16), dtype=np.float32)
    weights = [
        [
            rng.standard_normal(s, dtype=np.float32) * np.float32(0.1)
            for s in ((16, 256), (256, 16))
        ]
        for _ in range(10)
    ]
    expected = chain_gradients(x, weights, 0.25)
    seen = student.memory(drivers.checkpointed_backward, x=x, weights=weights, scale=0.25)
    for place, theirs in enumerate(expected):
        near = 1e-4 * float(np.abs(theirs).max())
        assert_close(seen.value[place], theirs, rtol=1e-3, atol=near, name=f"gradient {place}")
    # An array inside a block has 8 MB; a plain chain keeps at least three in each of ten blocks.
    assert seen.extra_bytes <= 120 << 20, (
        f"the peak is {seen.extra_bytes >> 20} MB above the start, ten blocks of at least 24 MB: "
        "a block that was run again must be freed before the next one is"
    )
