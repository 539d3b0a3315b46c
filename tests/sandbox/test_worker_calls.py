"""What a worker does for an honest caller: calls, sessions, measures, examples, both transports."""

from __future__ import annotations

import re
import time

import numpy as np
import pytest
from hypothesis import strategies as st

from autograder.sandbox.host import WorkerRaised
from autograder.testing.inprocess import InProcessWorker
from autograder.testing.student import StudentCrashed, StudentRaised
from tests.sandbox.worker_samples import *  # noqa: F403  fixtures among them

pytestmark = LINUX_ONLY  # noqa: F405


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


def test_memory_put_on_before_is_no_room_for_the_measured_call(student, drivers):
    student.run(drivers.call, function="keep", megabytes=300)
    then = student.memory(drivers.call, function="echo", value=1, allowance_mb=32)
    assert 230 < then.extra_bytes / 2**20 < 400
    # In a worker that saw none of this there is nothing.
    assert student.call(student.fresh(), drivers.call, {"function": "echo", "value": 1}, None) == 1
    assert student._workers[1].resident_bytes() < student.worker.resident_bytes() - (200 << 20)


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


def test_a_paused_worker_uses_no_time_and_goes_on_afterwards(worker):
    """While the peer is timed, a thread left behind by the student's code can't slow it down."""
    call(worker, "spin_behind")
    before = worker.cpu_seconds()
    time.sleep(0.3)
    assert worker.cpu_seconds() - before > 0.05
    with worker.paused():
        time.sleep(0.05)
        before = worker.cpu_seconds()
        time.sleep(0.3)
        assert worker.cpu_seconds() - before < 0.01
    assert call(worker, "echo", value=1) == 1


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
        student.run(drivers.call, function="complain", text="no \x1b[31mmore")
    assert caught.value.type_name == "Stopped"
    assert caught.value.bases == ["Stopped", "RuntimeError", "Exception", "BaseException", "object"]
    assert caught.value.frames[-1].function == "complain"
    student.raises(drivers.call, "RuntimeError", naming="more", function="complain", text="no more")
    with pytest.raises(AssertionError, match="expected a ValueError, but this came back: 1"):
        student.raises(drivers.call, "ValueError", function="echo", value=1)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("echo", {"value": [np.arange(3)[::-1], 2**70, 0.1, None, "é", b"\0", (True,), {"a": 1}]}),
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
