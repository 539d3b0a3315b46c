"""The `student` fixture's value, over real workers: errors, sessions, memory, hypothesis."""

from __future__ import annotations

import sys
from pathlib import Path

import hypothesis.strategies as some
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import testing_samples as samples

from autograder.testing.student import (
    Student,
    StudentCrashed,
    StudentRaised,
    StudentTimedOut,
    described_call,
)

OPS = """\
import os, threading, time
import numpy as np


class ShapeError(ValueError):
    pass


class Counter:
    def __init__(self, start):
        self.value = start


def double(x):
    return 2 * x


def fail(kind, text):
    raise {"shape": ShapeError, "stub": NotImplementedError, "key": KeyError,
           "exit": SystemExit}[kind](text)


def outer(text):
    fail("shape", text)


def crash_above(x, limit):
    with open("calls.txt", "a") as file:
        file.write(".")
    if x > limit:
        os._exit(7)
    return x


def hang():
    while True:
        pass


def unusable():
    return object()


def spin_in_thread(seconds):
    def spin():
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass
        ready.set()
        forever.wait()
    ready, forever = threading.Event(), threading.Event()
    threading.Thread(target=spin, daemon=True).start()
    ready.wait()


def one(x):
    if x == -11:
        os.kill(os.getpid(), 11)
    return 2 * (x + 0)


def at_most(cases, most):
    if len(cases) > most:
        raise RuntimeError("enough")
    return cases


KEPT = []


def allocate(megabytes, keep):
    block = np.ones((megabytes << 20,), np.uint8)
    if keep:
        KEPT.append(block)
    return int(block[::4096].sum())
"""

DRIVERS = """\
def double(x):
    from tiny import ops
    return ops.double(x)

def fail(kind, text):
    from tiny import ops
    ops.fail(kind, text)

def outer(text):
    from tiny import ops
    ops.outer(text)

def crash_above(x, limit):
    from tiny import ops
    return ops.crash_above(x, limit)

def calls():
    return len(open("calls.txt").read())

def each(cases):
    from tiny import ops
    return [ops.one(case) for case in cases]

def first_only(cases):
    return each(cases)[:1]

def two_at_most(cases):
    from tiny import ops
    return ops.at_most(cases, 2)

def hang():
    from tiny import ops
    ops.hang()

def unusable():
    from tiny import ops
    return ops.unusable()

def spin_in_thread(seconds):
    from tiny import ops
    ops.spin_in_thread(seconds)

def allocate(x, megabytes, keep):
    from tiny import ops
    return ops.allocate(megabytes, keep)

class Counting:
    def __init__(self, counter):
        self.counter = counter
    def add(self, x):
        self.counter.value = self.counter.value + x
        return self.counter.value

def counter(start):
    from tiny import ops
    return Counting(ops.Counter(start))
"""


@pytest.fixture(scope="module")
def run():
    folder = samples.open_folder()
    homework = samples.make_homework(
        folder, [("9.1", 100, [])], {}, ops=OPS, drivers=DRIVERS, name="hw9_student"
    )
    run = samples.make_run(homework, folder)
    yield run
    run.close()
    samples.remove(folder)


@pytest.fixture
def student(run):
    student = run.student("tests/test_x.py::test_y", forbid_blas=False)
    yield student
    student.close()


@pytest.fixture
def drivers(run):
    return run.drivers


# --- exceptions -------------------------------------------------------------------------------


def test_an_exception_arrives_with_type_text_and_the_students_own_frames(student, drivers):
    with pytest.raises(StudentRaised) as caught:
        student.run(drivers.outer, text="3 is not 4")
    error = caught.value
    assert isinstance(error, AssertionError)
    assert (error.title, error.message) == ("ShapeError", "ShapeError: 3 is not 4")
    assert [(frame.file, frame.function) for frame in error.frames] == [
        ("tiny/ops.py", "outer"), ("tiny/ops.py", "fail"),
    ]  # fmt: skip
    line = OPS.splitlines().index('    fail("shape", text)') + 1
    assert error.frames[0].line == line
    current = [source for source in error.frames[0].source if source.current]
    assert [(s.number, s.text) for s in current] == [(line, '    fail("shape", text)')]
    assert student.answers == 0


