"""Finding and removing what a worker left behind, from the trusted side.

What kill(-1) returns says nothing: it reports success even when every target was refused. So
processes are looked up in /proc, by uid and session, and killed until none is left. Reaping is the
zygote's: a killed process stays a zombie until then, and zombies are not counted as survivors.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

_PATIENCE = 0.02  # seconds of killing one by one
SHARED_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run/lock")


@dataclass(frozen=True)
class Task:
    """A live process: its number, parent, session, and its real, effective and saved uid."""

    pid: int
    parent: int
    session: int
    uids: frozenset[int]


def look_up(pid: int) -> Task | None:
    """The process `pid` as /proc has it; None if it is gone or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name is in brackets and may hold anything, brackets included.
            fields = file.read().rpartition(b")")[2].split()
        if fields[0] in b"ZX":
            return None
        with open(f"/proc/{pid}/status", "rb") as file:
            status = file.read()
    except (OSError, IndexError):
        return None
    line = status.partition(b"\nUid:")[2].partition(b"\n")[0]
    return Task(pid, int(fields[1]), int(fields[3]), frozenset(map(int, line.split())))


def all_pids() -> list[int]:
    """Every process number in /proc."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def children(pid: int) -> list[int] | None:
    """The child processes of all threads of `pid`; None where the kernel does not list them."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    except FileNotFoundError:
        return found if not os.path.exists(f"/proc/{pid}") else None
    except OSError:
        return found
    return found


def descendants(pid: int, spare: Collection[int] = ()) -> list[int] | None:
    """Everything below `pid`, leaving out the processes in `spare` and what is below them.

    Costs a few system calls per process found, however many others the machine runs. None where
    the kernel does not list children.
    """
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = children(waiting.pop())
        if below is None:
            return None
        fresh = [child for child in below if child not in spare]
        found += fresh
        waiting += fresh
    return found


def kill_everything(
    uid: int | None,
    session_ids: Iterable[int] = (),
    *,
    ancestor: int | None = None,
    spare: Collection[int] | None = None,
    seconds: float = 2.0,
) -> list[int]:
    """SIGKILL every process of `uid` and of the sessions, again until none is left.

    ancestor: a subreaper above all of them (the zygote): only its descendants are looked at, which
    is quick; without it all of /proc is. spare: never touched, nor what is below them.
    seconds: how long to go on. Returns the process numbers that survived: [] is success.

    Where `uid` is None, or is the caller's own, processes are known by their session. One that left
    its session is then found only below an `ancestor`, and if `spare` names all other workers
    (it may be empty): whatever else is there is a stray.
    """
    sessions = set(session_ids)
    if sys.platform != "linux":
        return _kill_groups(sessions)
    # The grader's own uid would match the grader itself.
    uid = None if uid in (0, os.getuid(), os.geteuid()) else uid
    start = time.monotonic()
    while True:
        left = _matching(uid, sessions, ancestor, spare)
        if not left:
            return []
        for pid in left:
            _kill(pid)
        elapsed = time.monotonic() - start
        if elapsed > seconds:
            return [pid for pid in left if look_up(pid) is not None]
        if elapsed > _PATIENCE and uid is not None and os.geteuid() == 0:
            _kill_as(uid)
        time.sleep(0.0005)


def _matching(
    uid: int | None, sessions: set[int], ancestor: int | None, spare: Collection[int] | None
) -> list[int]:
    below = descendants(ancestor, spare or ()) if ancestor is not None else None
    strays = uid is None and below is not None and spare is not None
    matching = []
    for pid in all_pids() if below is None else below:
        if pid in (spare or ()) or pid == os.getpid() or pid == ancestor:
            continue
        task = look_up(pid)
        if task is not None and (uid in task.uids or task.session in sessions or strays):
            matching.append(pid)
    return matching


def _kill_as(uid: int) -> None:
    """Signal all processes of `uid` at once, as that uid.

    A chain of forks whose parents exit outruns a walk through /proc. The kernel's own walk of
    kill(-1) excludes forks while it lasts. What it returns means nothing, and is not looked at.
    """
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            os.kill(-1, signal.SIGKILL)
        finally:
            os._exit(0)
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:  # the caller ignores SIGCHLD: it is reaped already
        pass


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def _kill_groups(groups: set[int]) -> list[int]:
    """Where there is no /proc: a worker leads its session, so its group has the same number."""
    survivors = []
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            continue
        except PermissionError:
            survivors.append(group)
    return survivors


def folder_usage(path: str, *, at_most: int = 100_000) -> tuple[int, int]:
    """(bytes on disk, entries) below `path`, links not followed; stops after `at_most` entries.

    RLIMIT_FSIZE bounds one file: how many there are is for the trusted side to watch.
    """
    total = entries = 0
    waiting = [path]
    while waiting and entries < at_most:
        try:
            with os.scandir(waiting.pop()) as listing:
                for entry in listing:
                    entries += 1
                    if entries >= at_most:
                        break
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError:
            continue
    return total, entries


def hand_over(folder: str | Path, uid: int, *, seal: bool = False) -> None:
    """As root, make `uid` the owner of `folder` and all below; with `seal`, set the usual modes.

    For what student code may have made: links are not followed, a file that has another name
    elsewhere is left alone, and no depth of folders exhausts the walk.
    """
    waiting = [str(folder)]
    while waiting:
        path = waiting.pop()
        with contextlib.suppress(OSError):
            status = os.lstat(path)
            is_folder = stat.S_ISDIR(status.st_mode)
            if not is_folder and status.st_nlink > 1:
                continue
            if os.geteuid() == 0:
                os.chown(path, uid, uid, follow_symlinks=False)
            if seal and not stat.S_ISLNK(status.st_mode):
                os.chmod(path, 0o755 if is_folder else 0o644)
            if is_folder:
                waiting += [entry.path for entry in os.scandir(path)]


def remove_tree(folder: str | Path) -> None:
    """Remove a folder that student code could write to, whatever it made there.

    Folders nested by the thousand exhaust Python's recursion and descriptors, not those of rm; its
    own uid's folders without rights (no root: the worker's uid is ours) are opened up first.
    """
    try:
        shutil.rmtree(folder)
    except (OSError, RecursionError):
        for command in (["chmod", "-R", "u+rwx"], ["rm", "-rf"]):
            subprocess.run([*command, "--", str(folder)], check=False, stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip


def remove_files_of(uid: int, folders: Iterable[str] = SHARED_FOLDERS) -> list[str]:
    """Remove what `uid` owns directly in folders that everyone may write to; the paths removed.

    For kernels without Landlock, which keeps workers out of them. Call it when the uid has no
    process left. Nothing is done for the caller's own uid, or for root.
    """
    if uid in (0, os.getuid(), os.geteuid()):
        return []
    removed = []
    for folder in folders:
        try:
            with os.scandir(folder) as listing:
                found = [e for e in listing if e.stat(follow_symlinks=False).st_uid == uid]
        except OSError:
            continue
        for entry in found:
            try:
                if entry.is_dir(follow_symlinks=False):
                    remove_tree(entry.path)  # never follows a link
                else:
                    os.unlink(entry.path)
            except OSError:
                continue
            removed.append(entry.path)
    return removed
