"""assignment.toml: what is read, and how a mistake is refused with its line."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from autograder.course.assignment import AssignmentError, load_assignment
from autograder.course.toml_lines import TomlLines
from tests.course.samples import TOML, make_course, write


def _line_of(text: str, needle: str) -> int:
    return text[: text.index(needle)].count("\n") + 1


def _refusal(homework: Path, text: str) -> tuple[int, str]:
    write(homework / "assignment.toml", text)
    with pytest.raises(AssignmentError) as caught:
        load_assignment(homework)
    match = re.fullmatch(r"(.*assignment\.toml):(\d+): (.*)", str(caught.value), re.DOTALL)
    assert match, str(caught.value)
    return int(match.group(2)), match.group(3)


def test_a_good_file_is_read_with_defaults(tmp_path: Path) -> None:
    assignment = make_course(tmp_path)
    assert assignment.name == "hw9_tiny"
    assert assignment.total() == 100
    assert assignment.task("9.2").requires == ["9.1"]
    assert assignment.closure(["9.2"]) == {"9.1", "9.2"}
    assert assignment.closure([]) == set()
    assert assignment.limits.wall_seconds == 10
    assert assignment.limits.processes == 0
    assert assignment.root == tmp_path / "hw9_tiny"
    with pytest.raises(KeyError):
        assignment.task("9.3")


def test_a_release_without_solutions_loads(tmp_path: Path) -> None:
    assignment = make_course(tmp_path)
    shutil.rmtree(assignment.root / "solution")
    assert load_assignment(assignment.root).files == assignment.files


def test_requirements_close_over_chains(tmp_path: Path) -> None:
    make_course(tmp_path)
    text = TOML.replace("points = 40", "points = 30") + (
        '\n[[tasks]]\nnumber = "9.3"\ntitle = "x"\npoints = 10\nrequires = ["9.2"]\n'
        'files = ["tiny/add.py"]\n'
    )
    write(tmp_path / "hw9_tiny/assignment.toml", text)
    assert load_assignment(tmp_path / "hw9_tiny").closure(["9.3"]) == {"9.1", "9.2", "9.3"}


# (what to replace, by what, where the message points in the changed text, what it says)
MISTAKES = {
    "bad TOML": ('package = "tiny"', "package = tiny", "package = tiny", "not valid TOML"),
    "unknown field": ("[needs]\n", "[needs]\nmemry_mb = 3\n", "memry_mb", "unknown field"),
    "unknown top field": ('package = "tiny"', 'package = "tiny"\nroot = "/"', "root =", "unknown"),
    "missing field": ("minutes = 5\n", "", "[needs]", "needs.minutes is missing"),
    "missing task field": ('title = "Scaling"\n', "", '[[tasks]]\nnumber = "9.2"', "title is miss"),
    "number without quotes": ('number = "9.2"', "number = 9.2", "number = 9.2", "in quotes"),
    "odd number": ('number = "9.2"', 'number = "two"', 'number = "two"', "'two'"),
    "negative points": ("points = 40", "points = -40", "points = -40", "greater than 0"),
    "twice": ('number = "9.2"', 'number = "9.1"', 'number = "9.1"\ntitle = "Scaling"', "twice"),
    "unknown task": ('requires = ["9.1"]', 'requires = ["9.7"]', "requires", "no task"),
    "own cycle": ('requires = ["9.1"]', 'requires = ["9.2"]', "requires", "requires itself"),
    "total": ("points = 40", "points = 41", "points = 41", "total 101"),
    "outside": ('"tiny/add.py",\n', '"other/add.py",\n', '"other/add.py"', "outside the package"),
    "escape": ('"tiny/add.py",\n', '"tiny/../add.py",\n', '"tiny/../add.py"', "outside"),
    "absolute": ('"tiny/add.py",\n', '"/tiny/add.py",\n', '"/tiny/add.py"', "outside"),
    "suffix": ('"tiny/add.py",\n', '"tiny/add.pth",\n', '"tiny/add.pth"', "can be e"),
    "no reference": ('"tiny/add.py",\n', '"tiny/sub.py",\n', '"tiny/sub.py"', "no reference"),
    "task's file": (
        'files = ["tiny/add.py"]', 'files = ["tiny/ad.py"]', 'files = ["tiny/ad.py"]', "add it",
    ),
    "bad limit": ("[needs]", "[limits]\ncpu_seconds = 0\n\n[needs]", "cpu_seconds", "greater"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_refused_with_its_line(tmp_path: Path, mistake: str) -> None:
    homework = make_course(tmp_path).root
    before, after, where, what = MISTAKES[mistake]
    assert before in TOML
    text = TOML.replace(before, after, 1)
    line, message = _refusal(homework, text)
    assert what in message
    assert line == _line_of(text, where), message
    assert ";" in message, "says what to do"


def test_a_cycle_over_two_tasks_is_refused(tmp_path: Path) -> None:
    homework = make_course(tmp_path).root
    text = TOML.replace("points = 60", 'points = 60\nrequires = ["9.2"]')
    line, message = _refusal(homework, text)
    assert "requires itself" in message
    assert line == _line_of(text, "requires")


def test_a_file_that_is_missing_or_not_utf8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssignmentError, match=r"assignment\.toml:1: cannot be read"):
        load_assignment(tmp_path)
    write(tmp_path / "assignment.toml", b'title = "x"\npackage = "\xff"\n')
    with pytest.raises(AssignmentError, match=r"assignment\.toml:2: not UTF-8"):
        load_assignment(tmp_path)


def test_lists_of_lists_do_not_confuse_line_numbers() -> None:
    lines = TomlLines('a = [\n  ["x"],\n  ["y"]\n]\nb = 1 # ]\n[[t]]\nc = "["\n[[t]]\nc = 2\n')
    assert lines.of(("b",)) == 5
    assert lines.of(("t", 0, "c")) == 7
    assert lines.of(("t", 1, "c")) == 9
    assert lines.of(("t", 1, "missing")) == 8


def test_a_missing_stub_is_refused_where_there_is_no_solution(tmp_path: Path) -> None:
    assignment = make_course(tmp_path)
    shutil.rmtree(assignment.root / "solution")
    (assignment.root / "tiny/add.py").unlink()
    line, message = _refusal(assignment.root, TOML)
    assert line == _line_of(TOML, '"tiny/add.py"')
    assert "does not exist" in message
