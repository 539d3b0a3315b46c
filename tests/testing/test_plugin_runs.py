"""Runs as a whole: seeds, options, a run that dies or is out of time, hostile answers."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import testing_samples as samples

from autograder.batch.run import run_tests
from autograder.testing.records import TestRecord, read_records, record_path, write_record

THREE = [("9.1", 50, []), ("9.2", 25, ["9.1"]), ("9.3", 25, [])]


@pytest.fixture
def folder():
    folder = samples.open_folder()
    yield folder
    samples.remove(folder)


def notes(homework) -> list:
    path = homework.root / "tests" / "notes.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def statuses(outcome) -> dict[str, str]:
    return {test.rpartition("::")[2]: r.status for test, r in outcome.records.items()}


def task(number: str, *tests: str) -> str:
    """A test file of `name: body` tests of one task, a point each."""
    lines = []
    for test in tests:
        name, _, body = test.partition(": ")
        marks = "@speed\n" if name.startswith("fast") else ""
        lines.append(f'{marks}@number("{number}")\n@weight(1)\ndef test_{name}(student, rng):\n'
                     f'    note("ran", "{name}")\n    {body or "pass"}\n')  # fmt: skip
    return "\n".join(lines)


def test_the_same_seed_repeats_a_run_and_another_changes_it(folder):
    seen = []
    for place, seed in enumerate((7, 7, 8)):
        code = task("9.1", 'a: note("rng", rng.random())', "other")
        homework = samples.make_homework(
            folder / str(place), THREE, {"test_9_1_a.py": code + CASES}
        )
        job = samples.make_job(homework, folder / f"job{place}", seed=seed, expression="not other")
        outcome = samples.run_job(job)
        assert statuses(outcome) == {"test_a": "passed", "test_cases": "passed"}
        seen.append([value for key, value in notes(homework) if key == "rng"])
    assert seen[0] == seen[1]
    assert not set(seen[0]) & set(seen[2])
    assert len(set(seen[0])) == 3  # each case has numbers of its own


CASES = """
@number("9.1")
@weight(1)
@pytest.mark.parametrize("n", [0, 1])
def test_cases(student, rng, n):
    note("rng", rng.random())
