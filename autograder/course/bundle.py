"""The zip that an instructor uploads to Gradescope: set-up, run script, harness, one homework."""

from __future__ import annotations

import re
from pathlib import Path

from autograder.course.archive import Member, write_zip
from autograder.course.assignment import FILE_NAME, Assignment
from autograder.course.stubs import expected_stub
from autograder.course.tree import TreeError, project_files

_TEMPLATES = Path(__file__).parent / "templates"
_SCRIPTS = {"setup.sh": "setup.sh", "run_autograder": "run_autograder"}
_HARNESS = "autograder"
_LOCK = "requirements.lock"
# Of a homework: what grading reads. The reference and the mutants have no business there.
_GRADED_FOLDERS = ("tests", "hidden", "data")


class BundleError(Exception):
    """The bundle can't be made; the message says what is missing."""


def make_bundle(assignment: Assignment, root: Path, target: Path) -> Path:
    """Write the Gradescope zip of one homework of the course in `root`; returns `target`.

    The same course gives the same zip. Raises BundleError.
    """
    root = Path(root).absolute()
    name = assignment.name
    if not re.fullmatch(r"[A-Za-z0-9_]+", name):
        raise BundleError(f"{name}: a homework's folder is named with letters, digits and _")
    if not (root / _LOCK).is_file():
        raise BundleError(f"{root / _LOCK} is missing: the versions to install")
    folders = (assignment.package, *_GRADED_FOLDERS)

    def keep(path: str) -> bool:
        parts = path.split("/")
        if parts[0] == _HARNESS or path in (_LOCK, "pyproject.toml", f"{name}/{FILE_NAME}"):
            return True
        return len(parts) > 2 and parts[0] == name and parts[1] in folders

    try:
        files = project_files(root, keep)
    except TreeError as error:
        raise BundleError(str(error)) from None
    members = {file: Member((root / file).read_bytes(), _runs(root / file)) for file in files}
    if not any(file.startswith(f"{_HARNESS}/") for file in members):
        raise BundleError(f"{root / _HARNESS} is missing: the harness that grades")
    for file in assignment.files:
        if assignment.solution_path(file).is_file():
            members[f"{name}/{file}"] = Member(expected_stub(assignment, file).encode())
    for member, template in _SCRIPTS.items():
        text = (_TEMPLATES / template).read_text(encoding="utf-8")
        members[member] = Member(text.replace("@HOMEWORK@", name).encode(), executable=True)
    return write_zip(target, members)


def _runs(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o100)
