"""All layers together, each alone, and what is left of them without root."""

from __future__ import annotations

import itertools
import os
import resource
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from autograder.sandbox import confinement, landlock, seccomp, syscalls
from autograder.sandbox.confinement import Confinement
from autograder.sandbox.probe import ProbeLimits, in_child, refused

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the layers are Linux'"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning"),
]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can take another uid")
needs_landlock = pytest.mark.skipif(not landlock.abi(), reason="this kernel has no Landlock")
needs_seccomp = pytest.mark.skipif(not seccomp.available(), reason="no system-call filters here")
UID = 31997
NOBODY = 65534


def limits(**changes) -> ProbeLimits:
    """Limits with room for whatever the test process has mapped already."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    mapped = pages * os.sysconf("SC_PAGE_SIZE") >> 20
    return replace(ProbeLimits(memory_mb=mapped + 2048), **changes)


@pytest.fixture
def stage():
    """A folder that any uid may cross: a private folder, an open secret, a closed secret."""
    root = Path(tempfile.mkdtemp())
    root.chmod(0o755)
    (root / "work").mkdir(mode=0o700)
    (root / "open").write_text("open to all users")
    (root / "open").chmod(0o644)
    (root / "closed").write_text("of the grader")
    (root / "closed").chmod(0o600)
    if os.geteuid() == 0:
        os.chown(root / "work", UID, UID)
    yield root
    shutil.rmtree(root)


def confined(stage, body, settings=None, **options):
    """The answer of body(report) in a confined child."""
    prepared = confinement.prepare(settings or Confinement(limits()))

    def run():
        uid = UID if prepared.drops_uid else None
        return body(confinement.apply(prepared, work=str(stage / "work"), uid=uid, **options))

    try:
        return in_child(run)
    finally:
        prepared.close()


def attempts(stage) -> dict[str, bool]:
    """What is refused, of what a submission may try."""
    parent = os.getppid()
    return {
        "open": refused((stage / "open").read_text),
        "closed": refused((stage / "closed").read_text),
        "write": refused(lambda: (stage / "new").write_text("x")),
        "inet": refused(lambda: socket.socket(socket.AF_INET)),
        "fork": refused(leave),
        "signal": refused(lambda: os.kill(parent, 0)),
        "memory": refused(Path(f"/proc/{parent}/mem").open),
        "environment": refused(Path(f"/proc/{parent}/environ").read_bytes),
        "command line": refused(Path(f"/proc/{parent}/cmdline").read_bytes),
    }


def leave() -> None:
    if os.fork() == 0:
        os._exit(0)
    os.wait()


@as_root
@pytest.mark.parametrize(
    "drop, files, calls", list(itertools.product([True, False], repeat=3)), ids=str
)
def test_each_layer_holds_what_it_should_with_and_without_the_others(stage, drop, files, calls):
    settings = Confinement(limits(), drop_uid=drop, landlock=files, seccomp=calls)
    answer = confined(stage, lambda report: [report, attempts(stage)], settings)
    assert isinstance(answer, list), answer
    report, held = answer
    files, calls = files and landlock.abi() > 0, calls and seccomp.available()
    assert [report[name] == "ok" for name in ("uid", "landlock", "seccomp")] == [drop, files, calls]
    assert held["open"] == files
    assert held["closed"] == held["write"] == (drop or files)
    assert held["inet"] == held["fork"] == calls
    assert held["signal"] == (drop or calls or (files and landlock.abi() >= 6))
    assert held["memory"] == held["environment"] == (drop or files)
    assert held["command line"] == files


@as_root
def test_the_full_set_reports_every_layer_and_leaves_the_work_possible(stage):
    def body(report):
        ran = []
        thread = threading.Thread(target=lambda: ran.append(True))
        thread.start()
        thread.join()
        Path("note").write_text("here")
        status = Path("/proc/self/status").read_text()
        return {
            "report": report,
            "threads": ran,
            "work": (stage / "work/note").read_text(),
            "ids": [os.getresuid(), os.getresgid(), os.getgroups()],
            "capabilities": status.partition("CapEff:")[2].split()[0],
            "session": os.getsid(0) == os.getpid(),
            "umask": os.umask(0),
            "null": Path("/dev/null").write_bytes(b"x"),
            "random": len(Path("/dev/urandom").open("rb").read(4)),
            "root again": refused(lambda: os.setuid(0)),
            "owner": (stage / "work/note").stat().st_uid,
        }

    answer = confined(stage, body, environment={"HOME": str(stage / "work")})
    assert isinstance(answer, dict), answer
    report = answer.pop("report")
    expected = set(confinement.LAYERS)
    expected -= set() if landlock.abi() else {"landlock"}
    expected -= set() if seccomp.available() else {"seccomp"}
    assert {layer for layer, state in report.items() if state == "ok"} == expected, report
    assert answer == {
        "threads": [True], "work": "here", "ids": [[UID] * 3, [UID] * 3, []],
        "capabilities": "0" * 16, "session": True, "umask": 0o077, "null": 1, "random": 4,
        "root again": True, "owner": UID,
    }  # fmt: skip


def test_memory_files_descriptors_and_core_dumps_are_bounded(stage):
    settings = Confinement(limits(file_mb=1, open_files=32))

    def body(_):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with open("big", "wb") as file:
            big = refused(lambda: file.write(bytes(3 << 20)) and file.flush())
        held = []
        many = refused(lambda: held.extend(os.open("/dev/null", 0) for _ in range(40)))
        return {
            "big": big,
            "size": os.stat("big").st_size,
            "many": many,
            "memory": refused(lambda: bytearray(40 << 30)),
            "core": resource.getrlimit(resource.RLIMIT_CORE),
            "raise again": refused(_raise_memory_limit),
        }

    answer = confined(stage, body, settings)
    assert isinstance(answer, dict), answer
    assert answer.pop("size") <= 1 << 20
    assert answer.pop("core") == [0, 0]
    assert all(answer.values()), answer


def _raise_memory_limit() -> None:
    try:
        resource.setrlimit(resource.RLIMIT_AS, (1 << 44, 1 << 44))
    except ValueError as error:  # what Python makes of EPERM
        raise OSError from error


def test_cpu_time_ends_a_process_that_ignores_the_warning(stage):
    prepared = confinement.prepare(Confinement(limits(cpu_seconds=1)))
    pid = os.fork()
    if pid == 0:
        try:
            uid = UID if prepared.drops_uid else None
            confinement.apply(prepared, work=str(stage / "work"), uid=uid)
            signal.signal(signal.SIGXCPU, signal.SIG_IGN)
            while time.process_time() < 8:
                pass
        finally:
            os._exit(0)
    status = os.waitpid(pid, 0)[1]
    prepared.close()
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


@as_root
def test_a_uid_has_a_bounded_number_of_tasks(stage, monkeypatch):
    monkeypatch.setattr(confinement, "THREADS", 24)
    settings = Confinement(limits(processes=4), seccomp=False)

    def body(_):
        reader, writer = os.pipe()
        started = 0
        try:
            while started < 2000:
                if os.fork() == 0:
                    os.close(writer)
                    os.read(reader, 1)
                    os._exit(0)
                started += 1
        except OSError:
            pass
        os.close(writer)
        for _ in range(started):
            os.wait()
        return started

    started = confined(stage, body, settings)
    assert isinstance(started, int) and 0 < started < 24 + 8


def test_descriptors_that_were_not_named_are_closed(stage):
    file = stage / "closed"
    inherited, kept = os.open(file, os.O_RDONLY), os.open(file, os.O_RDONLY)
    far = os.dup2(inherited, 200)
    inode = file.stat().st_ino
    prepared = confinement.prepare(Confinement(limits()))
    rules = prepared.rules.descriptors if prepared.rules else []

    def run():
        # What the child answers through has to stay open.
        keep = {int(name) for name in os.listdir("/proc/self/fd")} - {inherited, far, *rules}
        uid = UID if prepared.drops_uid else None
        confinement.apply(prepared, work=str(stage / "work"), uid=uid, keep_fds=keep)
        left = []
        for number in range(256):  # a number may have been given out again
            try:
                if os.fstat(number).st_ino == inode:
                    left.append(number)
            except OSError:
                continue
        return [left, [number for number in rules if is_open(number)]]

    assert in_child(run) == [[kept], []]
    prepared.close()
    for number in (inherited, kept, far):
        os.close(number)


def is_open(number: int) -> bool:
    return not refused(lambda: os.fstat(number))


def test_the_environment_is_replaced(stage, monkeypatch):
    monkeypatch.setenv("GRADING_SEED", "12345")
    tempfile.gettempdir()
    work = str(stage / "work")
    wanted = confinement.clean_environment(work, {"OMP_NUM_THREADS": "2"})

    def body(report):
        return [report["environment"], dict(os.environ), tempfile.gettempdir()]

    assert confined(stage, body, environment=wanted) == ["ok", wanted, work]
    assert wanted["HOME"] == wanted["TMPDIR"] == work and "GRADING_SEED" not in wanted


def test_a_worker_dies_with_its_parent(stage):
    prepared = confinement.prepare(Confinement(limits(), drop_uid=False))
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        try:
            mine = replace(prepared, parent=os.getpid())
            if os.fork() == 0:
                try:
                    confinement.apply(mine, work=str(stage))
                    os.write(writer, b"up")
                    time.sleep(30)
                finally:
                    os._exit(0)
            os.close(writer)
            time.sleep(30)
        finally:
            os._exit(0)
    os.close(writer)
    assert os.read(reader, 2) == b"up"
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    start = time.monotonic()
    assert os.read(reader, 1) == b"", "the pipe ends when the worker does"
    assert time.monotonic() - start < 10
    os.close(reader)
    prepared.close()


def as_nobody(body):
    """The answer of `body` in a child that is an ordinary user, as on a laptop."""

    def run():
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            syscalls.control(syscalls.PR_SET_DUMPABLE, 1)
        return body()

    return in_child(run)


@needs_landlock
@needs_seccomp
@pytest.mark.parametrize("on", [True, False], ids=["confined", "bare"])
def test_without_root_the_other_layers_still_guard_the_graders_process(stage, on):
    settings = Confinement(limits(), landlock=on, seccomp=on)

    def grader():
        prepared = confinement.prepare(settings)
        assert not prepared.drops_uid

        def worker():
            report = confinement.apply(prepared)
            return [report["uid"], report["landlock"], attempts(stage)]

        return in_child(worker)

    answer = as_nobody(grader)
    assert isinstance(answer, list), answer
    uid, files, held = answer
    assert uid.startswith("absent: only root")
    assert (files == "ok") is on
    # "memory" may be held by the kernel's own ptrace_scope, and is not a proof either way.
    names = ["open", "environment", "command line", "inet", "fork", "signal"]
    assert [held[name] for name in names] == [on] * len(names), held
    assert held["memory"] or not on