"""


def test_a_test_that_stands_alone_runs_though_its_task_may_not(folder):
    alone = f"@stands_alone\n{task('9.2', 'alone')}\n{task('9.2', 'waits')}"
    tests = {"test_9_1_a.py": task("9.1", "fails: assert False"), "test_9_2_b.py": alone}
    homework = samples.make_homework(folder, THREE, tests)
    outcome = samples.run_job(samples.make_job(homework, folder))
    assert statuses(outcome) == {
        "test_fails": "failed", "test_alone": "passed", "test_waits": "skipped",
    }  # fmt: skip


def test_a_choice_of_tests_counts_what_was_not_chosen_as_done(folder):
    tests = {"test_9_1_a.py": task("9.1", "fails: assert False"),
             "test_9_2_b.py": task("9.2", "needs_one", "fast_two", "wrong: 1 / 0")}  # fmt: skip
    homework = samples.make_homework(folder, THREE, tests)
    outcome = samples.run_job(
        samples.make_job(homework, folder, expression="needs_one or fast_two")
    )
    assert statuses(outcome) == {"test_needs_one": "passed", "test_fast_two": "passed"}


def test_only_the_files_of_chosen_tasks_are_run(folder):
    files = {f"test_{n}_x.py": task(n.replace("_", "."), f"t{n}") for n in ("9_1", "9_2", "9_3")}
    homework = samples.make_homework(
        folder, THREE, files, hidden={"test_9_1_h.py": task("9.1", "h")}
    )
    chosen = samples.make_job(homework, folder, tasks=["9.1"]).files()
    assert [path.relative_to(homework.root).as_posix() for path in chosen] == [
        "tests/test_9_1_x.py", "hidden/test_9_1_h.py",
    ]  # fmt: skip
    samples.remove(folder / "overlay")
    public = samples.make_job(homework, folder, hidden=False)
    assert [path.name for path in public.files()] == list(files)
    # 9.1 does not choose 9.10 or 9.11.
    (homework.root / "tests" / "test_9_10_x.py").write_text("")
    assert "test_9_10_x.py" not in [path.name for path in public.__class__(
        homework, public.overlay, public.work, tasks=["9.1"]).files()]  # fmt: skip


def test_stop_at_loss_ends_at_the_first_lost_point(folder):
    tests = {"test_9_1_a.py": task("9.1", "one", "two: assert False", "three"),
             "test_9_3_c.py": task("9.3", "four")}  # fmt: skip
    homework = samples.make_homework(folder, THREE, tests)
    outcome = samples.run_job(samples.make_job(homework, folder, stop_at_loss=True))
    assert statuses(outcome) == {"test_one": "passed", "test_two": "failed"}
    assert ["ran", "four"] not in notes(homework)


def test_stop_at_loss_does_not_wait_for_the_other_cases(folder):
    code = CASES.replace('note("rng", rng.random())', 'note("case", n); assert n')
    homework = samples.make_homework(folder, THREE, {"test_9_1_a.py": code})
    outcome = samples.run_job(samples.make_job(homework, folder, stop_at_loss=True))
    assert notes(homework) == [["case", 0]]
    # The function is not complete, and it was lost all the same: the record must say so.
    assert statuses(outcome) == {"test_cases": "failed"}


def test_skip_speed_leaves_speed_tests_out(folder):
    homework = samples.make_homework(
        folder, THREE, {"test_9_1_a.py": task("9.1", "one", "fast_two")}
    )
    outcome = samples.run_job(samples.make_job(homework, folder, skip_speed=True))
    assert statuses(outcome) == {"test_one": "passed"}


def test_a_run_that_dies_leaves_what_came_before_and_nothing_after(folder):
    tests = {"test_9_1_a.py": task("9.1", "one", "dies: import os; os._exit(0)", "three"),
             "test_9_3_b.py": task("9.3", "four")}  # fmt: skip
    homework = samples.make_homework(folder, THREE, tests)
    outcome = samples.run_job(samples.make_job(homework, folder))
    assert statuses(outcome) == {"test_one": "passed"}


def test_a_test_whose_last_case_was_not_reached_leaves_no_record(folder):
    code = CASES.replace("[0, 1]", "[0, 1, 2]").replace(
        'note("rng", rng.random())', "import os; n == 2 and os._exit(0)"
    )
    homework = samples.make_homework(folder, THREE, {"test_9_1_a.py": code})
    assert samples.run_job(samples.make_job(homework, folder)).records == {}


def test_a_test_file_that_can_not_be_imported_is_a_fault_that_is_told(folder):
    tests = {"test_9_1_a.py": task("9.1", "one"), "test_9_2_b.py": "import no_such_module"}
    homework = samples.make_homework(folder, THREE, tests)
    outcome = samples.run_job(samples.make_job(homework, folder))
    assert outcome.status not in (0, 1)
    assert "no_such_module" in outcome.fault
    assert outcome.records == {}


# --- hostile answers --------------------------------------------------------------------------

HOSTILE = """\
import numpy as np

def text():
    return "\\ud800"

def curve():
    return {"y": np.zeros(3)}

def fail():
    raise ValueError("\\ud800")

def nan():
    return float("nan")
"""

HOSTILE_DRIVERS = "".join(
    f"def {name}():\n    from tiny import ops\n    return ops.{name}()\n\n"
    for name in ("text", "curve", "fail", "nan")
)

HOSTILE_TESTS = """
@number("9.1")
@weight(1)
def test_text(student):
    got = student.run(drivers.text)
    assert got == "right", f"got {got}"

@number("9.1")
@weight(1)
def test_picture(student, figure):
    figure(kind="curve", title="Loss", data=student.run(drivers.curve))

@number("9.1")
@weight(1)
def test_exception(student):
    student.run(drivers.fail)

@number("9.1")
@weight(1)
@leaderboard("value")
def test_measure(student, set_leaderboard_value):
    value = student.run(drivers.nan)
    student.measure(Measure(name="value", value=value, source="worker-reported"))
    set_leaderboard_value(value)

@number("9.1")
@weight(1)
def test_last(student):
    pass
"""


def test_no_answer_ends_the_run_or_loses_a_record(folder):
    homework = samples.make_homework(
        folder, THREE, {"test_9_1_a.py": HOSTILE_TESTS}, ops=HOSTILE, drivers=HOSTILE_DRIVERS
    )
    outcome = samples.run_job(samples.make_job(homework, folder, transport="sandbox"))
    assert outcome.status == 1, outcome.log
    assert statuses(outcome) == {
        "test_text": "failed", "test_picture": "passed", "test_exception": "failed",
        "test_measure": "passed", "test_last": "passed",
    }  # fmt: skip
    for name in ("test_text", "test_exception"):
        record = outcome.records[f"tests/test_9_1_a.py::{name}"]
        assert record.fault == "student"
        record.message.encode()  # it can be printed and stored
    assert outcome.records["tests/test_9_1_a.py::test_picture"].fraction == 1.0


def test_a_record_that_can_not_be_read_counts_as_absent(tmp_path):
    good = TestRecord(test="tests/test_a.py::test_b", number="9.1", status="passed", fraction=1)
    write_record(tmp_path, good)
    assert read_records(tmp_path) == {good.test: good}
    assert [path.name for path in tmp_path.iterdir()] == [record_path(tmp_path, good.test).name]
    for text in ("", "{", "[]", '{"test": "x"}', '"x"', "\xff"):
        (tmp_path / "bad.json").write_bytes(text.encode("latin-1"))
        assert list(read_records(tmp_path)) == [good.test]


# --- workers ----------------------------------------------------------------------------------

COUNTING = """\
CALLS = []

