"""The committed stubs: written from the solutions, and compared with them."""

from __future__ import annotations

from pathlib import Path

from autograder.course.assignment import SOLUTION_FOLDER, Assignment, AssignmentError
from autograder.course.marks import CUDA_SUFFIXES, solution_lines, stub_source


class StubDrift(Exception):
    """Stubs and solutions do not agree; one line for each file, with what to do."""


def write_stubs(assignment: Assignment) -> list[Path]:
    """Regenerate every stub; returns the files that changed.

    Raises MarkError for bad marks, before anything is written.
    """
    wanted = {file: expected_stub(assignment, file) for file in assignment.files}
    changed = []
    for file, text in wanted.items():
        path = assignment.stub_path(file)
        data = text.encode()
        if path.is_file() and path.read_bytes() == data:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        changed.append(path)
    return changed


def check_stubs(assignment: Assignment) -> None:
    """Raise StubDrift if a stub differs from its solution, or a task has nothing to write.

    Also for a file in solution/ that no student edits: it would be graded by nobody.
    """
    problems = []
    for file in assignment.files:
        difference = _difference(assignment, file)
        if difference:
            problems.append(difference)
    problems.extend(_unmarked_tasks(assignment))
    problems.extend(_unlisted_solutions(assignment))
    if problems:
        raise StubDrift("\n".join(problems))


def expected_stub(assignment: Assignment, file: str) -> str:
    """The stub of one editable file, from its solution. Raises MarkError, AssignmentError."""
    path = assignment.solution_path(file)
    return stub_source(_solution_text(assignment, path), path, _numbers(assignment))


def _difference(assignment: Assignment, file: str) -> str:
    """A sentence on the first line that differs, or nothing."""
    path = assignment.stub_path(file)
    expected = expected_stub(assignment, file)
    if not path.is_file():
        return f"{path}:1: the stub is missing; run make stubs"
    actual = path.read_bytes().decode("utf-8", "replace")
    if actual == expected:
        return ""
    theirs, ours = actual.split("\n"), expected.split("\n")
    line = next(
        (n for n, (a, b) in enumerate(zip(theirs, ours), start=1) if a != b),
        min(len(theirs), len(ours)) + 1,
    )
    found = repr(theirs[line - 1]) if line <= len(theirs) else "the end of the file"
    wanted = repr(ours[line - 1]) if line <= len(ours) else "the end of the file"
    return (
        f"{path}:{line}: out of step with its solution: it has {found}, not {wanted}; "
        "change the solution if need be, then run make stubs"
    )


def _unmarked_tasks(assignment: Assignment) -> list[str]:
    marked: dict[str, set[str]] = {}
    for file in assignment.files:
        path = assignment.solution_path(file)
        for task in solution_lines(_solution_text(assignment, path), path, _numbers(assignment)):
            marked.setdefault(task, set()).add(file)
    problems = []
    for task in assignment.tasks:
        for file in task.files:
            if file not in marked.get(task.number, set()):
                problems.append(
                    f"{assignment.solution_path(file)}:1: no solution of task {task.number} is "
                    "marked here; add the marks, or take the file from the task's files"
                )
    return problems


def _unlisted_solutions(assignment: Assignment) -> list[str]:
    folder = assignment.root / SOLUTION_FOLDER / assignment.package
    problems = []
    for path in sorted(folder.rglob("*")):
        file = path.relative_to(assignment.root / SOLUTION_FOLDER).as_posix()
        if path.suffix in (".py", *CUDA_SUFFIXES) and file not in assignment.files:
            problems.append(
                f"{path}:1: not among the editable files; add {file} to files, or move it to "
                f"{assignment.package}/, where given code lives"
            )
    return problems


def _solution_text(assignment: Assignment, path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise AssignmentError(
            f"{path}:1: there is no such solution; stubs are made where the solutions are, a "
            f"student's copy of {assignment.name} has none"
        ) from None
    except UnicodeDecodeError:
        raise AssignmentError(f"{path}:1: not UTF-8; save the file as UTF-8") from None


def _numbers(assignment: Assignment) -> list[str]:
    return [task.number for task in assignment.tasks]
