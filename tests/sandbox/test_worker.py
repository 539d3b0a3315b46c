"""What a worker does for an honest caller, and how each way of failing is told."""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import strategies as st

from autograder.sandbox import blas_guard, host
from autograder.sandbox.host import GraderFault, Plan, Sandbox, WorkerDied, WorkerRaised
from autograder.sandbox.worker import load_modules
from autograder.testing.inprocess import InProcessWorker
from autograder.testing.student import Student, StudentCrashed, StudentRaised, StudentTimedOut

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are confined on Linux only")
FULL = "full" if os.geteuid() == 0 else "self"

PACKAGE = '''\
import ctypes, os, signal, sys, threading, time
import numpy as np

CALLS = []

def echo(value):
    CALLS.append(1)
    return value

def calls():
    return len(CALLS)

def who():
    return [os.getpid(), os.getuid(), os.getsid(0), os.getcwd(), sorted(os.environ)]

def read_nothing():
    return outer()

def outer():
    return ctypes.string_at(0)

def spin():
    while True:
        pass

def sleep(seconds):
    time.sleep(seconds)
    return seconds

def die(number):
    os.kill(os.getpid(), number)

def leave(status):
    os._exit(status)

def leave_later(seconds):
    threading.Timer(seconds, os._exit, (5,)).start()
    return True

def say(text):
    print(text)
    print(text, file=sys.stderr)

def flood():
    while True:
        print("x" * 10_000)

def hold(megabytes, later=False):
    kept = np.ones(megabytes << 17)
    return float(kept[-1])

def keep(megabytes):
    CALLS.append(np.ones(megabytes << 17))

def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return seconds

def write_files(count, megabytes):
    for number in range(count):
        with open(f"f{number}", "wb") as file:
            file.write(bytes(megabytes << 20))
    time.sleep(1)

def dig(depth):
    for _ in range(depth):
        os.mkdir("d")
        os.chdir("d")
    os.chmod("..", 0)

def load(name):
    __import__(name)
    return True

def product(how):
    a = np.ones((8, 8))
    if how == "dot": return np.dot(a, a)
    if how == "method": return a.dot(a)
    if how == "at": return a @ a
    if how == "einsum": return np.einsum("ij,jk->ik", a, a)
    if how == "solve": return np.linalg.solve(np.eye(200) * 2, np.ones((200, 200)))
    if how == "elementwise": return (a[:, :, None] * a[None]).sum(1)
    path = next(l.split()[-1] for l in open("/proc/self/maps") if "openblas" in l)
    library = ctypes.CDLL(path)
    names = [f"{p}cblas_dgemm{s}" for p in ("scipy_", "") for s in ("64_", "")]
    gemm = next(getattr(library, n) for n in names if hasattr(library, n))
    gemm()

def fail(value):
    if abs(value) > 3:
        os.abort()
    if value > 2:
        raise ValueError(f"too large: {value}")
    return value

class Stopped(RuntimeError):
    pass

def complain(text):
    raise Stopped(text)
'''

DRIVERS = '''\
import numpy as np

def call(function, **arguments):
    import subject
    return getattr(subject, function)(**arguments)

class Counter:
    def __init__(self, start):
        self.value = np.full(3, float(start))
    def add(self, amount):
        self.value += amount
        return self.value

def counter(start):
    import subject
    subject.echo(start)
    return Counter(start)

def peer(value):
    return value + 1

def look_for_student():
    import subject
    return True
'''


@pytest.fixture(scope="module")
def stage():
    """A package, a drivers module and folders that another user may cross."""
    with tempfile.TemporaryDirectory(prefix="worker-") as folder:
        base = Path(folder)
        base.chmod(0o755)
        (base / "overlay/subject").mkdir(parents=True)
        (base / "overlay/subject/__init__.py").write_text(PACKAGE)
        (base / "drivers.py").write_text(DRIVERS)
        yield base


@pytest.fixture(scope="module")
def plan(stage):
    """A plan with narrow limits."""
    return Plan(
        package="subject", overlay=stage / "overlay", imports=("numpy",), confine=FULL,
        modules={"the_drivers": stage / "drivers.py"}, never=(stage / "hidden",),
        wall_seconds=5, cpu_seconds=2, memory_mb=1024, output_kb=64, file_mb=4, reply_mb=16,
    )  # fmt: skip


