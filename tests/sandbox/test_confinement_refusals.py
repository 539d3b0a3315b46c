"""A worker that would be less confined than it must be does not start."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from autograder.sandbox import confinement, landlock
from autograder.sandbox.confinement import Confinement, ConfinementError
from autograder.sandbox.probe import ProbeLimits, in_child, refused

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the layers are Linux'"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning"),
]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can take another uid")
needs_landlock = pytest.mark.skipif(not landlock.abi(), reason="this kernel has no Landlock")
UID = 31994
NOBODY = 65534
LIMITS = ProbeLimits(memory_mb=1 << 20)  # out of the way of what the test process has mapped


@pytest.fixture
def stage():
    """A folder that any uid may cross, with a file of root's."""
    root = Path(tempfile.mkdtemp())
    root.chmod(0o755)
    (root / "closed").write_text("of the grader")
    yield root
    shutil.rmtree(root)


def test_an_ordinary_user_who_requires_a_uid_of_its_own_is_told_so():
    def body():
        if os.geteuid() == 0:
            os.setresuid(NOBODY, NOBODY, NOBODY)
        try:
            confinement.prepare(Confinement(LIMITS, required=frozenset({"uid"})))
        except ConfinementError as error:
            return str(error)
        return ""

    assert "uid: only root can take another uid" in str(in_child(body))


@as_root
def test_a_root_zygote_never_runs_a_worker_as_root(stage):
    prepared = confinement.prepare(Confinement(LIMITS))
    with pytest.raises(ConfinementError, match="uid of its own"):
        confinement.apply(prepared, work=str(stage))
    for uid, gid in ((0, None), (UID, 0)):
        answer = in_child(lambda: confinement.apply(prepared, uid=uid, gid=gid))  # noqa: B023
        assert answer == "ConfinementError: a worker may not be root"
    prepared.close()


@as_root
def test_supplementary_groups_are_given_up(stage):
    (stage / "closed").chmod(0o640)
    os.chown(stage / "closed", 0, 4242)
    prepared = confinement.prepare(Confinement(LIMITS, landlock=False))

    def body():
        os.setgroups([4242])
        confinement.apply(prepared, uid=UID)
        return [os.getgroups(), refused((stage / "closed").read_text)]

    assert in_child(body) == [[], True]
    prepared.close()


@as_root
def test_a_uid_that_cannot_be_taken_stops_the_worker(stage, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "not permitted")

    monkeypatch.setattr(os, "setresuid", refuse)
    prepared = confinement.prepare(Confinement(LIMITS))
    answer = in_child(lambda: confinement.apply(prepared, uid=UID))
    assert str(answer).startswith("ConfinementError") and "not permitted" in str(answer)
    prepared.close()


def test_a_required_layer_that_fails_stops_the_worker(monkeypatch):
    def refuse(*_):
        raise OSError(1, "not permitted")

    monkeypatch.setattr(confinement, "_new_session", refuse)
    settings = Confinement(LIMITS, drop_uid=False, required=frozenset({"session"}))
    prepared = confinement.prepare(settings)
    answer = in_child(lambda: confinement.apply(prepared))
    assert str(answer).startswith("ConfinementError") and "session: failed" in str(answer)
    prepared.close()


@needs_landlock
def test_no_rule_may_reach_what_must_stay_hidden(stage):
    inside, linked = stage / "public/hidden", stage / "link"
    inside.mkdir(parents=True)
    linked.symlink_to(inside)
    for allowed in (stage, stage / "public", inside, linked, inside / "deeper"):
        with pytest.raises(ConfinementError, match="hidden"):
            (inside / "deeper").mkdir(exist_ok=True)
            confinement.prepare(Confinement(LIMITS, reads=(str(allowed),), never=(str(inside),)))
    (stage / "hidden-not").mkdir()
    reads, never = (str(stage / "hidden-not"),), (str(stage / "hidden"),)
    confinement.prepare(Confinement(LIMITS, reads=reads, never=never)).close()
