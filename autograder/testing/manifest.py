"""The list of tests that carry points, read from the staff's test files without running them.

Points come from here and not from what pytest collected: a test that vanished, or was never
reached, is in the manifest and scores 0.
"""

from __future__ import annotations

import ast
import math
import re
from pathlib import Path

from pydantic import BaseModel

from autograder.course.assignment import Assignment

_OF_INTEREST = {"weight", "number", "visibility", "partial_credit", "speed", "reported_by_worker"}


class ManifestError(Exception):
    """A test file breaks the rules for tests; the message names the file and line."""


class ManifestEntry(BaseModel):
    """One test function: `test` is `tests/test_x.py::test_name`, `weight` its points."""

    test: str
    number: str
    weight: float
    title: str
    hidden: bool
    visibility: str = "visible"
    speed: bool = False
    partial: bool = False
    worker_reported: bool = False


def build_manifest(assignment: Assignment, include_hidden: bool = True) -> list[ManifestEntry]:
    """Every test of a homework, public then hidden, in the order of task numbers.

    Raises ManifestError for a test without number or weight, or of a task that is not in
    assignment.toml.
    """
    folders = ["tests", "hidden"] if include_hidden else ["tests"]
    entries: list[ManifestEntry] = []
    known = {task.number: place for place, task in enumerate(assignment.tasks)}
    for folder in folders:
        for path in sorted((assignment.root / folder).glob("test_*.py")):
            entries.extend(_entries_of_file(path, folder, known))
    entries.sort(key=lambda entry: known[entry.number])
    return entries


def check_points(assignment: Assignment, entries: list[ManifestEntry]) -> None:
    """Raise ManifestError unless each task's tests sum to the points in assignment.toml."""
    for task in assignment.tasks:
        own = [entry for entry in entries if entry.number == task.number]
        total = sum(entry.weight for entry in own)
        if abs(total - task.points) > 1e-9:
            raise ManifestError(
                f"{assignment.root / 'assignment.toml'}: task {task.number} is worth "
                f"{task.points:g} points, its tests sum to {total:g}"
            )
        reported = sum(entry.weight for entry in own if entry.worker_reported)
        if reported > 0.2 * task.points + 1e-9:
            raise ManifestError(
                f"task {task.number}: {reported:g} of {task.points:g} points hang on numbers that "
                "the worker reports; at most 20% may"
            )


def _entries_of_file(path: Path, folder: str, known: dict[str, int]) -> list[ManifestEntry]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    except SyntaxError as error:
        raise ManifestError(f"{path}:{error.lineno}: {error.msg}") from error
    entries = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            entries.append(_entry(node, path, folder, known))
    names = [entry.test for entry in entries]
    for name in names:
        if names.count(name) > 1:
            raise ManifestError(f"{path}: {name} is defined twice; the first would never run")
    return entries


def _entry(node: ast.FunctionDef, path: Path, folder: str, known: dict[str, int]) -> ManifestEntry:
    marks = _decorators(node, path)
    weight = marks.get("weight", marks.get("partial_credit"))
    if "number" not in marks or weight is None:
        raise ManifestError(
            f"{path}:{node.lineno}: {node.name} needs @number and @weight (or @partial_credit)"
        )
    number = marks["number"]
    if not isinstance(number, str):  # 1.10 without quotes would be 1.1
        raise ManifestError(f'{path}:{node.lineno}: write the task as text, @number("1.10")')
    if number not in known:
        raise ManifestError(f"{path}:{node.lineno}: no task {number} in assignment.toml")
    if type(weight) not in (int, float) or not 0 < weight < math.inf:  # type: ignore[operator]
        raise ManifestError(f"{path}:{node.lineno}: a weight of {weight!r} is no number of points")
    visibility = marks.get("visibility", "visible")
    if visibility not in ("hidden", "after_due_date", "after_published", "visible"):
        raise ManifestError(f"{path}:{node.lineno}: {visibility!r} is no visibility of Gradescope")
    title = _first_sentence(ast.get_docstring(node) or "")
    return ManifestEntry(
        test=f"{folder}/{path.name}::{node.name}",
        number=number,
        weight=float(weight),  # type: ignore[arg-type]
        title=title or node.name.removeprefix("test_").replace("_", " "),
        hidden=folder == "hidden",
        visibility=str(visibility),
        speed="speed" in marks,
        partial="partial_credit" in marks,
        worker_reported="reported_by_worker" in marks,
    )


def _first_sentence(docstring: str) -> str:
    """The first sentence of a docstring's first paragraph, however many lines it takes."""
    paragraph = " ".join(docstring.strip().partition("\n\n")[0].split())
    return re.split(r"(?<=[.!?])\s+(?=[A-Z(])", paragraph, maxsplit=1)[0]


def _decorators(node: ast.FunctionDef, path: Path) -> dict[str, object]:
    marks: dict[str, object] = {}
    for decorator in node.decorator_list:
        call = decorator if isinstance(decorator, ast.Call) else None
        target = call.func if call else decorator
        name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
        if name not in _OF_INTEREST:
            continue
        marks[name] = None
        if call and call.args:
            try:
                marks[name] = ast.literal_eval(call.args[0])
            except ValueError:
                raise ManifestError(
                    f"{path}:{decorator.lineno}: @{name} takes a literal, so that it can be read "
                    "without running the file"
                ) from None
    return marks
