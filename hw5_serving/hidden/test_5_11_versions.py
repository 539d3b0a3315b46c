"""Task 5.11, hidden: a version's memory is its own, and is let go with its last request."""

from __future__ import annotations

import drivers_versions as drivers
from gradescope_utils.autograder_utils.decorators import number, weight
from versions_cases import SIZES, checksum_of, drawn_state

from autograder.testing import Measure, assert_equal, stands_alone


@number("5.11")
@weight(0.5)
@stands_alone
def test_a_staged_version_is_nobody_elses(student, rng):
    """What the caller does with the tensors afterwards, or another version with its own, is nothing."""
    first, second, third = drawn_state(rng), drawn_state(rng), drawn_state(rng)
    session = student.session(drivers.versions, sizes=SIZES, arrays=first, version="v1")
    ids = rng.integers(0, SIZES["vocab_size"], 9).tolist()
    for version, state in (("v2", second), ("v3", third)):
        got = session.call("stage", version=version, arrays=state, checksum=checksum_of(state))
        assert not got["error"], f"a good state was refused: {got['text']}"
        said = session.call("logits", version=version, ids=ids)
        session.call("spoil")
        assert_equal(session.call("logits", version=version, ids=ids), said,
                     name=f"logits of {version} after the caller wrote over its tensors",
                     hint="stage copies")  # fmt: skip
    for what, arguments in (("activate", ["v2"]), ("activate", ["v3"]), ("rollback", [])):
        got = session.call("call", what=what, arguments=arguments)
        assert not got["error"], f"{what} raised {got['error'][:1]}: {got['text']}"
        for version, state in (("v1", first), ("v2", second), ("v3", third)):
            if version in got["versions"]:
                for name, values in session.call("arrays", version=version).items():
                    assert_equal(values, state[name], name=f"{name} of {version} after {what}")


@number("5.11")
@weight(0.5)
@stands_alone
def test_old_versions_are_let_go(student, rng):
    """Eight swaps of 36 MB, each pinned until the next but one: old ones leave memory."""
    # Beyond 32 MB glibc gives every tensor pages of its own, and takes them back at once.
    rows, width, swaps = 70_400 + int(rng.integers(100)), 128, 8
    student.run(drivers.swapped_often, rows=64, width=16, swaps=2)  # pages of libraries
    memory = student.memory(drivers.swapped_often, rows=rows, width=width, swaps=swaps)
    one = rows * width * 4
    assert_equal(memory.value, 2, name="versions in memory after the last swap: active and previous")
    more = memory.peak_bytes - memory.baseline_bytes
    student.measure(
        Measure(name="memory of 8 swaps", value=more / one, unit=" versions", note="at most 8.25",
                met=more <= 8.25 * one)
    )  # fmt: skip
    # Three versions, the state that comes and what isfinite takes are 6; all nine, and those, 11.
    assert more <= 8.25 * one, (
        f"{more / 1e6:.0f} MB at the peak for versions of {one / 1e6:.0f} MB: who keeps the old ones?"
    )