def test_a_stub_and_an_unusable_result_are_told_in_words(student, drivers):
    with pytest.raises(StudentRaised, match=r"^task 9\.1: f is not implemented yet$"):
        student.run(drivers.fail, kind="stub", text="task 9.1: f")
    with pytest.raises(StudentRaised, match=r"result can't be used: .*object can't be returned"):
        student.run(drivers.unusable)
    with pytest.raises(StudentRaised) as caught:
        student.run(drivers.fail, kind="exit", text="0")
    assert caught.value.type_name == "SystemExit"
    assert student.run(drivers.double, x=2) == 4  # the worker is still there


def test_raises_accepts_a_class_or_one_of_its_bases_by_name(student, drivers):
    for expected in ("ShapeError", "ValueError", "Exception"):
        error = student.raises(drivers.fail, expected, kind="shape", text="no")
        assert error.type_name == "ShapeError"
    assert student.answers == 3


def test_raises_refuses_another_exception_and_a_result(student, drivers):
    with pytest.raises(StudentRaised, match="KeyError") as caught:
        student.raises(drivers.fail, "ValueError", kind="key", text="no")
    assert caught.value.message.endswith("the call: fail(kind='key', text='no')")
    with pytest.raises(AssertionError, match=r"expected a ValueError, but this came back: 2\n") as e:
        student.raises(drivers.double, "ValueError", x=1)
    assert str(e.value).endswith("the call: double(x=1)")


@pytest.mark.parametrize("expected", ["NotImplementedError", "RuntimeError", "Exception"])
def test_raises_never_counts_a_stub(student, drivers, expected):
    with pytest.raises(StudentRaised, match="not implemented yet"):
        student.raises(drivers.fail, expected, kind="stub", text="task")


def test_raises_can_ask_for_a_name(student, drivers):
    asked = {"kind": "shape", "text": "axis -1 of 13"}
    for word in ("-1", "13", "axis"):
        student.raises(drivers.fail, "ValueError", naming=word, **asked)
    for word in ("3", "axi"):
        with pytest.raises(AssertionError, match=f"the ValueError should name {word}; it says: ") as e:
            student.raises(drivers.fail, "ValueError", naming=word, **asked)
        assert str(e.value).endswith("the call: fail(kind='shape', text='axis -1 of 13')")


def test_a_call_is_shown_with_the_values_of_small_arrays(drivers):
    arguments = {"x": np.array([1, 2]), "y": [np.zeros((3, 4))], "z": {"axis": None}}
    assert described_call(drivers.double, arguments) == (
        "double(x=[1, 2], y=[<float64 (3, 4)>], z={'axis': None})"
    )


# --- many cases in one call -------------------------------------------------------------------


def test_cases_come_back_in_order(student, drivers):
    assert student.run_cases(drivers.each, [1, 2, 3], str) == [2, 4, 6]
    assert student.answers == 1
    with pytest.raises(AssertionError, match="not one answer for each of 2 questions"):
        student.run_cases(drivers.first_only, [1, 2], str)


@pytest.mark.parametrize(
    ("bad", "said", "kind"),
    [("text", "case text: TypeError", StudentRaised), (-11, "killed by SIGSEGV", StudentCrashed)],
)
def test_the_case_that_raises_or_crashes_is_named(student, drivers, bad, said, kind):
    with pytest.raises(kind) as caught:
        student.run_cases(drivers.each, [1, bad, 3], lambda case: f"case {case}")
    assert caught.value.message.startswith(f"case {bad}: ")
    assert said in caught.value.message


def test_cases_that_fail_only_together_are_told_so(student, drivers):
    with pytest.raises(StudentRaised, match="RuntimeError: enough") as caught:
        student.run_cases(drivers.two_at_most, [1, 2, 3], str)
    assert "in one call of 3 cases; none of them fails by itself" in caught.value.message


def test_a_crash_and_a_hang_say_how_and_where_and_stay(student, drivers):
    with pytest.raises(StudentTimedOut, match=r"no answer within 0\.3 s in hang \(tiny/ops\.py:"):
        student.run(drivers.hang, timeout=0.3)
    with pytest.raises(StudentTimedOut):
        student.run(drivers.double, x=1)


