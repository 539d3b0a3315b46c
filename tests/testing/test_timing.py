"""The race: a known ratio is found, and no trick with time makes it better."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import testing_samples as samples

from autograder.sandbox.host import GraderFault, WorkerRaised
from autograder.testing import Measure, Race, race, race_score, score_ratio, timing

# Work is pure Python, so that one unit costs the same in every process of one run.
OPS = '''\
import hashlib, threading, time

CACHE = {}
AHEAD = {}


def work(x, units):
    total = 0.0
    for _ in range(units * 40_000):
        total += 1.0
    return 2 * x


def in_a_thread(x, units):
    result = []
    thread = threading.Thread(target=lambda: result.append(work(x, units)))
    thread.start()
    thread.join()
    return result[0]


def asleep(x, seconds):
    time.sleep(seconds)
    return 2 * x


def cached(x, units):
    key = hashlib.sha256(x.tobytes()).digest()
    if key not in CACHE:
        CACHE[key] = work(x, units)
    return CACHE[key]


def work_ahead(x, units):
    """Leaves a thread that computes on after the answer, for the last input it saw."""
    if not AHEAD:
        def compute():
            while True:
                work(x, 1)
                time.sleep(0.001)
        AHEAD["thread"] = threading.Thread(target=compute, daemon=True)
        AHEAD["thread"].start()
    return work(x, units)


CALLS = []


def wrong_later(x, units):
    CALLS.append(1)
    return 2 * x + (len(CALLS) > 2)
'''

DRIVERS = """\
def call(x, how, units):
    from tiny import ops
    return getattr(ops, how)(x, units)
"""

PEERS = """\
def work(x, units=0, **_):
    total = 0.0
    for _ in range(10 * 40_000):
        total += 1.0
    return 2 * x
