"""Each bug is reported as what it is, with the right lines, by every compiler at every level."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from run_bugs import SOURCE, names  # noqa: E402

COMPILERS = [name for name in ("g++", "clang++") if shutil.which(name)]
# Those that end the launch; the others are reported and it goes on.
FATAL = {
    "one_past", "shared_overflow", "inner_index", "local_index", "half_warp_shuffle", "reads_host",
    "misaligned", "null_pointer", "freed", "anothers_variable", "writes_constant", "host_access",
    "waits_for_ever", "too_many_threads", "stops", "divides", "uses_much_stack", "two_shuffles_of_a_line",
}  # fmt: skip
# The optimiser may attribute the overflow to any line of the recursion.
ANY_LINE = {"uses_much_stack"}


def marks() -> dict[str, tuple[int, str, int | None]]:
    """kernel -> (line to be named, kind, the other line)."""
    lines = SOURCE.read_text().splitlines()
    here, other = {}, {}
    for number, text in enumerate(lines, 1):
        if found := re.search(r"// HERE (\w+) (.+)$", text):
            here[found[1]] = (number, found[2])
        if found := re.search(r"// AND (\w+)$", text):
            other[found[1]] = number
    return {name: (*place, other.get(name)) for name, place in here.items()}


@pytest.fixture(scope="module", params=[(c, o) for c in COMPILERS for o in ("-O1", "-O2", "-O3")],
                ids=lambda pair: f"{pair[0]}{pair[1]}")  # fmt: skip
def reported(request):
    """What is found in each kernel, with one compiler at one level."""
    done = subprocess.run(
        [sys.executable, str(HERE / "run_bugs.py"), *request.param],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", names())
def test_a_bug_is_reported_with_its_lines(reported, name):
    """The kind, the line and for a race the other line are those marked in the source."""
    line, kind, other = marks()[name]
    found = reported[name]["diagnostics"]
    matching = [entry for entry in found if entry["kind"] == kind]
    assert matching, f"no {kind!r} among {found}"
    if name not in ANY_LINE:
        pairs = [{entry["line"], entry["other_line"] or entry["line"]} for entry in matching]
        expected = {line, other or line}
        assert expected in pairs or (other is None and {line} in pairs), (pairs, expected)
    assert bool(reported[name]["error"]) == (name in FATAL)
    assert all(entry["message"] for entry in found)


@pytest.mark.parametrize("name", names())
def test_nothing_else_is_reported(reported, name):
    """A kernel with one bug gets diagnostics of one kind."""
    kinds = {entry["kind"] for entry in reported[name]["diagnostics"]}
    if name in ("missing_barrier", "first_barrier_missing"):  # the first threads to read come before the last have written
        kinds.discard("uninitialised")
    assert kinds == {marks()[name][1]}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing_wait", "its own asynchronous copy of line {} was not waited for"),
        ("wait_without_commit", "thread (63)'s asynchronous copy of line {} was not committed"),
    ],
)
def test_a_copy_that_was_not_waited_for_is_named(reported, name, words):
    """Not only that nobody has written what is read: which copy has not arrived, and why."""
    first = reported[name]["diagnostics"][0]
    assert words.format(marks()[name][2]) in first["message"]


@pytest.mark.parametrize("name", ["second_barrier_missing", "called_twice"])
def test_a_barrier_between_two_turns_is_asked_for(reported, name):
    """Where a barrier orders the two lines in one turn, the one behind them is missing."""
    here, _, other = marks()[name]
    upper, lower = sorted((here, other))
    for found in reported[name]["diagnostics"]:
        words = f"the barrier in line {upper + 1} stands between them in one turn, and another one is "
        assert words in found["message"]
        assert f"missing behind line {lower}, before line {upper} comes again" in found["message"]


@pytest.mark.parametrize("name", ["missing_barrier", "first_barrier_missing", "no_syncwarp"])
def test_a_barrier_within_a_turn_is_asked_for(reported, name):
    """No thread is ahead: a barrier is missing between the two lines."""
    races = [one for one in reported[name]["diagnostics"] if one["kind"] == "race"]
    assert races and all("must stand between them" in one["message"] for one in races)
    assert not any("turn" in one["message"] for one in races)


def test_a_lost_update_asks_for_an_atomic(reported):
    """No barrier can stand within one line; where the places differ, one must."""
    for name in ("plain_add", "plain_add_by_blocks"):
        for found in reported[name]["diagnostics"]:
            assert "+= by many threads is atomicAdd" in found["message"]
            assert "must stand between" not in found["message"]
    others = [found for name in reported if not name.startswith("plain_add")
              for found in reported[name]["diagnostics"]]  # fmt: skip
    assert not any("atomicAdd, or" in found["message"] for found in others)


def test_blocks_that_write_what_others_read_name_the_launch(reported):
    """Unless atomics are there to order them."""
    lines = SOURCE.read_text().splitlines()
    launch = next(n for n, text in enumerate(lines, 1) if "overwrites_inputs<<<" in text)
    for found in reported["overwrites_inputs"]["diagnostics"]:
        assert f"the launch in bugs.cu:{launch} write what it reads" in found["message"]
    for found in reported["last_block_without_fence"]["diagnostics"]:
        assert "the same memory" not in found["message"]
