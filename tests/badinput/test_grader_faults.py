"""A fault of the grader says so, is told apart from the student's, and leaves nothing behind."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from autograder.batch.grade import Grading, grade_files
from autograder.course.assignment import load_assignment
from autograder.course.intake import Submission
from autograder.reporting.results import Results
from tests.badinput.test_bad_submissions import Desk, desk

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="grading is confined on Linux only")
__all__ = ["desk"]  # the fixture
FAULT = "fault of the grader, not of your code"


def reference(desk: Desk) -> Submission:
    """The whole of the homework, solved."""
    assignment = desk.assignment
    return Submission({f: assignment.solution_path(f).read_bytes() for f in assignment.files})


def change(path: Path, old: str, new: str) -> None:
    """Replace the first `old` in a staff file."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def graded_reference(desk: Desk, **how: object):
    graded = grade_files(desk.assignment, reference(desk), desk.base / "out", Grading(**how))
    text = (desk.base / "out/results.json").read_text()
    return graded, Results.model_validate_json(text, strict=True)


def told(results: Results, number: str) -> str:
    return "\n".join(test.output or "" for test in results.tests if test.number == number)


def test_the_reference_has_no_fault(desk):
    graded, results = graded_reference(desk)
    assert graded.score == 100
    assert FAULT not in str(results)


def test_a_test_that_raises_before_any_answer_is_the_graders(desk):
    change(desk.assignment.root / "hidden/test_hidden_slots.py",
           "    tables = [", "    len(3)\n    tables = [")  # fmt: skip
    graded, results = graded_reference(desk)
    assert graded.score == 96
    assert FAULT in told(results, "9.1")
    assert "TypeError" not in told(results, "9.1")  # the staff read that in extra_data
    assert "TypeError" in str([test.extra_data for test in results.tests[:2]])
    assert all(FAULT not in told(results, f"9.{slot}") for slot in range(2, 8))


def test_a_test_that_chokes_on_an_answer_blames_neither_blindly(desk):
    """The answer was odd or the test was: both are said to be possible."""
    change(desk.assignment.root / "tests/checks.py",
           "    assert_close(", "    len(float(got[0]))\n        assert_close(")  # fmt: skip
    _, results = graded_reference(desk)
    assert "the test could not use what your code returned" in told(results, "9.1")
    assert "tell the staff" in told(results, "9.1")


def test_a_lost_zygote_costs_one_test_and_is_the_graders(desk):
    """Killed in the middle of a test: that one is no student's fault, a new one serves the rest."""
    change(desk.assignment.root / "tests/test_slots.py", "    check_total(student, 3",
           "    student.worker._zygote.end()\n    check_total(student, 3")  # fmt: skip
    graded, results = graded_reference(desk)
    assert graded.score == 94
    assert FAULT in told(results, "9.3")
    assert all(FAULT not in told(results, f"9.{slot}") for slot in (1, 2, 4, 5, 6, 7))


def test_a_homework_whose_packages_are_missing_is_the_graders(desk):
    change(desk.assignment.root / "assignment.toml", '["numpy"]', '["numpy", "no_such_package"]')
    desk.assignment = load_assignment(desk.assignment.root)
    graded, results = graded_reference(desk)
    assert graded.score == 0
    assert FAULT in told(results, "9.1")
    assert "no_such_package" in str(results.tests[0].extra_data)


def test_a_test_file_that_cannot_be_imported_is_the_graders(desk):
    change(desk.assignment.root / "hidden/test_hidden_slots.py", "import numpy as np\n",
           "import numpy as np\nimport no_such_package\n")  # fmt: skip
    graded, results = graded_reference(desk)
    assert "fault of the grader" in results.output
    assert "no_such_package" in graded.log
    assert "no_such_package" in str(results.extra_data)


def test_time_that_runs_out_is_said_and_nothing_outlives_it(desk):
    """The pytest process is ended in the middle of a test; its workers and folders go with it."""
    files = reference(desk)
    files.files["tiny/slot_2.py"] = b"while True:\n    pass\n"
    change(desk.assignment.root / "assignment.toml", "wall_seconds = 1.5", "wall_seconds = 60")
    change(desk.assignment.root / "assignment.toml", "cpu_seconds = 3", "cpu_seconds = 60")
    desk.assignment = load_assignment(desk.assignment.root)
    graded = grade_files(desk.assignment, files, desk.base / "out", Grading(minutes=5 / 60))
    results = Results.model_validate_json((desk.base / "out/results.json").read_text())
    assert "time for grading ran out" in results.output
    assert "the grader did not reach this test" in told(results, "9.7").lower()
    assert graded.score <= 10
    assert not graded.report.grader_fault


def test_a_figure_of_impossible_data_costs_no_other_test(desk):
    """A test passes on to the report what a student returned: it may be anything."""
    change(desk.assignment.root / "tests/test_slots.py",
           'def test_slot_1(student, rng):', 'def test_slot_1(student, rng, figure):')  # fmt: skip
    change(desk.assignment.root / "tests/test_slots.py", "    check_total(student, 1",
           '    figure(kind="graph", title="x", data={"a": np.ones(3), "b": b"\\xff"})\n'
           "    check_total(student, 1")  # fmt: skip
    graded, _ = graded_reference(desk)
    assert graded.score == 100, graded.log


def test_a_warm_up_that_hangs_costs_no_more_than_its_patience(desk, monkeypatch):
    files = reference(desk)
    files.files["tiny/slot_6.py"] += b"\n\ndef prepare():\n    while True:\n        pass\n"
    graded = grade_files(desk.assignment, files, desk.base / "out", Grading())
    assert graded.score == 100, graded.log  # the limit on CPU time ended it after 3 s
