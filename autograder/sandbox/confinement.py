"""Layers of confinement for one worker: prepared in the trusted parent, applied after the fork.

`prepare` runs once in the zygote and does whatever can be done ahead: it opens the readable paths,
assembles the system-call filter, and works out the limits. `apply` runs in each forked worker
before any student code, in the one order that works (what each step needs is said beside it), and
reports what became of every layer. A layer that the caller requires and that fails raises; so does
a root process that was told to drop its uid and cannot: the worker must then not start.

On macOS only the session, the limits that exist there and the environment apply.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from autograder.sandbox import landlock, seccomp, syscalls
from autograder.sandbox.paths import (
    DEVICE_WRITES,
    PROC_READS,
    SYSTEM_READS,
    blocking_parent,  # noqa: F401  handed on
    interpreter_reads,
    outermost,
    reaches,
    readable_by_others,  # noqa: F401
)
from autograder.sandbox.processes import kill_everything  # noqa: F401

__all__ = [
    *("LAYERS", "Confinement", "ConfinementError", "LimitsLike", "Prepared"),
    *("apply", "blocking_parent", "clean_environment", "interpreter_reads", "kill_everything"),
    *("prepare", "readable_by_others"),
]

LAYERS = (
    *("session", "environment", "oom_score", "uid", "parent_death"),
    *("no_new_privs", "landlock", "rlimits", "seccomp"),
)
MEBIBYTE = 1 << 20
THREADS = 256  # tasks of one uid, threads included: room for a thread pool, not for a bomb

class ConfinementError(RuntimeError):
    """A layer that must hold does not: the worker may not start."""


class LimitsLike(Protocol):
    """What is read of `autograder.course.assignment.Limits`."""

    @property
    def cpu_seconds(self) -> int: ...
    @property
    def memory_mb(self) -> int: ...
    @property
    def processes(self) -> int: ...
    @property
    def open_files(self) -> int: ...
    @property
    def file_mb(self) -> int: ...


@dataclass(frozen=True)
class Confinement:
    """What all workers of a zygote have in common.

    limits: seconds, MiB and counts, see `Limits`; processes > 0 also lets workers fork and exec.
    reads, lists, writes: paths beyond the system's that may be read, listed, written (Landlock).
    never: paths that no rule may reach, such as the hidden tests; checked by `prepare`.
    drop_uid: take a throwaway uid, where the zygote is root.
    required: names of LAYERS that must hold; "uid" is always required of root with drop_uid.
    """

    limits: LimitsLike
    reads: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    drop_uid: bool = True
    landlock: bool = True
    seccomp: bool = True
    allow_loopback: bool = False
    required: frozenset[str] = frozenset()
    umask: int = 0o077


@dataclass
class Prepared:
    """What `prepare` made and `apply` uses. Holds open descriptors: `close` it when done."""

    confinement: Confinement
    drops_uid: bool
    rlimits: list[tuple[str, int, int, int]]  # name, resource, soft, hard
    rules: landlock.RuleTable | None
    program: seccomp.Program | None
    parent: int
    absent: dict[str, str] = field(default_factory=dict)

    def close(self) -> None:
        """Close the descriptors of the prepared paths."""
        if self.rules is not None:
            self.rules.close()


def clean_environment(work: str, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The whole environment of a worker whose private folder is `work`; `extra` is added last.

    A zygote must itself be started (exec'd) with a clean environment: the strings it was started
    with stay in its memory, and so in its children's.
    """
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": work,
        "TMPDIR": work,
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "NUMBA_THREADING_LAYER": "workqueue",
    }
    return {**environment, **(extra or {})}


def prepare(confinement: Confinement) -> Prepared:
    """Do ahead of the fork whatever a worker's confinement allows to be done ahead.

    Raises ConfinementError when a readable path reaches into `never`, and OSError when one of the
    caller's own paths does not exist.
    """
    root = os.geteuid() == 0
    absent: dict[str, str] = {}
    drops = confinement.drop_uid and root and sys.platform != "win32"
    if not drops:
        absent["uid"] = "asked not to" if root else "only root can take another uid"
    rules = None
    if not confinement.landlock:
        absent["landlock"] = "asked not to"
    elif not landlock.abi():
        absent["landlock"] = "this kernel has none"
    else:
        rules = _rules(confinement)
    program = None
    if not confinement.seccomp:
        absent["seccomp"] = "asked not to"
    elif not seccomp.available():
        absent["seccomp"] = "this kernel or machine has none"
    else:
        program = seccomp.build(
            allow_processes=confinement.limits.processes > 0,
            allow_loopback=confinement.allow_loopback,
        )
    if not syscalls.LINUX:
        for layer in ("oom_score", "parent_death", "no_new_privs"):
            absent[layer] = "needs Linux"
    missing = sorted(layer for layer in confinement.required if layer in absent)
    if missing:
        reasons = "; ".join(f"{layer}: {absent[layer]}" for layer in missing)
        raise ConfinementError(f"required confinement is not available ({reasons})")
    limits = _rlimits(confinement.limits, per_uid=drops)
    return Prepared(confinement, drops, limits, rules, program, os.getpid(), absent)


