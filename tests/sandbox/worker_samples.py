"""A package, drivers and fixtures for the tests of workers."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from autograder.sandbox.host import Plan, Sandbox, Worker
from autograder.sandbox.worker import load_modules
from autograder.testing.student import Student

__all__ = [
    "FULL", "LINUX_ONLY", "call", "drivers", "plan", "sandbox", "stage", "student", "worker"
]  # fmt: skip
FULL = "full" if os.geteuid() == 0 else "self"
LINUX_ONLY = pytest.mark.skipif(sys.platform != "linux", reason="confined on Linux only")

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

def guard_table():
    info = sys.modules["autograder.sandbox.blas_guard"].library_offsets.cache_info()
    return [info.hits, info.misses]

def spin_behind():
    threading.Thread(target=spin, daemon=True).start()

def fail(value):
    if abs(value) > 3:
        os.abort()
    if value > 2:
        raise ValueError(f"too large: {value}")
    return value

class Stopped(RuntimeError):
    pass

def complain(text):
    raise Stopped(text + chr(0xD800))
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


def call(worker: Worker, function: str, timeout: float | None = None, **arguments: Any) -> Any:
    """A function of the package."""
    return worker.call(
        "the_drivers:call", {"function": function, **arguments}, timeout=timeout
    )