"""


@pytest.fixture(scope="module")
def run():
    folder = samples.open_folder()
    homework = samples.make_homework(
        folder, [("9.1", 100, [])], {}, ops=OPS, drivers=DRIVERS, name="hw9_timing",
        extra={"tests/peers.py": PEERS},
    )  # fmt: skip
    run = samples.make_run(homework, folder)
    yield run
    run.close()
    samples.remove(folder)


@pytest.fixture
def student(run, monkeypatch):
    # The machine-wide lock has a test of its own; other gradings on this machine hold it at times.
    monkeypatch.setattr(timing, "machine_lock", contextlib.nullcontext)
    student = run.student("tests/test_x.py::test_y", forbid_blas=False)
    yield student
    student.close()


def check(value, arguments) -> None:
    np.testing.assert_array_equal(value, 2 * arguments["x"])


def fresh(how: str, units: float):
    """Arguments with new content for each pair."""
    return lambda index: {"x": np.full(8, float(index)), "how": how, "units": units}


def ratio(run, student, how: str, units: float, pairs: int = 3, arguments=None, **options) -> Race:
    peer = run.modules["hw9_timing_peers"].work
    return race(student, run.drivers.call, peer, arguments or fresh(how, units), check,
                pairs=pairs, **options)  # fmt: skip


def test_four_times_the_work_is_a_ratio_near_a_quarter_and_half_of_it_near_two(run, student):
    slow, fast = ratio(run, student, "work", 40), ratio(run, student, "work", 5)
    assert 0.12 < slow.ratio < 0.5
    assert 1.2 < fast.ratio < 3.5
    assert len(slow.pairs) == 3
    assert slow.student_seconds > 2 * slow.peer_seconds > 0


def test_work_in_a_thread_counts_as_work(run, student):
    assert ratio(run, student, "in_a_thread", 40).ratio < 0.5


def test_the_peers_worker_does_not_see_the_students_code(run, student):
    student.run(run.drivers.call, x=1, how="work", units=0)
    with pytest.raises(WorkerRaised) as caught:
        student.peer().call("hw9_timing_drivers:call", {"x": 1, "how": "work", "units": 0})
    assert caught.value.error["type"] == "ModuleNotFoundError"


def test_the_race_runs_the_peer_where_the_students_code_can_not_be_seen(run, student):
    with pytest.raises(WorkerRaised) as caught:
        race(student, run.drivers.call, run.drivers.call, fresh("work", 1), check, pairs=1)
    assert caught.value.error["type"] == "ModuleNotFoundError"


def test_sleeping_makes_pairs_void_and_the_race_still_ends(run, student):
    result = ratio(run, student, "asleep", 0.05, pairs=2)
    assert result.void == 2
    assert len(result.pairs) == 2


def test_sleeping_counts_in_full_by_the_wall_clock(run, student):
    result = ratio(run, student, "asleep", 0.4, pairs=2, clock="wall")
    assert result.student_seconds >= 0.4
    assert result.void == 0


def test_a_cache_by_content_helps_only_where_inputs_repeat(run, student):
    assert ratio(run, student, "cached", 40).ratio < 0.5
    repeated = fresh("cached", 40)(100)
    assert ratio(run, student, "cached", 40, arguments=lambda index: repeated).ratio > 2


def test_a_thread_left_from_an_earlier_call_does_not_help(run, student):
    assert ratio(run, student, "work_ahead", 40).ratio < 0.5


def test_one_wrong_timed_answer_fails(run, student):
    with pytest.raises(AssertionError):
        ratio(run, student, "wrong_later", 1)


def test_every_pair_has_its_own_arguments_and_every_answer_is_checked(run, student):
    made, checked = [], []

    def make(index):
        made.append(index)
        return {"x": np.full(4, float(index)), "how": "work", "units": 1}

    def count(value, arguments):
        checked.append(arguments["x"][0])
        check(value, arguments)

    result = race(student, run.drivers.call, run.modules["hw9_timing_peers"].work, make, count,
                  pairs=2, warm_up=1)  # fmt: skip
    assert made[0] == -1
    assert len(set(made)) == len(made) == 3 + result.void
    assert checked == [float(index) for index in made]


# --- scores -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "fraction"),
    [(1.3, 1.0), (9.0, 1.0), (0.9, 0.0), (0.1, 0.0), (-1.0, 0.0), (1.1, 0.5), (1.0, 0.25)],
)
def test_score_is_linear_between_its_ends(value, fraction):
    assert race_score(value, full=1.3, zero=0.9) == pytest.approx(fraction)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_ratio_that_is_no_number_is_a_fault_of_the_grader_and_gives_no_points(value):
    student, scores = Recording(), []
    with pytest.raises(GraderFault):
        score_ratio(student, scores.append, 4, value, full=1.3, zero=0.9, name="m", peer="p")
    assert scores == []


class Recording:
    """Stands for a student: keeps what is measured."""

    def __init__(self) -> None:
        self.measures: list[Measure] = []
        self.measure = self.measures.append


def test_score_ratio_sets_points_records_the_measure_and_raises_below_full():
    student, scores = Recording(), []
    with pytest.raises(AssertionError) as caught:
        score_ratio(student, scores.append, 4, 1.1, full=1.3, zero=0.9, name="matmul", peer="numpy",
                    note="n")  # fmt: skip
    assert str(caught.value) == (
        "matmul: 1.10× the speed of numpy; full marks at 1.3×, none at 0.9×"
    )
    assert scores == [pytest.approx(2.0)]
    (measure,) = student.measures
    assert measure == Measure(name="matmul", value=1.1, full=1.3, zero=0.9, peer="numpy", note="n")


def test_score_ratio_at_full_marks_does_not_raise():
    student, scores = Recording(), []
    score_ratio(student, scores.append, 4, 1.3, full=1.3, zero=0.9, name="m", peer="p")
    assert scores == [4]
    assert len(student.measures) == 1


# --- the lock ---------------------------------------------------------------------------------


def test_one_grader_at_a_time_holds_the_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(timing.tempfile, "tempdir", str(tmp_path))
    path = tmp_path / f"llm-systems-timing-{os.getuid()}.lock"
    with timing.machine_lock():
        with path.open() as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A child does not inherit it, so one that outlives the race holds nothing up.
        child = subprocess.Popen(["sleep", "30"])
    try:
        with path.open() as other:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        child.kill()
        child.wait()
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_lock_is_no_link_that_someone_laid(tmp_path, monkeypatch):
    monkeypatch.setattr(timing.tempfile, "tempdir", str(tmp_path))
    (tmp_path / f"llm-systems-timing-{os.getuid()}.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError), timing.machine_lock():
        pass
    assert not (tmp_path / "elsewhere").exists()