def _rules(confinement: Confinement) -> landlock.RuleTable:
    processes = confinement.limits.processes > 0
    system = [path for path in SYSTEM_READS if os.path.exists(path)]
    # A worker that starts others reads /proc/self as them too; a rule knows one process's only.
    system += ["/proc"] if processes else [path for path in PROC_READS if os.path.exists(path)]
    reads = [*system, *interpreter_reads(), *confinement.reads]
    writes = [*DEVICE_WRITES, *confinement.writes]
    for path in (*reads, *writes):
        for forbidden in confinement.never:
            if reaches(path, forbidden):
                raise ConfinementError(f"allowing {path} would open {forbidden} to student code")
    return landlock.RuleTable(
        outermost(reads),
        confinement.lists,
        writes,
        execute=processes,
        special_files=processes,
        tcp=confinement.allow_loopback,
    )


def _rlimits(limits: LimitsLike, per_uid: bool) -> list[tuple[str, int, int, int]]:
    """The limits as (name, resource, soft, hard), none above the hard limit in force."""
    memory = limits.memory_mb * MEBIBYTE
    stack = min(64 * MEBIBYTE, memory)
    wanted = [
        ("core", "RLIMIT_CORE", 0, 0),
        # SIGXCPU at the soft limit can be ignored; SIGKILL at the hard one can't.
        ("cpu", "RLIMIT_CPU", limits.cpu_seconds, limits.cpu_seconds + 1),
        ("file size", "RLIMIT_FSIZE", limits.file_mb * MEBIBYTE, limits.file_mb * MEBIBYTE),
        ("open files", "RLIMIT_NOFILE", limits.open_files, limits.open_files),
        ("stack", "RLIMIT_STACK", stack, stack),
        ("locked memory", "RLIMIT_MEMLOCK", 8 * MEBIBYTE, 8 * MEBIBYTE),
        ("queues", "RLIMIT_MSGQUEUE", 0, 0),
        ("real-time priority", "RLIMIT_RTPRIO", 0, 0),
        ("memory", "RLIMIT_AS", memory, memory),
    ]
    if per_uid:
        # Counts every task of the uid: on a shared uid it would count the user's own programs.
        tasks = THREADS + limits.processes
        wanted.append(("processes", "RLIMIT_NPROC", tasks, tasks))
    prepared = []
    for name, constant, soft, hard in wanted:
        number = getattr(resource, constant, None)
        if number is None:
            continue
        ceiling = resource.getrlimit(number)[1]
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)
        prepared.append((name, number, soft, hard))
    return prepared


