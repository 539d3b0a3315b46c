"""What a homework says about itself: `assignment.toml` read, checked, and refused with its line.

A mistake in this file would silently change what a class is graded on, so nothing is guessed:
an unknown field is an error, and every error names the file, the line and what to do.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from autograder.course.data import DATA
from autograder.course.toml_lines import TomlLines

FILE_NAME = "assignment.toml"
SOLUTION_FOLDER = "solution"
TOTAL_POINTS = 100.0
SOURCE_SUFFIXES = (".py", ".cu")


class AssignmentError(Exception):
    """`assignment.toml` is wrong; the message is `FILE:LINE: what; what to do`."""


class _Strict(BaseModel):
    """Unknown fields are refused: a misspelt limit must not fall back to its default."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class Limits(_Strict):
    """What one test may use in the worker; times in seconds, sizes in the unit of the name."""

    wall_seconds: float = Field(default=10, gt=0)
    cpu_seconds: int = Field(default=20, gt=0)
    memory_mb: int = Field(default=4096, gt=0)
    processes: int = Field(default=0, ge=0)
    open_files: int = Field(default=64, gt=0)
    output_kb: int = Field(default=256, gt=0)
    file_mb: int = Field(default=64, gt=0)
    reply_mb: int = Field(default=256, gt=0)


class Needs(_Strict):
    """What a grading of the whole homework needs from its machine."""

    cpus: float = Field(gt=0)
    memory_mb: int = Field(gt=0)
    minutes: int = Field(gt=0)


class Task(_Strict):
    """One task: `requires` are the tasks that must pass before this one can."""

    number: str = Field(pattern=r"^\d+\.\d+$")
    title: str = Field(min_length=1)
    points: float = Field(gt=0)
    requires: list[str] = Field(default_factory=list)
    files: list[str] = Field(min_length=1)


class _AssignmentFile(_Strict):
    """The fields that `assignment.toml` holds."""

    title: str = Field(min_length=1)
    package: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    files: list[str] = Field(min_length=1)
    imports: list[str] = Field(default_factory=list)
    data: list[str] = Field(default_factory=list)  # names in course.data that grading needs
    kernels: bool = False  # its files are CUDA, built while grading
    draft: bool = False  # being written: neither released nor part of `make test`
    tasks: list[Task] = Field(min_length=1)
    limits: Limits = Field(default_factory=Limits)
    needs: Needs


class Assignment(_AssignmentFile):
    """A homework: the fields of `assignment.toml`, and `root`, the folder that holds it."""

    root: Path

    @property
    def name(self) -> str:
        """The homework's folder name, e.g. `hw1_autodiff`."""
        return self.root.name

    def task(self, number: str) -> Task:
        """The task with this number; KeyError if there is none."""
        for task in self.tasks:
            if task.number == number:
                return task
        raise KeyError(f"{self.name} has no task {number}")

    def closure(self, numbers: Iterable[str]) -> set[str]:
        """`numbers` and everything they require, directly or through other tasks."""
        found: set[str] = set()
        waiting = list(numbers)
        while waiting:
            number = waiting.pop()
            if number not in found:
                found.add(number)
                waiting.extend(self.task(number).requires)
        return found

    def total(self) -> float:
        """Points of the homework; `load_assignment` lets only 100 through."""
        return sum(task.points for task in self.tasks)

    def stub_path(self, file: str) -> Path:
        """Where the student's copy of an editable file lies."""
        return self.root / file

    def solution_path(self, file: str) -> Path:
        """Where the marked reference of an editable file lies (absent in a student release)."""
        return self.root / SOLUTION_FOLDER / file


def load_assignment(homework_dir: Path) -> Assignment:
    """Read and check `homework_dir/assignment.toml`.

    Needs no solution folder (a student's release has none); where there is one, every editable
    file must have its reference in it. Raises AssignmentError.
    """
    root = Path(homework_dir).absolute()
    path = root / FILE_NAME
    text = _read(path)
    lines = TomlLines(text)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise AssignmentError(_toml_message(path, text, error)) from None
    try:
        fields = _AssignmentFile.model_validate(data)
    except ValidationError as error:
        raise AssignmentError(_validation_message(path, lines, data, error)) from None
    assignment = Assignment(root=root, **dict(fields))
    for line, what in _problems(assignment, lines):
        raise AssignmentError(f"{path}:{line}: {what}")
    return assignment


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise AssignmentError(
            f"{path}:1: cannot be read ({error.strerror}); name a homework's folder, one that "
            f"holds {FILE_NAME}"
        ) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise AssignmentError(f"{path}:{line}: not UTF-8; save the file as UTF-8") from None


