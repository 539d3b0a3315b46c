"""Task 1.12: activation checkpointing: the same gradients, a fraction of the memory."""

from __future__ import annotations

import hw1_autodiff_drivers as drivers
import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight
from oracles_training import chain_gradients, checkpoint_reference

from autograder.testing import Measure, assert_close, assert_equal, reported_by_worker

HINT = "run the function again on the same values, with recording on, and run backward through it"


def _network(rng, blocks=4, width=5):
    x, upstream = rng.standard_normal((6, width)), rng.standard_normal((6, width))
    sizes = [((width, 7), (7, width)) for _ in range(blocks)]
    weights = [[rng.standard_normal(shape) * 0.5 for shape in pair] for pair in sizes]
    return {"x": x, "weights": weights, "upstream": upstream}


@number("1.12")
@reported_by_worker
@weight(1)
def test_gradients_are_those_without_checkpoint_bit_for_bit(student, rng):
    """Value and gradient of the input equal the plain ones in every bit, and torch's."""
    asked = _network(rng)
    plain = student.run(drivers.checkpointed_network, how="plain", **asked)
    got = student.run(drivers.checkpointed_network, how="checkpoint", **asked)
    value, gradient, _ = checkpoint_reference(**asked)
    assert_close(got["values"][0], value, rtol=1e-9, name="the value")
    assert_close(got["x"], gradient, rtol=1e-8, name="the input's gradient", hint=HINT)
    assert_equal(got["values"], plain["values"], name="[the value], checkpointed and plain")
    assert_equal(got["x"], plain["x"], name="the input's gradient, checkpointed and plain")
    in_forward, in_all = got["calls"]
    assert in_forward == 4 and in_all == 8, (
        f"4 blocks ran {in_forward} times in forward and {in_all - in_forward} times in backward; "
        "expected once each"
    )


@number("1.12")
@weight(0.75)
def test_parameters_in_the_closure_get_their_gradients(student, rng):
    """Parameters that the function uses without being given them get the plain gradients."""
    asked = _network(rng)
    plain = student.run(drivers.checkpointed_network, how="plain", **asked)
    _, _, expected = checkpoint_reference(**asked)
    for wanted in (True, False):
        got = student.run(drivers.checkpointed_network, how="checkpoint", wanted=wanted, **asked)
        if not wanted:
            assert got["x"] is None, "an input that needs no gradient got one"
        for place, theirs in enumerate(expected):
            name = f"weight {place}.grad where x {'needs' if wanted else 'needs no'} gradient"
            assert_close(got["weights"][place], theirs, rtol=1e-8, name=name)
            assert_equal(got["weights"][place], plain["weights"][place], name=f"{name}, and plain")


@number("1.12")
@weight(0.75)
def test_dropout_drops_the_same_elements_again(student, rng):
    """With dropout inside, the gradients still equal the plain ones in every bit."""
    asked = _network(rng) | {"seed": int(rng.integers(1, 2**31))}
    plain = student.run(drivers.checkpointed_network, how="plain", **asked)
    got = student.run(drivers.checkpointed_network, how="checkpoint", **asked)
    unlike = student.run(drivers.checkpointed_network, how="plain", **asked | {"seed": 0})
    hint = "put each generator back into the state it had before the function ran"
    assert np.any(np.asarray(got["x"]) != unlike["x"]), "dropout made no difference"
    assert_equal(got["values"], plain["values"], name="[the value]")
    assert_equal(got["x"], plain["x"], name="the input's gradient", hint=hint)
    assert_equal(got["weights"], plain["weights"], name="the weights' gradients", hint=hint)


@number("1.12")
@weight(1.25)
def test_eight_blocks_hold_a_quarter_of_the_memory(student, rng, figure):
    """After forward, eight checkpointed blocks hold at most 0.25 of what plain ones hold."""
    x = rng.standard_normal((8_192, 16), dtype=np.float32)
    shapes = ((16, 256), (256, 16))
    weights = [
        [rng.standard_normal(s, dtype=np.float32) * np.float32(0.1) for s in shapes]
        for _ in range(8)
    ]
    expected = chain_gradients(x, weights, 0.5)
    lines, held = {}, {}
    for name, on in (("checkpointed", True), ("plain", False)):
        chain = student.session(drivers.block_chain, x=x, weights=weights, checkpointed=on)
        first = chain.resident_bytes()
        points = [[0, 0]]
        for place in range(8):
            chain.call("block", place=place)
            points.append([place + 1, max(0, chain.resident_bytes() - first)])
        held[name] = points[-1][1]
        for place, gradient in enumerate(chain.call("backward", scale=0.5)):
            theirs = expected[place]
            near = 1e-4 * float(np.abs(theirs).max())
            assert_close(gradient, theirs, rtol=1e-3, atol=near, name=f"{name}: gradient {place}")
        points.append([9, max(0, chain.resident_bytes() - first)])
        lines[name] = points
    figure(
        kind="memory_timeline", title="Memory over eight blocks, and after backward",
        data={"series": lines, "xlabel": "blocks run, then backward"},
    )  # fmt: skip
    ratio = held["checkpointed"] / max(held["plain"], 1)
    assert held["plain"] > 96 << 20, "the plain blocks held too little to compare with"
    student.measure(Measure(name="held: checkpointed / plain", value=ratio, full=0.25))
    assert ratio <= 0.25, (
        f"eight checkpointed blocks hold {held['checkpointed'] >> 20} MB after forward, plain ones "
        f"{held['plain'] >> 20} MB: a ratio of {ratio:.2f}, at most 0.25 is asked. Keep a block's "
        "inputs and nothing from inside it: no graph, no saved arrays"
    )
    # Against plain blocks that hold more than they need: an inner array of a block has 8 MB.
    assert held["checkpointed"] <= 64 << 20, (
        f"eight checkpointed blocks hold {held['checkpointed'] >> 20} MB after forward; their "
        "inputs have 4 MB in all, and 64 MB are allowed"
    )
