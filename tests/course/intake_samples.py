"""What the tests of intake share: a tiny homework, and its submission in several forms."""

from __future__ import annotations

from pathlib import Path

import pytest

from autograder.course.assignment import Assignment
from autograder.course.intake import Submission, SubmissionError, read_submission
from tests.course.samples import make_course, make_zip, write

ADD = b"def add(a, b):\n    return a + b\n"
SCALE = b"def scale(a, b):\n    return a * b\n"
BOTH = {"tiny/add.py": ADD, "tiny/nested/scale.py": SCALE}


@pytest.fixture(scope="module")
def homework(tmp_path_factory: pytest.TempPathFactory) -> Assignment:
    root = tmp_path_factory.mktemp("course")
    other = make_course(root, "hw8_other").root / "assignment.toml"
    other.write_text(other.read_text().replace("tiny", "bigger"))
    return make_course(root)


def folder_of(path: Path, files: dict[str, bytes]) -> Path:
    path.mkdir(exist_ok=True)
    for name, content in files.items():
        write(path / name, content)
    return path


def refusal(path: Path, homework: Assignment) -> str:
    with pytest.raises(SubmissionError) as caught:
        read_submission(path, homework)
    message = str(caught.value)
    assert message.isprintable(), "safe to print"
    return message


def both_ways(tmp_path: Path, files: dict[str, bytes], homework: Assignment) -> list[Submission]:
    """The same submission as a folder, as a zip, and as a folder that holds the zip."""
    path = make_zip(tmp_path / "upload/work.zip", dict(files))
    ways = [folder_of(tmp_path / "folder", files), path, path.parent]
    return [read_submission(way, homework) for way in ways]
