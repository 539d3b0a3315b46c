"""What students hand in by mistake: each ends in a score and a sentence, and leaves no trace."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from autograder.batch.grade import Graded, Grading, grade
from autograder.course.assignment import Assignment
from autograder.reporting.results import Results
from tests.attacks.arena import swept_folder
from tests.attacks.homework import SLOTS, make_homework, number_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="grading is confined on Linux only")
TARGET, HONEST = "tiny/slot_1.py", "tiny/honest.py"


@dataclass
class Desk:
    """A homework, a folder to hand in from, and what grading said."""

    assignment: Assignment
    base: Path

    @property
    def folder(self) -> Path:
        """The folder that is handed in, at first the stubs and one finished task."""
        folder = self.base / "handed-in"
        if not folder.exists():
            for file in self.assignment.files:
                self.write(file, self.assignment.stub_path(file).read_bytes())
            self.write(HONEST, self.assignment.solution_path(HONEST).read_bytes())
        return folder

    def write(self, file: str, data: bytes | str) -> Path:
        """A file of the folder."""
        path = self.base / "handed-in" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    def zip(self, members: dict[str, bytes | str]) -> Path:
        """A zip with these members."""
        with zipfile.ZipFile(self.base / "handed-in.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        return self.base / "handed-in.zip"

    def results(self) -> Results:
        """What was written, valid by Gradescope's schema."""
        text = (self.base / "out/results.json").read_text(encoding="utf-8")
        return Results.model_validate_json(text, strict=True)

    def grade(self, submission: Path, **how: object) -> tuple[Graded, str]:
        """The grading, and all that a student reads."""
        graded = grade(self.assignment, submission, self.base / "out", Grading(**how))
        results = self.results()
        assert results.score == graded.score
        outputs = [results.output or ""] + [test.output or "" for test in results.tests or []]
        return graded, "\n".join(outputs)


@pytest.fixture
def desk(monkeypatch):
    """Nothing may be left in the folder for temporary files, and no process."""
    with swept_folder(monkeypatch) as base:
        yield Desk(make_homework(base / "course"), base)


def empty_zip(desk: Desk) -> Path:
    return desk.zip({})


def no_bytes(desk: Desk) -> Path:
    (desk.base / "handed-in.zip").write_bytes(b"")
    return desk.base / "handed-in.zip"


def not_a_zip(desk: Desk) -> Path:
    (desk.base / "handed-in.zip").write_bytes(b"Rar!\x1a\x07\x00 and so on" * 100)
    return desk.base / "handed-in.zip"


def half_a_zip(desk: Desk) -> Path:
    path = desk.zip({HONEST: os.urandom(4000)})
    path.write_bytes(path.read_bytes()[:2000])
    return path


def missing(desk: Desk) -> Path:
    return desk.base / "nowhere"


def empty_folder(desk: Desk) -> Path:
    (desk.base / "handed-in").mkdir()
    return desk.base / "handed-in"


def wrong_folder(desk: Desk) -> Path:
    desk.write("Downloads/cat.jpg", b"\xff\xd8")
    desk.write("notes.txt", "buy milk")
    return desk.base / "handed-in"


def other_homework(desk: Desk) -> Path:
    return desk.zip({"hw8_other/other/model.py": "x = 1\n"})


def sparse_file(path: Path) -> Path:
    with path.open("wb") as file:
        file.truncate(2 << 30)
    return path


def two_gigabyte_zip(desk: Desk) -> Path:
    return sparse_file(desk.base / "handed-in.zip")


def two_gigabyte_file(desk: Desk) -> Path:
    sparse_file(desk.folder / TARGET)
    return desk.folder


def two_gigabytes_packed(desk: Desk) -> Path:
    return desk.zip({TARGET: b"#" * (64 << 20)})


def utf_16(desk: Desk) -> Path:
    text = desk.assignment.solution_path(TARGET).read_text()
    (desk.folder / TARGET).write_bytes(text.encode("utf-16"))
    return desk.folder


def latin_1(desk: Desk) -> Path:
    (desk.folder / TARGET).write_bytes("# schöne Grüße\n".encode("latin-1"))
    return desk.folder


def nul_bytes(desk: Desk) -> Path:
    (desk.folder / TARGET).write_bytes(b"x = 1\n\x00\x00\x00")
    return desk.folder


def link(desk: Desk) -> Path:
    (desk.folder / TARGET).unlink()
    (desk.folder / TARGET).symlink_to("/etc/passwd")
    return desk.folder


def pipe(desk: Desk) -> Path:
    (desk.folder / TARGET).unlink()
    os.mkfifo(desk.folder / TARGET)
    return desk.folder


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (empty_zip, "the submission is empty"),
        (no_bytes, "zip"),
        (not_a_zip, "zip"),
        (half_a_zip, "zip"),
        (missing, "nowhere"),
        (empty_folder, "the submission is empty"),
        (wrong_folder, "none of this homework's files .* Expected: tiny/slot_1.py"),
        (other_homework, "looks like hw8_other"),
        (two_gigabyte_zip, r"GB|MB|too large|zip"),
        (two_gigabyte_file, "slot_1.py"),
        (two_gigabytes_packed, "slot_1.py|times"),
        (utf_16, "slot_1.py is saved as UTF-16; .* save it as UTF-8"),
        (latin_1, "slot_1.py, line 1: not UTF-8"),
        (nul_bytes, "slot_1.py, line 2: holds a NUL byte"),
        (link, "link"),
        (pipe, "slot_1.py"),
    ],
)
def test_what_cannot_be_graded_is_refused_in_a_sentence(
    desk: Desk, make: Callable[[Desk], Path], sentence: str
):
    graded, said = desk.grade(make(desk))
    assert graded.score == 0
    assert graded.refused
    assert re.search(sentence, said, re.DOTALL), said
    assert "fault of the grader" not in said and "Traceback" not in said
    assert len(desk.results().tests or []) == len(desk.assignment.tasks)


