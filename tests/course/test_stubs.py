"""Stubs are written from solutions and checked against them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from autograder.course.assignment import AssignmentError, load_assignment
from autograder.course.marks import MarkError
from autograder.course.stubs import StubDrift, check_stubs, write_stubs
from tests.course.samples import ADD, make_course, write


def test_written_stubs_are_in_step_and_writing_again_changes_nothing(tmp_path: Path) -> None:
    assignment = make_course(tmp_path)
    check_stubs(assignment)
    assert write_stubs(assignment) == []
    stub = (assignment.root / "tiny/add.py").read_text()
    assert stub.startswith('"""Task 9.1."""\n'), "no banner: lines before a mark keep their numbers"
    assert 'raise NotImplementedError("task 9.1: add")' in stub


def test_drift_names_each_file_its_first_differing_line_and_the_remedy(tmp_path: Path) -> None:
    assignment = make_course(tmp_path)
    path = assignment.root / "tiny/add.py"
    path.write_text(path.read_text().replace("Sum of two lists", "Sum of lists"))
    (assignment.root / "tiny/nested/scale.py").unlink()
    with pytest.raises(StubDrift) as caught:
        check_stubs(assignment)
    first, second = str(caught.value).split("\n")
    assert f"{path}:5: out of step" in first and "run make stubs" in first
    assert "scale.py:1: the stub is missing; run make stubs" in second
    assert write_stubs(assignment) == [path, assignment.root / "tiny/nested/scale.py"]
    check_stubs(assignment)


@pytest.mark.parametrize("change", [lambda text: text[:-1], lambda text: text + "x = 1\n"])
def test_drift_at_the_end_of_a_file_is_seen(tmp_path: Path, change) -> None:
    assignment = make_course(tmp_path)
    path = assignment.root / "tiny/add.py"
    path.write_text(change(path.read_text()))
    with pytest.raises(StubDrift, match=r"add\.py:1\d: out of step"):
        check_stubs(assignment)


def test_a_task_without_marks_and_a_solution_without_task_are_seen(tmp_path: Path) -> None:
    assignment = make_course(tmp_path)
    write(assignment.root / "solution/tiny/extra.py", "x = 1\n")
    plain = "\n".join(line for line in ADD.split("\n") if "SOLUTION" not in line)
    write(assignment.root / "solution/tiny/add.py", plain)
    write_stubs(assignment)
    with pytest.raises(StubDrift) as caught:
        check_stubs(assignment)
    assert "no solution of task 9.1 is marked here" in str(caught.value)
    assert "extra.py:1: not among the editable files" in str(caught.value)


def test_bad_marks_write_nothing(tmp_path: Path) -> None:
    assignment = make_course(tmp_path)
    before = (assignment.root / "tiny/add.py").read_text()
    write(assignment.root / "solution/tiny/add.py", ADD.replace("Sum of two", "Sum of"))
    scale = assignment.root / "solution/tiny/nested/scale.py"
    scale.write_text(scale.read_text().replace("SOLUTION 9.2", "SOLUTION 9.3"))
    with pytest.raises(MarkError, match=r"scale\.py:6: there is no task 9\.3"):
        write_stubs(assignment)
    assert (assignment.root / "tiny/add.py").read_text() == before


def test_a_release_has_nothing_to_make_stubs_from(tmp_path: Path) -> None:
    assignment = make_course(tmp_path)
    shutil.rmtree(assignment.root / "solution")
    with pytest.raises(AssignmentError, match="student's copy"):
        write_stubs(load_assignment(assignment.root))
