"""The debugging transport gives a test what a worker would: values, errors, fresh state."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import testing_samples as samples

from autograder.testing.student import StudentError, StudentRaised

OPS = """\
import numpy as np

STATE = []


class Odd(np.ndarray):
    def __eq__(self, other):
        return True


def echo(x):
    return x


def change(x):
    x[...] = 7
    return x


def remember(x):
    STATE.append(x)
    return list(STATE)


def strange(which):
    return {
        "object": object(), "complex": np.zeros(2, complex), "key": {1: 2}, "set": {1},
        "subclass": np.arange(3.0).view(Odd), "generic": np.float32(1.5), "int": np.int64(3),
        "view": np.arange(12.0).reshape(3, 4)[::2, ::-1], "empty": np.zeros((0, 2)),
        "deep": [[[{"a": (1, [2.5, None, "ä"])}]]], "nan": float("nan"), "huge": -10**50,
        "endless": 10**9000,
    }[which]


def fail(which):
    if which == "assert":
        assert 1 == 2, "no"
    if which == "exit":
        raise SystemExit(3)
    if which == "stub":
        raise NotImplementedError("task 9.1: fail")
    if which == "import":
        import no_such_module
    raise {"value": ValueError, "key": KeyError}[which]("words", 1)
"""

DRIVERS = """\
def echo(x):
    from tiny import ops
    return ops.echo(x)

def change(x):
    from tiny import ops
    return ops.change(x)

def remember(x):
    from tiny import ops
    return ops.remember(x)

def strange(which):
    from tiny import ops
    return ops.strange(which)

def fail(which):
    from tiny import ops
    return ops.fail(which)

def wrong_arguments(x):
    from tiny import ops
    return ops.echo()

class Box:
    def __init__(self, x):
        self.x = x
    def add(self, y):
        self.x = self.x + y
        return self.x

def box(x):
    return Box(x)