# What a student's file may be, and a pattern of what is then said of its task.
BROKEN = [
    ("def running_total(values:\n    return 1\n", r"slot_1.py:1: SyntaxError"),
    ("if True:\nx = 1\n", "slot_1.py:2: IndentationError"),
    ("import pandas\n", "pandas can't be imported: this homework allows numpy"),
    ("from tiny import nothing_there\n", "ImportError"),
    ("while True:\n    pass\n", r"did not finish: no answer within 1.5 s in <module> \(tiny/"),
    ("while True:\n    print('x' * 9999)\n", "printed more than 64 kB"),
    ("x = 1\n", "AttributeError.*running_total"),
    ("", "AttributeError.*running_total"),
    ("running_total = 3\n", "TypeError.*not callable"),
    ("def running_total():\n    pass\n", "TypeError.*positional argument|unexpected keyword"),
    ("def running_total(values):\n    return '12'\n", "'12', expected an array"),
    ("def running_total(values):\n    return input()\n", "EOFError"),
    ("def running_total(values):\n    return " + "(" * 5000 + ")" * 5000, "slot_1.py:2: "),
    ("x = " + "-" * 1_000_000 + "1\n", "slot_1.py:1: "),
]


@pytest.mark.parametrize("first", range(0, len(BROKEN), SLOTS))
def test_a_broken_file_costs_its_own_task_only(desk: Desk, first: int):
    """Graded several at a time, each in a slot of its own."""
    chosen = dict(enumerate(BROKEN[first : first + SLOTS], start=1))
    for slot, (source, _) in chosen.items():
        desk.write(f"tiny/slot_{slot}.py", source.replace("slot_1", f"slot_{slot}"))
    desk.write(HONEST, desk.assignment.solution_path(HONEST).read_bytes())
    graded, _ = desk.grade(desk.base / "handed-in")
    results = desk.results()
    assert graded.score == 40, graded.log
    assert not graded.report.grader_fault
    assert not [t.test for t in graded.report.tests() if t.state in ("grader fault", "not reached")]
    for slot, (source, sentence) in chosen.items():
        told = [t.output for t in results.tests if t.number == number_of(slot)] + [results.output]
        wanted = sentence.replace("slot_1", f"slot_{slot}")
        assert re.search(wanted, "\n".join(told), re.DOTALL), (source[:200], told)


def test_untouched_stubs_score_nothing_and_say_what_to_do(desk: Desk):
    for file in desk.assignment.files:
        desk.write(file, desk.assignment.stub_path(file).read_bytes())
    graded, said = desk.grade(desk.base / "handed-in")
    assert graded.score == 0
    assert "task 9.1: running_total is not implemented yet" in said
    assert "fault of the grader" not in said


def test_missing_files_are_named_and_the_rest_is_graded(desk: Desk):
    graded, said = desk.grade(desk.zip({HONEST: (desk.folder / HONEST).read_bytes()}))
    assert graded.score == 40
    assert "tiny/slot_1.py is missing (looked for tiny/slot_1.py)" in said


def test_a_folder_in_place_of_a_file_is_a_missing_file(desk: Desk):
    (desk.folder / TARGET).unlink()
    (desk.folder / TARGET).mkdir()
    (desk.folder / TARGET / "slot_1.py").write_text("x = 1\n")
    graded, said = desk.grade(desk.folder)
    assert graded.score == 40
    assert "tiny/slot_1.py is missing" in said


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["CRLF", "CRLF and a mark"])
def test_line_ends_and_marks_of_other_systems_do_no_harm(desk: Desk, mark: bytes):
    text = desk.assignment.solution_path(HONEST).read_bytes()
    (desk.folder / HONEST).write_bytes(mark + text.replace(b"\n", b"\r\n"))
    assert desk.grade(desk.folder)[0].score == 40


def test_a_zip_within_a_wrapping_folder_with_leftovers_is_read(desk: Desk):
    inner = {f"hw9_tiny/{HONEST}": (desk.folder / HONEST).read_bytes(), ".DS_Store": b"\0",
             "__MACOSX/._x": b"\0", "hw9_tiny/tiny/__pycache__/x.pyc": b"\0"}  # fmt: skip
    assert desk.grade(desk.zip(inner))[0].score == 40


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(desk: Desk):
    (desk.folder / TARGET).chmod(0)
    graded, said = desk.grade(desk.folder)
    assert graded.score in (0, 40)
    assert "slot_1.py" in said


def test_a_bomb_within_a_bomb_is_refused(desk: Desk):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(HONEST, b"\n" * (50 << 20))
    graded, said = desk.grade(desk.zip({"inner.zip": inner.getvalue()}))
    assert graded.score == 0
    assert graded.refused and "Traceback" not in said


def test_results_are_there_before_anything_runs(desk: Desk, monkeypatch):
    """The power fails at the first step: what is on disk says 0 and that the staff must act."""
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("autograder.batch.grade.read_submission", fail)
    with pytest.raises(KeyboardInterrupt):
        desk.grade(desk.folder)
    results = json.loads((desk.base / "out/results.json").read_text())
    assert results["score"] == 0
    assert "tell the staff" in results["output"]
