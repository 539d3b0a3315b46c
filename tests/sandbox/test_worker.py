"""How each way in which a worker fails is told, and what no worker may do."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from autograder.sandbox import blas_guard, host
from autograder.sandbox.host import GraderFault, Sandbox, WorkerDied, WorkerRaised
from autograder.testing.student import StudentTimedOut
from tests.sandbox.worker_samples import *  # noqa: F403  fixtures among them

pytestmark = LINUX_ONLY  # noqa: F405


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
    with pytest.raises(StudentTimedOut, match=r"within 0.5 s in spin \(subject/__init") as e:
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
    allowed = "this homework allows numpy, subject and the standard library"
    assert caught.value.error["message"] == f"torch can't be imported: {allowed}"
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


def test_workers_that_fail_at_once_are_each_told_how(sandbox):
    """Their threads all ask the zygote to end them: one question at a time."""
    for function, arguments, error in (
        ("leave", {"status": 3}, "exited with status 3"), ("spin", {}, "within 0.3 s"),
    ):  # fmt: skip
        for _ in range(3):
            workers = [sandbox.worker() for _ in range(6)]
            for worker in workers:
                call(worker, "calls")
            told = [""] * len(workers)

            def fail(place, workers=workers, told=told, function=function, arguments=arguments):
                try:
                    call(workers[place], function, timeout=0.3, **arguments)
                except Exception as error:
                    told[place] = str(error)

            threads = [threading.Thread(target=fail, args=(n,)) for n in range(len(workers))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for worker in workers:
                worker.close()
            assert all(error in text for text in told), told
    assert sandbox.restarts == 0


def test_a_dead_zygote_costs_one_test_and_is_replaced(plan):
    """Its workers are gone with it, which is no student's fault; a second try finds a new one."""
    with Sandbox(plan) as sandbox:
        worker = sandbox.worker()
        call(worker, "calls")
        sandbox._zygotes[0].end()
        with pytest.raises(GraderFault, match="zygote is gone"):
            call(worker, "calls")
        worker.close()
        with sandbox.worker() as worker:
            assert call(worker, "echo", value=1) == 1
        assert sandbox.restarts == 1
        sandbox.restarts = host.MAX_RESTARTS
        sandbox._zygotes[0].end()
        with pytest.raises(GraderFault, match="ended with status -9, not for the first time"):
            sandbox.worker()


def test_a_path_to_what_is_never_to_be_read_is_refused(plan, stage):
    with pytest.raises(GraderFault, match="would open"):
        (stage / "overlay/hidden").mkdir(exist_ok=True)
        Sandbox(replace(plan, never=(stage / "overlay/hidden",)))
