"""Task 5.11, hidden: the prefix cache, preemption, canaries, and loading beside a swap."""

from __future__ import annotations

import drivers_versions as drivers
from gradescope_utils.autograder_utils.decorators import number, weight
from swap_cases import Watch, drawn_requests
from versions_cases import SIZES, checksum_of, drawn_model_adapter, drawn_state

from autograder.testing import assert_equal

LAYERS = ["layers.0.q_proj", "layers.0.k_proj", "layers.0.v_proj", "layers.1.gate_proj"]


def wide_state(rng):
    """A drawn state in float64."""
    return {name: values.astype(float) for name, values in drawn_state(rng).items()}


def watched(student, state, **config) -> Watch:
    """An engine over one version, "v1", and a watch over it."""
    whole = {"block_size": 4, "num_blocks": 96, "token_budget": 64, "max_sequences": 16} | config
    session = student.session(
        drivers.serving, sizes=SIZES, arrays=state, version="v1", config=whole, layers=LAYERS
    )
    return Watch(session, {"v1": state}, "v1")


@number("5.11")
@weight(0.75)
def test_cached_keys_belong_to_their_weights(student, rng):
    """One prompt again and again: reused by its own version and adapter, by nobody else."""
    watch = watched(student, wide_state(rng))
    prompt = drawn_requests(rng, 1, 13, 14)[0]["prompt"]

    def ask(what: str, cached: int, adapter: str | None = None) -> None:
        """Twice: first with `cached` tokens from the cache, then with all three whole blocks."""
        for tokens in (cached, 12):
            (request_id,) = watch.submit([{"prompt": prompt, "count": 7, "adapter": adapter}])
            watch.finish()
            watch.check()
            assert_equal(watch.requests[request_id].first_at, tokens,
                         name=f"tokens that a request {what} took from the cache")  # fmt: skip

    ask("of the first version", 0)
    watch.load("red", drawn_model_adapter(rng, LAYERS, 3))
    ask("with an adapter", 0, "red")
    ask("without one again", 12)
    state = wide_state(rng)
    watch.stage("v2", state, checksum_of(state))
    watch.activate("v2")
    ask("of the second version", 0)
    ask("of the second version with an adapter", 0, "red")
    watch.rollback("v1")
    ask("after the rollback", 12)
    watch.session.call("remove_adapter", name="red")
    watch.load("red", drawn_model_adapter(rng, LAYERS, 2))
    ask("with another adapter of the same name", 0, "red")
    other = wide_state(rng)
    watch.stage("v2", other, checksum_of(other))
    watch.activate("v2")
    ask("of another version of the same name", 0)


@number("5.11")
@weight(1)
def test_preempted_aborted_and_named(student, rng):
    """Few blocks: who is preempted over a swap resumes with its own weights; a canary by name."""
    watch = watched(student, wide_state(rng), num_blocks=18, max_sequences=7)
    for name in ("red", "green"):
        watch.load(name, drawn_model_adapter(rng, LAYERS, 2))
    names = ["red", None, "green", "red", None, "green", None, "red", "green"]
    first = watch.submit([drawn_requests(rng, 1, 9, 14, adapter=name)[0] for name in names])
    state = wide_state(rng)
    watch.stage("v2", state, checksum_of(state))
    canaries = watch.submit(drawn_requests(rng, 2, version="v2", adapter="green"))
    watch.steps(6)
    refused = watch.session.call("submit", requests=drawn_requests(rng, 1, version="v3"))
    assert_equal(refused, ["KeyError"], name="a request for a version that nobody staged")
    watch.activate("v2")
    watch.session.call("remove_adapter", name="red")
    stable = watch.submit(drawn_requests(rng, 2, version="v1"))
    watch.steps(4)
    going = [one for one in first if watch.requests[one].answer is None]
    watch.abort(going[-1])
    watch.submit(drawn_requests(rng, 3, adapter="green"))
    watch.steps(2)
    third = wide_state(rng)
    watch.stage("v3", third, checksum_of(third))
    watch.activate("v3")
    refused = watch.session.call("submit", requests=drawn_requests(rng, 1, version="v1"))
    assert_equal(refused, ["KeyError"], name="a request for a version that is leaving")
    watch.finish()
    watch.check()
    for request_id, version in [(one, "v2") for one in canaries] + [(one, "v1") for one in stable]:
        assert_equal(watch.requests[request_id].version, version, name="the version of a named request")
    over = [one for one in watch.requests.values() if one.preempted]
    assert over, "with 18 blocks somebody must be preempted"
    found = watch.session.call("state")
    wanted = {"versions": ["v2", "v3"], "adapters": ["", "green", "", ""], "free": 18}
    assert_equal({key: found[key] for key in wanted}, wanted, name="what is held at the end",
                 hint="aborted and preempted requests give back what they held, once")  # fmt: skip


@number("5.11")
@weight(0.5)
def test_loading_does_not_hold_steps_up(student, rng):
    """A state that comes slowly is staged by a thread, while steps run and versions change."""
    watch = watched(student, wide_state(rng))
    state, third = wide_state(rng), wide_state(rng)
    watch.stage("v2", state, checksum_of(state))
    watch.submit(drawn_requests(rng, 6))
    begun = watch.session.call(
        "begin_staging", version="v3", arrays=third, checksum=checksum_of(third)
    )
    assert begun, "stage should ask the state for its tensors: it may be any Mapping"
    found = watch.steps(3, "steps_beside", seconds=8.0)
    assert len(found) == 3, "steps don't go on while stage waits for a slow state: it holds the lock"
    assert_equal(watch.session.call("state")["versions"], ["v1", "v2"], name="versions while v3 loads")
    watch.activate("v2")
    watch.submit(drawn_requests(rng, 3))
    watch.until_begun()
    assert watch.session.call("end_staging"), "stage did not end although all tensors were there"
    watch.states["v3"] = third
    watch.activate("v3")
    watch.submit(drawn_requests(rng, 3))
    watch.finish()
    answered = watch.check()
    assert sorted(answered) == ["v1", "v2", "v3"], f"each version should answer some: {answered}"
