"""Every attack scores 0 on what it attacks, leaves nothing, and costs nobody else a point."""

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
from tests.attacks.homework import HIDDEN_VALUE, REFERENCE_SECRET, SECRET

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="grading is confined on Linux only"),
    # Without a uid or a filter of its own, an attack such as kill(-1) would reach this user's.
    pytest.mark.skipif(
        os.geteuid() != 0 and not (landlock.abi() and seccomp.available()),
        reason="an ordinary user needs Landlock and seccomp to run hostile code",
    ),
]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can take another uid")


@pytest.fixture(scope="module")
def arena(request):
    """The course under attack; all chosen attacks begin at once."""
    base = Path(tempfile.mkdtemp(prefix="attacks-"))
    arena = Arena(base)
    kept, tempfile.tempdir = tempfile.tempdir, str(arena.temporary)
    os.environ["TMPDIR"] = tempfile.tempdir
    os.environ["AUTOGRADER_TOKEN"] = SECRET
    chosen: dict[bool, dict[str, None]] = {True: {}, False: {}}
    for item in request.session.items:
        if item.module is request.module and hasattr(item, "callspec"):
            bare = item.originalname == "test_attack_would_get_further_without_the_layers"
            chosen[bare][item.callspec.params["name"]] = None
    arena.start(chosen[False])
    if os.geteuid() == 0:
        arena.start_bare(chosen[True])
    yield arena
    arena.finish()
    arena.pool.shutdown()
    tempfile.tempdir = kept
    del os.environ["TMPDIR"], os.environ["AUTOGRADER_TOKEN"]
    remove_tree(base)


@pytest.mark.parametrize("name", attacks())
def test_attack_scores_nothing(arena, name):
    attack, seen = attacks()[name], arena.seen(name)
    assert seen.points == 0, seen.public + seen.grading.graded.log
    assert not seen.fault, f"called a fault of the grader: {seen.public}\n{seen.hidden}"
    if "expects" in attack.tags:  # the attack ran, and ended as it must
        assert re.search(attack.tags["expects"], seen.public), seen.public
    if "attempts" in attack.tags:
        assert f"{attack.tags['attempts']} attempts\n" in seen.public, seen.public
        assert "DONE" not in seen.public, seen.public
    if "report" in attack.tags:
        assert re.search(attack.tags["report"], seen.public + seen.grading.page), seen.public


@pytest.mark.parametrize("name", attacks())
def test_attack_costs_nobody_else_a_point(arena, name):
    fight = arena.seen(name).grading
    assert fight.honest_points == 40, fight.graded.log
    assert fight.graded.score == 40
    assert not fight.graded.report.grader_fault, fight.graded.report.grader_fault


@pytest.mark.parametrize("name", attacks())
def test_attack_learns_and_shows_nothing_hidden(arena, name):
    seen = arena.seen(name)
    assert seen.grading.files == {"results.json", "report.html", "grader.log"}
    value = str(int(HIDDEN_VALUE))
    assert value not in seen.hidden
    for text in (str(seen.grading.results), seen.grading.page):
        assert SECRET not in text
        assert REFERENCE_SECRET not in text
        assert value not in text
        assert "\x1b" not in text and "\u202e" not in text
    assert not re.search(r"<(script>alert|img src=x|b onclick)", seen.grading.page)


@as_root
@pytest.mark.parametrize("name", [n for n in attacks() if "undefended" in attacks()[n].tags])
def test_attack_would_get_further_without_the_layers(arena, name):
    """With nothing but another uid the attack is a real one; it still earns and leaves nothing."""
    seen = arena.bare(name)
    assert re.search(attacks()[name].tags["undefended"], seen.public), seen.public
    assert seen.points == 0
    assert seen.grading.honest_points == 40
    assert SECRET not in str(seen.grading.results) + seen.grading.page


def test_nothing_is_left_behind(arena):
    arena.finish()
    assert arena.leftovers() == []
    assert stray_processes() == []