def _toml_message(path: Path, text: str, error: tomllib.TOMLDecodeError) -> str:
    place = re.search(r"\(at line (\d+), column \d+\)", str(error))
    line = int(place.group(1)) if place else len(text.splitlines()) or 1
    what = re.sub(r" \(at .*\)$", "", str(error))
    return f"{path}:{line}: not valid TOML: {what}; correct this line (strings need quotes)"


def _validation_message(
    path: Path, lines: TomlLines, data: dict[str, Any], error: ValidationError
) -> str:
    """The first mistake in the order of the file, as a sentence."""
    found = []
    for item in error.errors():
        place = tuple(item["loc"])
        shown = ".".join(str(part) for part in place if isinstance(part, str))
        if item["type"] == "missing":
            line, what = lines.of(place[:-1]), f"{shown} is missing; add it here"
        elif item["type"] == "extra_forbidden":
            line, what = lines.of(place), f"unknown field {shown}; remove it or correct its name"
        elif item["type"] == "string_type":
            line, what = lines.of(place), f"{shown} must be text; put it in quotes"
        else:
            line, what = lines.of(place), f"{shown}: {item['msg']}; it is {_short(item['input'])}"
        found.append((line, what))
    line, what = min(found)
    return f"{path}:{line}: {what}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _problems(assignment: Assignment, lines: TomlLines) -> Iterable[tuple[int, str]]:
    """(line, sentence) of what the types alone can't see."""
    yield from _file_problems(assignment, lines)
    yield from _task_problems(assignment, lines)
    for name in assignment.data:
        if name not in DATA:
            known = ", ".join(sorted(DATA))
            yield lines.of_item(("data",), name), f"no data set {name}; name one of {known}"
    total = assignment.total()
    if abs(total - TOTAL_POINTS) > 1e-9:
        line = lines.of(("tasks", len(assignment.tasks) - 1, "points"))
        yield line, (
            f"the tasks' points total {total:g}, not {TOTAL_POINTS:g}; "
            f"{'take away' if total > TOTAL_POINTS else 'add'} {abs(TOTAL_POINTS - total):g}"
        )


def _file_problems(assignment: Assignment, lines: TomlLines) -> Iterable[tuple[int, str]]:
    has_solution = (assignment.root / SOLUTION_FOLDER).is_dir()
    for place, file in enumerate(assignment.files):
        line = lines.of_item(("files",), file)
        path = PurePosixPath(file)
        if file in assignment.files[:place]:
            yield line, f"{file} is listed twice; remove one"
        elif (
            "\\" in file
            or str(path) != file
            or ".." in path.parts
            or len(path.parts) < 2
            or path.parts[0] != assignment.package
        ):
            yield line, (
                f"{file} is outside the package; an editable file is written "
                f"{assignment.package}/name.py"
            )
        elif path.suffix not in SOURCE_SUFFIXES:
            yield line, (
                f"{file}: only {' and '.join(SOURCE_SUFFIXES)} files can be edited; rename it"
            )
        elif has_solution and not assignment.solution_path(file).is_file():
            yield line, (
                f"{file} has no reference; write {SOLUTION_FOLDER}/{file} or remove it from files"
            )
        elif not has_solution and not assignment.stub_path(file).is_file():
            yield line, f"{file} does not exist; restore it or remove it from files"


def _task_problems(assignment: Assignment, lines: TomlLines) -> Iterable[tuple[int, str]]:
    numbers = [task.number for task in assignment.tasks]
    for place, task in enumerate(assignment.tasks):
        here: tuple[str | int, ...] = ("tasks", place)
        if task.number in numbers[:place]:
            yield lines.of((*here, "number")), (
                f"task {task.number} is there twice; give one of them another number"
            )
        for required in task.requires:
            if required not in numbers:
                yield lines.of_item((*here, "requires"), required), (
                    f"task {task.number} requires {required}, which is no task; name one of "
                    + ", ".join(numbers)
                )
        for file in task.files:
            if file not in assignment.files:
                yield lines.of_item((*here, "files"), file), (
                    f"task {task.number} names {file}, which is not in files; add it there"
                )
    for place, task in enumerate(assignment.tasks):
        if task.number in assignment.closure(task.requires):
            yield lines.of(("tasks", place, "requires")), (
                f"task {task.number} requires itself, directly or through other tasks; remove one "
                "of the requirements"
            )