def apply(
    prepared: Prepared,
    *,
    work: str | None = None,
    uid: int | None = None,
    gid: int | None = None,
    reads: Sequence[str] = (),
    writes: Sequence[str] = (),
    keep_fds: Iterable[int] | None = None,
    environment: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Confine the calling process, a fresh single-threaded fork; it cannot be undone.

    work: its private folder, owned by `uid`: writable, HOME and the current folder.
    uid, gid: the throwaway identity (gid defaults to uid); needed where the zygote drops uids.
    reads, writes: further paths of this worker alone.
    keep_fds: close every other descriptor above 2. None closes nothing but the prepared ones.
    environment: replaces os.environ, see `clean_environment`.
    Returns layer -> "ok", "absent: reason" or "failed: reason". Raises ConfinementError when a
    required layer does not hold; the caller must then exit at once.
    """
    report = {layer: f"absent: {reason}" for layer, reason in prepared.absent.items()}
    if prepared.drops_uid and uid is None:
        raise ConfinementError("a worker of a root zygote needs a uid of its own")
    if keep_fds is not None:
        held = prepared.rules.descriptors if prepared.rules is not None else []
        syscalls.close_all_but({*keep_fds, *held})
    os.umask(prepared.confinement.umask)
    _attempt(report, "session", _new_session)
    if environment is not None:
        _attempt(report, "environment", lambda: _replace_environment(environment))
    # While /proc/self still belongs to this process: after the change of uid it is root's.
    _attempt(report, "oom_score", _volunteer_for_the_oom_killer)
    if prepared.drops_uid and uid is not None:
        identity = uid, uid if gid is None else gid
        _attempt(report, "uid", lambda: _become(*identity))
    # After the change of uid, which clears it.
    _attempt(report, "parent_death", lambda: _die_with(prepared.parent))
    _attempt(report, "no_new_privs", lambda: syscalls.control(syscalls.PR_SET_NO_NEW_PRIVS, 1))
    if work is not None:
        os.chdir(work)
    if prepared.rules is not None:
        own = [*writes] if work is None else [work, *writes]
        _attempt(report, "landlock", lambda: _restrict_files(prepared, reads, own))
    # After the steps that open files: the prepared descriptors may fill the numbers it allows.
    _attempt(report, "rlimits", lambda: _limit(prepared.rlimits))
    # Last: it refuses calls that the steps above make.
    if prepared.program is not None:
        program = prepared.program
        _attempt(report, "seccomp", lambda: program.install(os.getpid()))
    _insist(prepared, report)
    return report


def _attempt(report: dict[str, str], layer: str, step: Callable[[], object]) -> None:
    if layer in report:
        return
    try:
        step()
    except (OSError, ValueError) as error:
        report[layer] = f"failed: {error}"
    else:
        report[layer] = "ok"


def _insist(prepared: Prepared, report: dict[str, str]) -> None:
    required = set(prepared.confinement.required)
    if prepared.drops_uid:
        required.add("uid")
    broken = [f"{layer}: {report.get(layer, 'not applied')}" for layer in sorted(required)
              if report.get(layer) != "ok"]
    if broken:
        raise ConfinementError("required confinement does not hold (" + "; ".join(broken) + ")")


def _new_session() -> None:
    if os.getsid(0) != os.getpid():
        os.setsid()


def _replace_environment(environment: Mapping[str, str]) -> None:
    # Only what differs: each change walks libc's list, and a clean zygote leaves few to make.
    for name in [name for name in os.environ if name not in environment]:
        del os.environ[name]
    for name, value in environment.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
    tempfile = sys.modules.get("tempfile")
    if tempfile is not None:
        tempfile.tempdir = None  # it remembers the zygote's TMPDIR


def _volunteer_for_the_oom_killer() -> None:
    descriptor = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, b"1000")
    finally:
        os.close(descriptor)


def _limit(rlimits: list[tuple[str, int, int, int]]) -> None:
    refused = []
    for name, number, soft, hard in rlimits:
        try:
            resource.setrlimit(number, (soft, hard))
        except (OSError, ValueError):
            refused.append(name)  # macOS has no limit on address space, say
    if refused:
        raise OSError(f"no limit on {', '.join(refused)}")


def _become(uid: int, gid: int) -> None:
    """Take the identity for good: real, effective and saved, and no supplementary group."""
    if uid == 0 or gid == 0:
        raise ConfinementError("a worker may not be root")
    os.setgroups([])
    if hasattr(os, "setresuid"):
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    else:
        os.setgid(gid)
        os.setuid(uid)
    if os.getuid() != uid or os.geteuid() != uid or os.getgroups():
        raise ConfinementError("the kernel did not change the identity")
    try:
        os.setuid(0)
    except OSError:
        return
    raise ConfinementError("the worker could become root again")


def _die_with(parent: int) -> None:
    syscalls.control(syscalls.PR_SET_PDEATHSIG, 9)
    # Not forked, but become a worker itself: then any parent will do.
    if parent not in (os.getppid(), os.getpid()):
        os._exit(1)  # it died before the request: no signal will come


def _restrict_files(prepared: Prepared, reads: Sequence[str], writes: Sequence[str]) -> None:
    assert prepared.rules is not None
    own = [*reads]
    if prepared.confinement.limits.processes == 0:
        # Its own folder of /proc and nobody else's command line. The descriptor stays open: a rule
        # holds for the folder's inode, and the kernel may forget an unused one and make a new one.
        os.open("/proc/self", os.O_PATH | os.O_CLOEXEC)
        own.append("/proc/self")
    prepared.rules.restrict(own, writes)
    prepared.rules.close()