def count():
    CALLS.append(1)
    return len(CALLS)

def hang():
    while True:
        pass
"""


def test_every_test_has_a_fresh_worker_and_its_calls_share_it(folder):
    twice = "assert [student.run(drivers.count) for _ in range(2)] == [1, 2]"
    homework = samples.make_homework(
        folder, THREE, {"test_9_1_a.py": task("9.1", f"a: {twice}", f"b: {twice}")},
        ops=COUNTING, drivers=HOSTILE_DRIVERS.replace("text", "count"),
    )  # fmt: skip
    job = samples.make_job(homework, folder, transport="sandbox")
    assert statuses(samples.run_job(job)) == {"test_a": "passed", "test_b": "passed"}
    assert list((job.work / "cache").rglob("ops*.pyc")), "byte code is made once for all workers"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_out_of_time_the_run_ends_and_leaves_no_process_and_no_folder(folder, monkeypatch):
    temporary = folder / "tmp"
    temporary.mkdir()
    temporary.chmod(0o711)
    monkeypatch.setenv("TMPDIR", str(temporary))
    hang = 'student.worker; note("pid", student.worker.pid); student.run(drivers.hang, timeout=60)'
    homework = samples.make_homework(
        folder, THREE, {"test_9_1_a.py": task("9.1", "one", f"hangs: {hang}", "three")},
        ops=COUNTING, drivers=HOSTILE_DRIVERS.replace("text", "hang"),
    )  # fmt: skip
    job = samples.make_job(homework, folder, transport="sandbox")
    seen = []

    def watch(record: TestRecord) -> None:
        seen.append(record.test)

    outcome = run_until_hanging(job, homework, watch)
    assert outcome.out_of_time
    assert outcome.fault == ""
    assert statuses(outcome) == {"test_one": "passed"}
    assert seen == ["tests/test_9_1_a.py::test_one"]
    (pid,) = [value for key, value in notes(homework) if key == "pid"]
    until = time.monotonic() + 5
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert not alive(pid)
    assert os.listdir(temporary) == []


def run_until_hanging(job, homework, watch):
    """The job with a deadline that ends it a moment after the hang began, on any machine."""
    clock = time.monotonic

    class Clock:
        """Jumps over the deadline once the worker hangs."""

        @staticmethod
        def monotonic() -> float:
            hanging = any(key == "pid" for key, _ in notes(homework))
            return clock() + (1000 if hanging else 0)

    from autograder.batch import run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "time", Clock)
        return run_tests(job, deadline_seconds=500, on_record=watch)


def test_the_message_of_an_assertion_is_all_that_is_shown(folder):
    """pytest's view of the expression, `assert 1 == 2, where ...`, is none of the student's."""
    code = task("9.1", 'a: assert [1] == [2], "the list is wrong"')
    homework = samples.make_homework(folder, THREE, {"test_9_1_a.py": code})
    outcome = run_tests(samples.make_job(homework, folder))
    (record,) = outcome.records.values()
    assert (record.status, record.message) == ("failed", "the list is wrong")


def test_a_run_tells_which_tests_were_chosen(folder):
    homework = samples.make_homework(
        folder, THREE, {"test_9_1_a.py": task("9.1", "a", "b", "other")}
    )
    chosen = []
    job = samples.make_job(homework, folder, expression="not other")
    outcome = run_tests(job, on_chosen=chosen.append)
    assert chosen == [sorted(outcome.records)]
    assert [test.rpartition("::")[2] for test in chosen[0]] == ["test_a", "test_b"]


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_failure_that_quotes_megabytes_is_cut(folder):
    """An assertion may quote what a student's code sent: notes of ranks, a long list."""
    long = task("9.1", 'long: assert not rng, "begin" + "x" * 40_000_000 + "end"')
    homework = samples.make_homework(folder, THREE, {"test_9_1_a.py": long})
    outcome = samples.run_job(samples.make_job(homework, folder))
    (record,) = outcome.records.values()
    assert record.status == "failed" and len(record.message) <= 20_000
    assert record.message.startswith("begin") and "end\n" in record.message[-100:]
    assert "characters left out" in record.message
    assert len(outcome.log) < 200_000