"""


@pytest.fixture(scope="module")
def runs():
    folder = samples.open_folder()
    runs = {}
    for transport in ("sandbox", "inprocess"):
        homework = samples.make_homework(
            folder / transport, [("9.1", 100, [])], {}, ops=OPS, drivers=DRIVERS,
            name=f"hw9_{transport}",
        )  # fmt: skip
        runs[transport] = samples.make_run(homework, folder / transport, transport=transport)
        folder.chmod(0o711)
    yield runs
    for run in runs.values():
        run.close()
    samples.remove(folder)


def described(run, driver: str, **arguments):
    """A result or an error as comparable plain data."""
    student = run.student("tests/test_x.py::test_y", forbid_blas=False)
    try:
        value = student.run(getattr(run.drivers, driver), **arguments)
    except StudentError as error:
        frames = [(f.file, f.line, f.function) for f in error.frames]
        bases = error.bases if isinstance(error, StudentRaised) else None
        return type(error).__name__, error.title, error.message, bases, frames
    finally:
        student.close()
    return plain(value)


def plain(value):
    if isinstance(value, np.ndarray):
        return type(value), value.dtype.str, value.shape, value.tolist(), value.flags.writeable
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value), [plain(item) for item in value]
    return type(value), repr(value)


VALUES = [
    None, True, 0, -7, 2**62, 2.5, float("inf"), "text ä", b"raw", [1, [2.0]], (1, "a"),
    {"a": [None]},
    np.arange(6.0).reshape(2, 3), np.zeros((0, 3), np.float32), np.array(3), np.array([True]),
    np.arange(12).reshape(3, 4)[::-1, 1:3], np.float16([1]),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:30])
def test_values_cross_alike(runs, value):
    both = [described(run, "echo", x=value) for run in runs.values()]
    assert both[0] == both[1]
    assert both[0] == plain(value) or isinstance(value, np.ndarray)


STRANGE = ["object", "complex", "key", "set", "subclass", "generic", "int", "view", "empty", "deep",
           "nan", "huge", "endless"]  # fmt: skip


@pytest.mark.parametrize("which", STRANGE)
def test_strange_results_come_to_the_same(runs, which):
    both = [described(run, "strange", which=which) for run in runs.values()]
    assert both[0] == both[1]


@pytest.mark.parametrize("which", ["assert", "exit", "stub", "value", "key"])
def test_errors_are_told_alike(runs, which):
    both = [described(run, "fail", which=which) for run in runs.values()]
    assert both[0][0] == "StudentRaised"
    assert both[0] == both[1]


def test_a_missing_package_is_told_by_name_on_both(runs):
    # In process the tests' own imports stand beside the student's, so none is forbidden by name.
    for run in runs.values():
        _, _, message, bases, frames = described(run, "fail", which="import")
        assert "no_such_module" in message
        assert "ModuleNotFoundError" in bases
        assert frames[-1][2] == "fail"


def test_an_error_of_a_driver_is_told_alike(runs):
    both = [described(run, "wrong_arguments", x=1) for run in runs.values()]
    assert both[0] == both[1]
    assert both[0][1] == "TypeError"


@pytest.fixture(params=["sandbox", "inprocess"])
def run(runs, request):
    return runs[request.param]


def new(run):
    return run.student("tests/test_x.py::test_y", forbid_blas=False)


def test_the_package_is_fresh_for_each_test_and_kept_within_one(run):
    for _ in range(2):
        student = new(run)
        assert student.run(run.drivers.remember, x=1) == [1]
        assert student.run(run.drivers.remember, x=2) == [1, 2]
        student.close()
    assert not any(name.split(".")[0] == "tiny" for name in sys.modules)
    assert str(run.overlay) not in sys.path


def test_an_edit_between_two_tests_is_seen(run):
    path = run.overlay / "tiny" / "ops.py"
    try:
        path.write_text(OPS.replace("x[...] = 7", "x[...] = 12345"))
        student = new(run)
        assert student.run(run.drivers.change, x=np.zeros(1)).tolist() == [12345]
        student.close()
    finally:
        path.write_text(OPS)


def test_arrays_are_copies_on_both_ways(run):
    student = new(run)
    x = np.zeros(3)
    got = student.run(run.drivers.change, x=x)
    assert x.tolist() == [0, 0, 0]
    assert got.tolist() == [7, 7, 7]
    first = student.run(run.drivers.remember, x=x)
    first[0][:] = 5
    assert student.run(run.drivers.remember, x=0)[0].tolist() == [0, 0, 0]
    student.close()


def test_sessions_keep_their_state(run):
    student = new(run)
    one, other = (
        student.session(run.drivers.box, x=1),
        student.session(run.drivers.box, x=np.ones(2)),
    )
    assert one.call("add", y=2) == 3
    assert one.call("add", y=2) == 5
    assert other.call("add", y=1).tolist() == [2, 2]
    student.close()


def test_in_process_what_needs_a_process_of_its_own_is_skipped(runs):
    student = new(runs["inprocess"])
    for measure in (
        lambda: student.memory(runs["inprocess"].drivers.echo, x=1),
        lambda: student.session(runs["inprocess"].drivers.box, x=1).resident_bytes(),
        student.thread_seconds if student.worker else None,
    ):
        with pytest.raises(pytest.skip.Exception, match="a process of the code's own"):
            measure()
    student.close()


def test_a_breakpoint_stops_in_the_students_code(runs, monkeypatch):
    run = runs["inprocess"]
    path = run.overlay / "tiny" / "ops.py"
    stops = []

    def hook() -> None:
        frame = sys._getframe(1)
        stops.append((frame.f_code.co_name, frame.f_code.co_filename))

    monkeypatch.setattr(sys, "breakpointhook", hook)
    try:
        path.write_text(OPS.replace("    return x\n", "    breakpoint()\n    return x\n", 1))
        student = new(run)
        assert student.run(run.drivers.echo, x=4) == 4
        student.close()
    finally:
        path.write_text(OPS)
    assert stops == [("echo", str(path))]
