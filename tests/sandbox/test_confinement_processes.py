"""Killing what a worker left, and who can read a path."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest

from autograder.sandbox import confinement, processes, syscalls
from autograder.sandbox.confinement import blocking_parent, readable_by_others
from autograder.sandbox.probe import in_child

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="looks in /proc"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning"),
]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can take another uid")
UID = 31996


def start(body, uid=None) -> int:
    """Fork a child in its own session that says it is up, runs `body` and sleeps."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            if uid is not None:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            body()
            os.write(writer, b"1")
            time.sleep(60)
        finally:
            os._exit(0)
    os.close(writer)
    os.read(reader, 1)
    os.close(reader)
    return pid


def daemon() -> None:
    """A grandchild in a session of its own, whose parent is gone."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        if os.fork() == 0:
            os.setsid()
            os.write(writer, b"1")
            time.sleep(60)
        os._exit(0)
    os.wait()
    os.read(reader, 1)


def live(uid=None, pids=()) -> list[int]:
    tasks = [processes.look_up(pid) for pid in (pids or processes.all_pids())]
    return [task.pid for task in tasks if task and (uid is None or uid in task.uids)]


@as_root
@pytest.mark.parametrize("below", [True, False], ids=["below an ancestor", "in all of /proc"])
def test_a_daemon_is_killed_by_its_uid(below):
    def zygote():
        syscalls.become_subreaper()
        worker = start(daemon, UID)
        before = len(live(UID))
        survivors = confinement.kill_everything(
            UID, [worker], ancestor=os.getpid() if below else None
        )
        return [before, survivors, live(UID)]

    assert in_child(zygote) == [2, [], []]


@as_root
def test_processes_of_other_uids_and_sessions_are_left_alone():
    bystander = start(lambda: None, UID + 1)
    target = start(lambda: None, UID)
    assert confinement.kill_everything(UID, [target]) == []
    assert live(pids=[bystander]) == [bystander] and live(pids=[target]) == []
    confinement.kill_everything(UID + 1)
    for pid in (bystander, target):
        os.waitpid(pid, 0)


@as_root
@pytest.mark.parametrize("one_by_one", [True, False], ids=["both ways", "all at once only"])
def test_a_chain_of_forks_that_outruns_a_walk_is_ended(one_by_one, monkeypatch):
    if not one_by_one:
        monkeypatch.setattr(processes, "_kill", lambda pid: None)

    def chain():
        for _ in range(4):
            if os.fork() == 0:
                while True:  # each link lives for one fork only
                    if os.fork() != 0:
                        os._exit(0)

    def zygote():
        syscalls.become_subreaper()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # reaps the links
        worker = start(chain, UID)
        survivors = confinement.kill_everything(UID, [worker], ancestor=os.getpid(), seconds=10)
        return [survivors, live(UID)]

    try:
        assert in_child(zygote, seconds=30) == [[], []]
    finally:
        assert confinement.kill_everything(UID, seconds=5) == []


def test_without_a_uid_a_stray_is_found_below_the_ancestor_and_spared_ones_are_not():
    def zygote():
        syscalls.become_subreaper()
        other = start(lambda: None)
        worker = start(daemon)
        me = os.getpid()
        by_session = confinement.kill_everything(None, [worker], ancestor=me)
        stray = [pid for pid in processes.descendants(me) if live(pids=[pid]) and pid != other]
        survivors = confinement.kill_everything(None, [worker], ancestor=me, spare=[other])
        found = [by_session, len(stray), survivors, live(pids=stray), live(pids=[other]) == [other]]
        os.kill(other, signal.SIGKILL)
        return found

    assert in_child(zygote) == [[], 1, [], [], True]


def test_the_graders_own_uid_is_never_a_reason_to_kill():
    child = start(lambda: None)
    for uid in (os.getuid(), 0):
        assert confinement.kill_everything(uid) == []
    assert live(pids=[child]) == [child]
    assert confinement.kill_everything(os.getuid(), [child]) == []
    os.waitpid(child, 0)
    assert live(pids=[child]) == []


@as_root
def test_what_cannot_be_killed_in_time_is_reported(monkeypatch):
    monkeypatch.setattr(processes, "_kill", lambda pid: None)
    monkeypatch.setattr(processes, "_kill_as", lambda uid: None)
    child = start(lambda: None, UID)
    assert confinement.kill_everything(UID, seconds=0.05) == [child]
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_names_with_brackets_do_not_confuse_the_look_up():
    def rename():
        Path("/proc/self/comm").write_text(") Z 1 1 1 (x")

    child = start(rename)
    task = processes.look_up(child)
    assert task is not None and task.parent == os.getpid() and task.session == child
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


@pytest.fixture
def open_folder():
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_a_closed_parent_blocks_others_even_from_an_open_file(open_folder):
    (open_folder / "a/b").mkdir(parents=True)
    file = open_folder / "a/b/file"
    file.write_text("x")
    for path in (open_folder / "a", open_folder / "a/b"):
        path.chmod(0o755)
    file.chmod(0o644)
    assert readable_by_others(file) and readable_by_others(open_folder / "a/b")
    assert blocking_parent(file, execute=True) == file
    (open_folder / "a").chmod(0o700)
    assert not readable_by_others(file)
    assert blocking_parent(file) == open_folder / "a"
    link = open_folder / "link"
    link.symlink_to(file)
    assert blocking_parent(link) == open_folder / "a"
    (open_folder / "a").chmod(0o711)
    assert readable_by_others(link) and not readable_by_others(open_folder / "a")
    file.chmod(0o640)
    assert blocking_parent(file) == file
    assert not readable_by_others(open_folder / "absent")


def test_usage_counts_blocks_and_entries_and_follows_no_link(open_folder):
    (open_folder / "sub").mkdir()
    (open_folder / "sub/file").write_bytes(bytes(1 << 20))
    with open(open_folder / "sparse", "wb") as sparse:
        sparse.truncate(1 << 30)
    (open_folder / "link").symlink_to("/usr")
    used, entries = processes.folder_usage(str(open_folder))
    assert entries == 4 and 1 << 20 <= used < 2 << 20
    assert processes.folder_usage(str(open_folder), at_most=2)[1] == 2


@as_root
def test_files_left_in_a_shared_folder_are_removed_by_owner_and_links_are_not_followed(open_folder):
    shared, elsewhere = open_folder / "shared", open_folder / "elsewhere"
    shared.mkdir(mode=0o777)
    (elsewhere / "below").mkdir(parents=True)
    (shared / "left/below").mkdir(parents=True)
    (shared / "left/below/file").write_text("x")
    (shared / "link").symlink_to(elsewhere)
    (shared / "other").write_text("of somebody else")
    for path in (shared / "left", shared / "link"):
        os.chown(path, UID, UID, follow_symlinks=False)
    removed = processes.remove_files_of(UID, [str(shared), str(open_folder / "absent")])
    assert sorted(removed) == [str(shared / "left"), str(shared / "link")]
    assert os.listdir(shared) == ["other"] and (elsewhere / "below").is_dir()
    assert processes.remove_files_of(0, [str(shared)]) == []
    assert os.listdir(shared) == ["other"]