@pytest.fixture(scope="module")
def sandbox(plan):
    """One zygote for all tests here."""
    with Sandbox(plan) as sandbox:
        yield sandbox
    assert not sandbox.folder.exists()


@pytest.fixture
def worker(sandbox):
    """A fresh worker."""
    with sandbox.worker() as worker:
        yield worker


@pytest.fixture(scope="module")
def drivers(stage) -> ModuleType:
    """The drivers as a test would name them."""
    return load_modules([f"the_drivers={stage / 'drivers.py'}"])["the_drivers"]


@pytest.fixture
def student(sandbox, stage):
    """The fixture of tests, with this sandbox."""
    student = Student(sandbox.worker, stage / "overlay", seed=1)
    yield student
    student.close()


def call(worker, function, timeout=None, **arguments):
    """A function of the package."""
    return worker.call(
        "the_drivers:call", {"function": function, **arguments}, timeout=timeout
    )


def test_calls_of_one_worker_share_its_state_and_workers_share_nothing(sandbox):
    with sandbox.worker() as one, sandbox.worker() as other:
        assert call(one, "echo", value=[1, "a"]) == [1, "a"]
        assert call(one, "calls") == 1
        assert call(other, "calls") == 0
        a, b = call(one, "who"), call(other, "who")
        assert a[0] == a[2] == one.pid != b[0]
        assert a[3] == str(one.work) != b[3]
        if FULL == "full":
            assert a[1] == one.uid != b[1] and one.uid >= 30_000
        assert not [name for name in a[4] if "PYTEST" in name or "SEED" in name]


def test_a_workers_folder_is_gone_with_it(sandbox):
    with sandbox.worker() as worker:
        call(worker, "who")
        assert worker.work.is_dir()
    assert not worker.work.exists()


def test_a_segfault_is_named_with_the_students_frames(worker):
    with pytest.raises(WorkerDied, match=r"killed by SIGSEGV \(signal 11\)") as caught:
        call(worker, "read_nothing")
    assert [frame[2] for frame in caught.value.frames] == ["read_nothing", "outer"]
    assert caught.value.frames[0][0] == "subject/__init__.py"
    with pytest.raises(WorkerDied):  # and again, at once, for each later call
        call(worker, "calls")


@pytest.mark.parametrize(
    ("function", "arguments", "said"),
    [
        ("die", {"number": int(signal.SIGKILL)}, r"SIGKILL \(signal 9\)"),
        ("die", {"number": int(signal.SIGTERM)}, r"SIGTERM \(signal 15\)"),
        ("leave", {"status": 0}, "exited with status 0"),
        ("leave", {"status": 3}, "exited with status 3"),
    ],
)
def test_how_a_process_ended_is_told(worker, function, arguments, said):
    with pytest.raises(WorkerDied, match=said):
        call(worker, function, **arguments)


def test_a_hang_says_where(student, drivers):
    with pytest.raises(StudentTimedOut, match=r"no answer within 0.5 s in spin \(subject/__init") as e:
        student.run(drivers.call, function="spin", timeout=0.5)
    assert e.value.frames[-1].function == "spin"
    assert any(line.current for line in e.value.frames[-1].source)


def test_the_limit_on_cpu_time_holds_however_long_the_deadline(worker):
    started = time.monotonic()
    with pytest.raises(WorkerDied, match="SIGXCPU|SIGKILL"):
        call(worker, "spin", timeout=60)
    assert time.monotonic() - started < 30
    assert 1.5 < worker.end["cpu_seconds"] < 4


def test_the_limit_on_memory_holds(worker):
    with pytest.raises(WorkerRaised) as caught:
        call(worker, "hold", megabytes=2000)
    assert "MemoryError" in caught.value.error["bases"]
    assert call(worker, "echo", value=1) == 1


