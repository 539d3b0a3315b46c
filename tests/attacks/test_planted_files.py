"""Files of names that nobody asked for: none is run, none counts, and their names are harmless."""

from __future__ import annotations

import json
import zipfile

import pytest

from autograder.batch.grade import Grading, grade
from tests.attacks.arena import swept_folder
from tests.attacks.homework import make_homework

NASTY = "\x1b[2J\x1b]0;owned\x07<script>alert(1)</script>\u202egnp.py"
PLANTED = (
    *("conftest.py", "tests/conftest.py", "hidden/conftest.py", "tiny/conftest.py"),
    *("sitecustomize.py", "usercustomize.py", "random.py", "numpy.py", "socket.py", "checks.py"),
    *("tests/drivers.py", "tests/test_slots.py", "tests/checks.py", "hidden/test_hidden_slots.py"),
    *("tiny/__init__.py", "hw9_tiny_drivers.py", "autograder/__init__.py", "pytest.py"),
)
SETTINGS = {
    "pytest.ini": "[pytest]\naddopts = --collect-only\n",
    "pyproject.toml": "[tool.pytest.ini_options]\naddopts = '--exitfirst -k nothing'\n",
    "tox.ini": "[pytest]\npython_files = nothing\n",
    "planted.pth": "import os; os._exit(0)\n",
    "assignment.toml": "title = 'All points to me'\n",
    "tiny/slot_1.cpython-311-x86_64-linux-gnu.so": "\x7fELF, it says",
    "tiny/slot_2.so": "\x7fELF, it says",
    "tiny/__pycache__/slot_1.cpython-311.pyc": "not byte code",
    ".env": "PYTEST_ADDOPTS=--collect-only",
    NASTY: "x = 1",
}


@pytest.fixture
def course(monkeypatch):
    """The homework in a folder whose `tmp` all of its gradings use, and leave as it was."""
    with swept_folder(monkeypatch) as base:
        yield make_homework(base / "course")


def test_planted_files_stay_behind(course):
    """Stubs, the honest file, and every file that could change what a test runner does."""
    base = course.root.parents[1]
    marker = base / "planted-code-ran"
    code = f"open({str(marker)!r}, 'w').close()\nraise SystemExit(0)\n"
    members = {file: course.stub_path(file).read_text() for file in course.files}
    members["tiny/honest.py"] = course.solution_path("tiny/honest.py").read_text()
    members |= dict.fromkeys(PLANTED, code) | SETTINGS
    with zipfile.ZipFile(base / "submission.zip", "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    graded = grade(course, base / "submission.zip", base / "out", Grading())
    assert graded.refused == ""
    assert graded.score == 40, graded.log
    assert not marker.exists()
    results = json.loads((base / "out/results.json").read_text())
    assert "ignored conftest.py" in results["output"]
    for text in (results["output"], (base / "out/report.html").read_text()):
        assert "\x1b" not in text and "\u202e" not in text
    assert "<script>alert" not in (base / "out/report.html").read_text()


@pytest.mark.parametrize("name", ["../escape.py", "/etc/planted", "tiny/../../up.py", "C:\\up.py"])
def test_a_way_out_of_the_folder_is_refused(course, name):
    base = course.root.parents[1]
    with zipfile.ZipFile(base / "submission.zip", "w") as archive:
        archive.writestr("tiny/honest.py", course.solution_path("tiny/honest.py").read_text())
        archive.writestr(name, "x = 1")
    graded = grade(course, base / "submission.zip", base / "out", Grading())
    assert graded.score == 0
    assert graded.refused
    results = json.loads((base / "out/results.json").read_text())
    assert results["score"] == 0
    assert graded.refused in results["output"]
