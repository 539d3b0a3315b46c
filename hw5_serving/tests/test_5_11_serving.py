"""Task 5.11 in the engine: swaps while requests stream, and many adapters in one batch."""

from __future__ import annotations

import drivers_versions as drivers
from gradescope_utils.autograder_utils.decorators import number, weight
from swap_cases import Watch, drawn_requests
from versions_cases import SIZES, checksum_of, drawn_model_adapter, drawn_state

from autograder.testing import assert_equal

# Float64 throughout: sums differ by 1e-14, and the best of 61 logits leads by 1e-5 or so.
CONFIG = {"block_size": 4, "num_blocks": 70, "token_budget": 48, "max_sequences": 20}


@number("5.11")
@weight(1)
def test_a_swap_under_load(student, rng):
    """20 requests stream while versions are activated and rolled back: each wholly of one version."""
    states = {f"v{n}": {k: v.astype(float) for k, v in drawn_state(rng).items()} for n in range(1, 4)}
    first = states["v1"]
    session = student.session(
        drivers.serving, sizes=SIZES, arrays=first, version="v1", config=CONFIG, layers=[]
    )
    watch = Watch(session, {"v1": first}, "v1")
    shared = drawn_requests(rng, 3, 9, 14)  # asked of every version: is anything cached handed on?
    watch.submit(shared + drawn_requests(rng, 17))
    watch.steps(4)
    watch.stage("v2", states["v2"], checksum_of(states["v2"]))
    watch.steps(1)
    watch.activate("v2")
    watch.submit(shared + drawn_requests(rng, 5))
    watch.until_begun()
    error = session.call("stage", version="v3", arrays=states["v3"], checksum=checksum_of(first))
    assert "WeightsError" in error, "a state with another one's checksum was taken"
    watch.rollback("v1")
    watch.submit(shared + drawn_requests(rng, 3))
    watch.steps(4)
    watch.stage("v3", states["v3"], checksum_of(states["v3"]))
    watch.activate("v3")
    watch.submit(shared + drawn_requests(rng, 3))
    watch.finish()
    answered = watch.check()
    assert_equal(sum(answered.values()), 40, name="requests answered")
    wanted = {"active": "v3", "previous": "v1", "versions": ["v1", "v3"], "free": CONFIG["num_blocks"]}
    found = session.call("state")
    assert_equal({key: found[key] for key in wanted}, wanted, name="versions and free blocks at the end",
                 hint="v2 was rolled back: it goes with its last request")  # fmt: skip


@number("5.11")
@weight(0.5)
def test_adapters_in_one_batch(student, rng):
    """Requests with four adapters and none: each as if its own were merged; one leaves meanwhile."""
    state = {k: v.astype(float) for k, v in drawn_state(rng).items()}
    layers = ["layers.0.q_proj", "layers.0.down_proj", "layers.1.v_proj", "layers.1.up_proj"]
    session = student.session(
        drivers.serving, sizes=SIZES, arrays=state, version="v1", config=CONFIG, layers=layers
    )
    watch = Watch(session, {"v1": state}, "v1")
    for place, name in enumerate(("red", "green", "blue", "gray")):
        watch.load(name, drawn_model_adapter(rng, layers[place % 2 :: 1 + place // 2], 1 + place))
    names = ["red", None, "blue", "green", "red", "gray", None, "blue"]
    watch.submit([drawn_requests(rng, 1, adapter=name)[0] for name in names])
    watch.steps(3)
    session.call("remove_adapter", name="blue")
    refused = session.call("submit", requests=drawn_requests(rng, 1, adapter="blue"))
    assert_equal(refused, ["KeyError"], name="a request with an adapter that is leaving")
    refused = session.call("submit", requests=drawn_requests(rng, 1, adapter="pink"))
    assert_equal(refused, ["KeyError"], name="a request with an adapter that nobody loaded")
    watch.submit([drawn_requests(rng, 1, adapter=name)[0] for name in ("gray", "green", None)])
    watch.finish()
    watch.check()
    assert_equal(session.call("state")["adapters"], ["red", "green", "", "gray"],
                 name="the slots at the end")  # fmt: skip