def test_output_is_kept_and_capped(sandbox):
    with sandbox.worker() as worker:
        call(worker, "say", text="héllo")
        call(worker, "echo", value=1)
    assert worker.output.text == "héllo\nhéllo\n"
    with sandbox.worker() as worker:
        with pytest.raises(host.WorkerFlooded, match="more than 64 kB"):
            call(worker, "flood")
    assert len(worker.output.text) <= 64 * 1024


def test_a_folder_that_fills_up_ends_the_worker(worker):
    with pytest.raises(host.WorkerFilledDisk, match="filled its folder"):
        call(worker, "write_files", count=6, megabytes=3)


def test_files_within_the_limits_may_be_written(worker):
    call(worker, "write_files", count=3, megabytes=3)


def test_folders_without_rights_and_without_end_are_removed(sandbox):
    with sandbox.worker() as worker:
        call(worker, "dig", depth=1100)
    assert not worker.work.exists()


def test_forbidden_imports_are_named(worker):
    with pytest.raises(WorkerRaised) as caught:
        call(worker, "load", name="torch")
    message = "torch can't be imported: this homework allows numpy, subject and the standard library"
    assert caught.value.error["message"] == message
    assert caught.value.error["type"] == "ForbiddenImport"
    assert call(worker, "load", name="json")
    assert call(worker, "load", name="numpy.fft")


@pytest.mark.parametrize("how", ["dot", "einsum"])
def test_blas_by_a_function_is_refused_by_name(worker, how):
    with pytest.raises(WorkerRaised, match=f"np.{how} was called") as caught:
        worker.call("the_drivers:call", {"function": "product", "how": how}, forbid_blas=True)
    assert caught.value.error["type"] == "BlasForbidden"


@pytest.mark.parametrize("how", ["method", "at", "ctypes"])
def test_blas_by_any_other_way_ends_the_process(worker, how):
    with open("/proc/self/maps") as maps:
        if "openblas" not in maps.read():
            pytest.skip("numpy uses another library here")
    with pytest.raises(WorkerDied, match="SIGILL"):
        worker.call("the_drivers:call", {"function": "product", "how": how}, forbid_blas=True)


def test_the_rest_of_numpy_works_without_blas(worker):
    got = worker.call("the_drivers:call", {"function": "product", "how": "elementwise"},
                      forbid_blas=True)  # fmt: skip
    np.testing.assert_array_equal(got, np.full((8, 8), 8.0))


def test_blas_works_where_it_is_allowed(worker):
    np.testing.assert_array_equal(call(worker, "product", how="at"), np.full((8, 8), 8.0))
    assert blas_guard._engaged is False  # in this process


def test_a_peers_worker_cannot_see_the_students_code(sandbox):
    with sandbox.worker(student=False) as peer:
        assert peer.call("the_drivers:peer", {"value": 2}) == 3
        with pytest.raises(WorkerRaised) as caught:
            peer.call("the_drivers:look_for_student", {})
        assert "ModuleNotFoundError" in caught.value.error["bases"]


def test_memory_is_measured_by_the_kernel(student, drivers):
    memory = student.memory(drivers.call, function="hold", megabytes=200)
    assert memory.value == 1.0
    assert 195 < memory.extra_bytes / 2**20 < 260
    assert abs(memory.held_bytes - memory.baseline_bytes) < 64 << 20
    memory = student.memory(drivers.call, function="keep", megabytes=200)
    assert 195 < (memory.held_bytes - memory.baseline_bytes) / 2**20 < 260


def test_a_process_that_left_before_it_was_measured_is_the_students(student, drivers):
    student.run(drivers.call, function="leave_later", seconds=0.05)
    time.sleep(0.4)
    with pytest.raises(StudentCrashed, match="exited with status 5"):
        student.memory(drivers.call, function="echo", value=1)


def test_cpu_time_is_the_processes_own(worker):
    call(worker, "echo", value=1)
    before = worker.cpu_seconds()
    call(worker, "sleep", seconds=0.3)
    assert worker.cpu_seconds() - before < 0.15
    before = worker.cpu_seconds()
    call(worker, "burn", seconds=0.3)
    assert 0.29 < worker.cpu_seconds() - before < 0.5
    assert sum(worker.thread_seconds()) == pytest.approx(worker.cpu_seconds(), abs=0.1)


