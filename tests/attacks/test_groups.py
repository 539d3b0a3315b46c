"""Attacks by groups of ranks: each scores 0, leaves nothing, and costs nobody else a point."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

import pytest

from autograder.sandbox import landlock, seccomp
from autograder.sandbox.processes import remove_tree
from tests.attacks.arena import Arena, attacks, stray_processes
from tests.attacks.group_homework import make_group_homework
from tests.attacks.homework import HIDDEN_VALUE, REFERENCE_SECRET, SECRET

ATTACKS = attacks("groups")
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="grading is confined on Linux only"),
    pytest.mark.skipif(
        os.geteuid() != 0 and not (landlock.abi() and seccomp.available()),
        reason="an ordinary user needs Landlock and seccomp to run hostile code",
    ),
]


@pytest.fixture(scope="module")
def arena(request):
    """The course under attack; all chosen attacks begin at once."""
    base = Path(tempfile.mkdtemp(prefix="attacks-"))
    arena = Arena(base, make_group_homework, "groups")
    kept, tempfile.tempdir = tempfile.tempdir, str(arena.temporary)
    os.environ["TMPDIR"] = tempfile.tempdir
    chosen = {item.callspec.params["name"] for item in request.session.items
              if item.module is request.module and hasattr(item, "callspec")}  # fmt: skip
    arena.start(sorted(chosen))
    yield arena
    arena.finish()
    arena.pool.shutdown()
    tempfile.tempdir = kept
    del os.environ["TMPDIR"]
    remove_tree(base)


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_scores_nothing(arena, name):
    attack, seen = ATTACKS[name], arena.seen(name)
    assert seen.points == 0, seen.public + seen.grading.graded.log
    assert not seen.fault, f"called a fault of the grader: {seen.public}\n{seen.hidden}"
    if "expects" in attack.tags:
        assert re.search(attack.tags["expects"], seen.public), seen.public
    if "attempts" in attack.tags:
        assert f"{attack.tags['attempts']} attempts\n" in seen.public, seen.public
        assert "DONE" not in seen.public, seen.public


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_costs_nobody_else_and_shows_nothing(arena, name):
    seen = arena.seen(name)
    fight = seen.grading
    assert fight.honest_points == fight.graded.score == 40, fight.graded.log
    assert not fight.graded.report.grader_fault, fight.graded.report.grader_fault
    assert len(fight.graded.log) < 500_000
    value = str(int(HIDDEN_VALUE))
    for text in (str(fight.results), fight.page):
        assert SECRET not in text and REFERENCE_SECRET not in text and value not in text
        assert "\x1b" not in text
    assert "<script>alert" not in fight.page


def test_nothing_is_left_behind(arena):
    arena.finish()
    assert arena.leftovers() == []
    assert stray_processes() == []
