"""Task 5.11: versions of the weights: checksums, what is refused, how versions come and go."""

from __future__ import annotations

from typing import Any

import drivers_versions as drivers
import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight
from swap_cases import Story
from versions_cases import SIZES, checksum_of, drawn_state

from autograder.testing import assert_close, assert_equal, stands_alone


@number("5.11")
@weight(0.25)
@stands_alone
def test_the_checksum_is_that_of_the_text(student, rng):
    """Names, dtypes, shapes and bytes, in sorted order, whatever the layout in memory."""
    odd = {
        "b": rng.standard_normal((3, 5)), "a.weight": np.arange(6, dtype=np.int64),
        "B": np.float32(rng.standard_normal()).reshape(()), "naïve": np.zeros((0, 4), np.float32),
    }  # fmt: skip
    turned = {"b": odd["b"].reshape(5, 3)} | {k: odd[k] for k in reversed(odd) if k != "b"}
    states = [drawn_state(rng), odd, turned, {}]
    found = student.run(drivers.checksums, states=states)
    for got, state in zip(found, states, strict=True):
        assert_equal(got, checksum_of(state), name=f"the checksum of {sorted(state)[:3]} …",
                     hint="four parts a name, each after its length in 8 bytes")  # fmt: skip
    short = {k: np.round(v * 8).astype(np.float32) / 8 for k, v in drawn_state(rng).items()}
    got = student.run(drivers.checksums, states=[short], bfloat16=True)
    assert_equal(got[0], checksum_of(short, bfloat16=True), name="the checksum in bfloat16")


def refused_states(state: dict[str, np.ndarray]) -> list[tuple[str, dict[str, Any], str]]:
    """(what is wrong, the state, a word that the message must hold); checksums fit."""
    name = "layers.1.k_proj.weight"
    fewer = {key: values for key, values in state.items() if key != name}
    holed = state[name].copy()
    holed[2, 3] = np.nan
    endless = state["norm.weight"].copy()
    endless[-1] = -np.inf
    return [
        ("a tensor is missing", fewer, name),
        ("a tensor is unknown", state | {"layers.2.k_proj.weight": state[name]}, "layers.2.k_proj.weight"),
        ("a tensor has another name", fewer | {"layers.1.k_projweight": state[name]}, name),
        ("a matrix is transposed", state | {name: np.ascontiguousarray(state[name].T)}, name),
        ("one row would fit by broadcasting", state | {name: state[name][:1]}, name),
        ("a tensor is float64", state | {name: state[name].astype(np.float64)}, name),
        ("one value is nan", state | {name: holed}, name),
        ("one value is infinite", state | {"norm.weight": endless}, "norm.weight"),
    ]  # fmt: skip


@number("5.11")
@weight(0.5)
@stands_alone
def test_a_refused_state_changes_nothing(student, rng):
    """Checksum, names, shapes, dtypes, nan: a WeightsError that says which; all as it was."""
    first, state = drawn_state(rng), drawn_state(rng)
    session = student.session(drivers.versions, sizes=SIZES, arrays=first, version="v1")
    taken = session.call("stage", version="v2", arrays=state, checksum=checksum_of(state))
    assert not taken["error"], f"a good state was refused: {taken['text']}"
    changed = {k: v.copy() for k, v in state.items()}
    changed["layers.0.up_proj.weight"][0, 0] *= 1.0001
    cases: list[tuple[str, dict, str, str, str]] = [
        (what, bad, "v3", checksum_of(bad), word) for what, bad, word in refused_states(state)
    ]
    cases += [
        ("one weight changed on the way", changed, "v3", checksum_of(state), checksum_of(changed)),
        ("no checksum", state, "v3", "", checksum_of(state)),
        ("the name of the active version", state, "v1", checksum_of(state), "v1"),
        ("the name of a staged version", first, "v2", checksum_of(first), "v2"),
    ]
    names = {"active": "v1", "previous": "", "versions": ["v1", "v2"]}
    for what, bad, version, checksum, word in cases:
        got = session.call("stage", version=version, arrays=bad, checksum=checksum)
        assert "WeightsError" in got["error"], f"{what}: a WeightsError is due, it was {got['error'][:1]}"
        assert word in got["text"], f"{what}: the message should name {word}; it says {got['text']!r}"
        assert_equal({key: got[key] for key in names}, names, name=f"the versions after: {what}")
    odd = session.call("stage", version="v3", arrays=state, checksum=checksum_of(state), odd="norm.weight")
    assert "WeightsError" in odd["error"], f"a list in place of a tensor: {odd['error'][:1]}"
    for version, wanted in (("v1", first), ("v2", state)):
        for name, values in session.call("arrays", version=version).items():
            assert_equal(values, wanted[name], name=f"{name} of {version} after refused states")
    taken = session.call("stage", version="v3", arrays=first, checksum=checksum_of(first))
    assert not taken["error"], f"a name that was refused before must be free: {taken['text']}"


@number("5.11")
@weight(0.75)
@stands_alone
def test_versions_come_and_go(student, rng):
    """250 calls at random beside a dict: pins, rollback, drop; what is in memory after each."""
    sizes = SIZES | {"num_layers": 1, "vocab_size": 5}
    states = [drawn_state(rng, sizes) for _ in range(4)]
    session = student.session(drivers.versions, sizes=sizes, arrays=states[0], version="v0")
    story, past = Story("v0"), ["v0"]
    weights = {"v0": states[0]}
    methods = ["acquire", "acquire", "release", "release", "activate", "rollback", "drop", "stage"]
    for turn in range(250):
        method = str(rng.choice(methods))
        name = str(rng.choice(past[-5:]))
        if method == "stage":
            name = name if rng.random() < 0.3 else f"v{len(past)}"
            state = states[int(rng.integers(4))]
            value, error = None, story.stage(name)
            got = session.call("stage", version=name, arrays=state, checksum=checksum_of(state))
            if not error:
                weights[name] = state
                past.append(name)
            asked = f"stage({name!r})"
        else:
            arguments = [] if method == "rollback" else [name]
            if method == "acquire" and rng.random() < 0.5:
                arguments = []
            value, error = story.call(method, arguments)
            got = session.call("call", what=method, arguments=arguments)
            asked = f"{method}({', '.join(map(repr, arguments))})"
        where = f"call {turn}, {asked},"
        assert bool(error) == bool(got["error"]) and (not error or error in got["error"]), (
            f"{where} should raise {error or 'nothing'}, it raised {(got['error'] or ['nothing'])[0]} "
            f"{got['text']}"
        )
        if not error:
            assert_equal(got["got"], value, name=f"what {where} gives")
        known = {"active": story.active, "previous": story.previous, "versions": list(story.versions)}
        assert_equal({key: got[key] for key in known}, known, name=f"the versions after {where}",
                     hint="a leaving version goes with the last request pinned to it, not before")  # fmt: skip
    ids = rng.integers(0, 5, 7).tolist()
    for version in story.versions:
        got = session.call("arrays", version=version)
        for name, values in weights[version].items():
            assert_close(got[name], values, rtol=0, atol=0, name=f"{name} of {version} at the end")
        shape = session.call("logits", version=version, ids=ids).shape
        assert shape == (7, 5), f"version {version!r} gives logits of shape {shape}"