def test_a_session_keeps_its_object_in_the_worker(student, drivers):
    session = student.session(drivers.counter, start=1)
    np.testing.assert_array_equal(session.call("add", amount=2), [3, 3, 3])
    np.testing.assert_array_equal(session.call("add", amount=np.arange(3)), [3, 4, 5])
    with pytest.raises(ValueError, match="not a public method"):
        session.call("__class__")
    with pytest.raises(StudentRaised, match="AttributeError"):
        session.call("nothing")


def test_hypothesis_finds_the_smallest_failing_example(student, drivers):
    @student.given(value=st.integers(-3, 3))
    def check(value):
        assert student.run(drivers.call, function="fail", value=value) == value

    with pytest.raises(StudentRaised, match="too large: 3"):
        check()


def test_hypothesis_ends_at_the_first_crash(student, drivers):
    tried = []

    @student.given(value=st.integers(-100, 100), max_examples=200)
    def check(value):
        tried.append(value)
        student.run(drivers.call, function="fail", value=min(value, 2))

    started = time.monotonic()
    with pytest.raises(StudentCrashed, match="SIGABRT"):
        check()
    assert time.monotonic() - started < 10
    assert len(student._workers) == 1


def test_an_exception_is_told_by_names_not_by_objects(student, drivers):
    with pytest.raises(StudentRaised) as caught:
        student.run(drivers.call, function="complain", text="no \x1b[31mmore \ud800")
    assert caught.value.type_name == "Stopped"
    assert caught.value.bases == ["Stopped", "RuntimeError", "Exception", "BaseException", "object"]
    assert caught.value.frames[-1].function == "complain"
    student.raises(drivers.call, "RuntimeError", match="more", function="complain", text="no more")
    with pytest.raises(AssertionError, match="expected a ValueError, but a result came back"):
        student.raises(drivers.call, "ValueError", function="echo", value=1)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("echo", {"value": [np.arange(3)[::-1], 2**70, 0.1, None, "é", b"\0", (True,), {"a": [1]}]}),
        ("product", {"how": "at"}),
        ("complain", {"text": "so it is"}),
        ("fail", {"value": 3}),
        ("echo", {}),
    ],
)
def test_both_transports_agree(sandbox, stage, drivers, function, arguments):
    def ending(worker) -> str:
        try:
            return repr(call(worker, function, **arguments))
        except WorkerRaised as error:
            return repr({**error.error, "frames": [f[1:] for f in error.error["frames"]]})

    own = InProcessWorker(stage / "overlay", "subject", {"the_drivers": drivers})
    try:
        with sandbox.worker() as worker:
            assert ending(worker) == ending(own)
    finally:
        own.close()


def test_a_worker_that_cannot_be_confined_is_the_graders_fault(plan, monkeypatch):
    if FULL != "full":
        pytest.skip("needs a uid to give up")
    with Sandbox(plan) as sandbox:
        sandbox._uids = iter([0])  # root may not be a worker
        with sandbox.worker() as worker, pytest.raises(GraderFault, match="could not be applied"):
            call(worker, "calls")


def test_full_confinement_without_root_refuses_to_start(plan, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(GraderFault, match="needs root"):
        Sandbox(replace(plan, confine="full"))


def test_a_dead_zygote_is_the_graders_fault(plan):
    with Sandbox(plan) as sandbox:
        sandbox._zygotes[0][0].kill()
        sandbox._zygotes[0][0].wait()
        with pytest.raises(GraderFault, match="zygote ended with status -9"):
            sandbox.worker()


def test_a_path_to_what_is_never_to_be_read_is_refused(plan, stage):
    with pytest.raises(GraderFault, match="would open"):
        (stage / "overlay/hidden").mkdir(exist_ok=True)
        Sandbox(replace(plan, never=(stage / "overlay/hidden",)))


def test_a_worker_costs_little(sandbox):
    """Start, one call and removal, the best of ten; the benchmark has the real figure."""
    best = 1.0
    for _ in range(10):
        started = time.perf_counter()
        with sandbox.worker() as worker:
            call(worker, "echo", value=1)
        best = min(best, time.perf_counter() - started)
    assert best < 0.1
    assert re.fullmatch(r"work\d+", worker.work.name)