# --- sessions ---------------------------------------------------------------------------------


def test_a_session_keeps_state_between_calls(student, drivers):
    one, other = (
        student.session(drivers.counter, start=1),
        student.session(drivers.counter, start=10),
    )
    assert [one.call("add", x=2), other.call("add", x=2), one.call("add", x=2)] == [3, 12, 5]
    assert one.resident_bytes() > 1 << 20
    with pytest.raises(ValueError, match="not a public method"):
        one.call("__init__", counter=None)
    with pytest.raises(StudentRaised, match="TypeError"):
        one.call("add", x="text")
    assert one.call("add", x=0) == 5


# --- hypothesis -------------------------------------------------------------------------------


def test_given_stops_at_the_first_crash(student, drivers):
    seen = []

    @student.given(x=some.integers(0, 1000), max_examples=60)
    def stays(x):
        seen.append(x)
        assert student.run(drivers.crash_above, x=x, limit=20) == x

    with pytest.raises(StudentCrashed, match="exited with status 7"):
        stays()
    assert sum(x > 20 for x in seen) == 1  # no search for a smaller example


def test_given_stops_at_a_stub(student, drivers):
    seen = []

    @student.given(x=some.integers(0, 1000), max_examples=60)
    def is_done(x):
        seen.append(x)
        student.run(drivers.fail, kind="stub", text="task 9.1: f")

    with pytest.raises(StudentRaised, match="not implemented yet"):
        is_done()
    assert len(seen) == 1


def test_given_shrinks_a_wrong_answer_and_repeats_under_the_same_seed(student, drivers):
    found = []
    for _ in range(2):
        found.append([])

        @student.given(x=some.integers(0, 1000), max_examples=40)
        def at_most_hundred(x):
            found[-1].append(x)
            assert student.run(drivers.double, x=x) <= 200, f"x = {x}"

        with pytest.raises(AssertionError, match="x = 101"):
            at_most_hundred()
    assert found[0] == found[1]


def test_given_reports_one_of_two_failures_as_an_assertion(student, drivers):
    @student.given(x=some.integers(-50, 50), max_examples=60)
    def wrong_both_ways(x):
        got = student.run(drivers.double, x=x)
        if x > 5:
            assert got == 0, "above"
        if x < -5:
            assert got == 0, "below"

    with pytest.raises(AssertionError, match=r"above|below"):
        wrong_both_ways()


# --- resources --------------------------------------------------------------------------------

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux")
MB = 1 << 20


@linux_only
def test_memory_tells_what_was_held_at_once_from_what_was_kept(student, drivers):
    x = np.ones(32 * MB, np.uint8)
    passing = student.memory(drivers.allocate, x=x, megabytes=128, keep=False)
    assert passing.value == 128 * MB // 4096
    assert abs(passing.extra_bytes - 128 * MB) < 32 * MB
    assert passing.held_bytes - passing.baseline_bytes < 32 * MB
    # The peak of an earlier call does not count again.
    small = student.memory(drivers.allocate, x=x, megabytes=1, keep=False)
    assert small.extra_bytes < 48 * MB
    kept = student.memory(drivers.allocate, x=x, megabytes=128, keep=True)
    assert abs(kept.held_bytes - kept.baseline_bytes - 128 * MB) < 48 * MB
    assert student.answers == 3


@linux_only
def test_thread_seconds_shows_the_time_of_each_living_thread(student, drivers):
    assert student.run(drivers.double, x=1) == 2
    before = student.thread_seconds()
    student.run(drivers.spin_in_thread, seconds=0.2)
    after = student.thread_seconds()
    assert len(after) == len(before) + 1
    assert max(after[1:]) >= 0.19
    assert after[0] - before[0] < 0.15


def test_patience_caps_what_a_test_asks_for():
    student = Student(lambda **_: None, Path("."), seed=0)
    assert student.seconds(None) is None and student.seconds(9.0) == 9.0
    student.patience = 5.0
    assert student.seconds(None) == 5.0 and student.seconds(9.0) == 5.0
    assert student.seconds(2.0) == 2.0
