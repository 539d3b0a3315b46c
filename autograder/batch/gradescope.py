"""Gradescope's side: the command its container runs, and a rehearsal of it here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from autograder.batch.grade import Graded, Grading, grade
from autograder.batch.mutants import reference_files
from autograder.course.assignment import Assignment
from autograder.course.stubs import expected_stub
from autograder.reporting.results import Results, write_results, zero_results

# Setting up, unpacking and reporting happen outside the tests' own time.
MARGIN_MINUTES = 1.0
FAULT = "The grader failed: this is its fault, not your code's. Please tell the course staff."

# Stands for the rehearsal's folder in a submission's files.
ROOT_MARK = "@AUTOGRADER_ROOT@"

SPY = '''
import os as _os
_seen = []
for _path in {paths!r}:
    try:
        _found = _os.listdir(_path) if _os.path.isdir(_path) else open(_path).read()
        _seen.append("READ " + str(_found)[:80])
    except OSError as _error:
        _seen.append(type(_error).__name__)
raise RuntimeError("spy: " + " ".join(_seen))
'''


class RehearsalError(Exception):
    """The bundle does not behave as it must; the message says how."""


def grade_in_container(assignment: Assignment, root: Path, how: Grading) -> Graded | None:
    """Grade `root`/submission into `root`/results, and survive anything.

    Returns None, with a results file of 0 that says so, if the grader itself failed.
    """
    results = root / "results"
    metadata = root / "submission_metadata.json"
    if metadata.exists():
        metadata.chmod(0o600)
    results.mkdir(exist_ok=True)
    results.chmod(0o700)
    how.minutes = max(1.0, assignment.needs.minutes - MARGIN_MINUTES)
    try:
        return grade(assignment, root / "submission", results, how)
    except BaseException:
        traceback.print_exc()
        write_results(results / "results.json", zero_results(assignment, FAULT))
        return None


def rehearse(
    assignment: Assignment, bundle: Path, submission: Mapping[str, bytes], *, full_setup: bool
) -> Results:
    """Lay Gradescope's folders out, run the bundle as its harness would; the results it wrote.

    full_setup: run setup.sh too (it installs every package); otherwise this environment stands in.
    Raises RehearsalError.
    """
    root = Path(tempfile.mkdtemp(prefix="llm-systems-gradescope-"))
    try:
        root.chmod(0o755)
        for name in ("source", "submission", "results"):
            (root / name).mkdir()
        with zipfile.ZipFile(bundle) as archive:
            archive.extractall(root / "source")
        shutil.move(root / "source" / "run_autograder", root / "run_autograder")
        (root / "run_autograder").chmod(0o755)
        for name, data in submission.items():
            path = root / "submission" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data.replace(ROOT_MARK.encode(), str(root).encode()))
        (root / "submission_metadata.json").write_text(json.dumps(METADATA))
        environment = {**os.environ, "AUTOGRADER_ROOT": str(root)}
        if full_setup:
            _run(["sh", str(root / "source" / "setup.sh")], root, environment)
        else:
            (root / "venv").symlink_to(Path(sys.prefix).resolve())
        _run([str(root / "run_autograder")], root, environment)
        return Results.model_validate_json((root / "results" / "results.json").read_text())
    finally:
        shutil.rmtree(root, ignore_errors=True)


# What Gradescope tells the grader: an earlier result must not be readable by the submission.
METADATA = {
    "id": 123456,
    "created_at": "2026-01-31T23:59:59.000000-08:00",
    "assignment": {"title": "rehearsal", "total_points": "100.0"},
    "users": [{"name": "A Student", "email": "student@example.com"}],
    "previous_submissions": [{"score": 12.0, "results": {"tests": []}}],
}


def _run(command: list[str], root: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise RehearsalError(
            f"{command[-1]} ended with status {done.returncode}: {(done.stdout + done.stderr)[-2000:]}"
        )


def spying(assignment: Assignment, files: Mapping[str, bytes]) -> tuple[dict[str, bytes], str]:
    """`files` with a first one that tries to read what is not a submission's, and what shows that
    it ran and could not: a module at its import, a kernel file when it is compiled."""
    paths = [f"{ROOT_MARK}/source/{assignment.name}/hidden", f"{ROOT_MARK}/submission_metadata.json"]
    name = next((file for file in assignment.files if file.endswith(".py")), None)
    if name is not None:
        spy = SPY.format(paths=paths).encode()
        return {**files, name: spy}, "spy: PermissionError PermissionError"
    name = assignment.files[0]
    includes = "".join(f'#include "{path}"\n' for path in paths).encode()
    return {**files, name: includes + files[name]}, "a kernel file may include files of its own folder"


def rehearse_all(assignment: Assignment, bundle: Path, *, full_setup: bool) -> Iterator[str]:
    """Reference 100, stub 0, a spy that reads nothing; a sentence each. Raises RehearsalError."""
    reference = reference_files(assignment)
    stub = {file: expected_stub(assignment, file).encode() for file in assignment.files}
    results = rehearse(assignment, bundle, reference, full_setup=full_setup)
    lost = [f"{t.number} {t.name}: {t.output}" for t in results.tests if t.score != t.max_score]
    if results.score != 100.0:
        raise RehearsalError(f"the reference scores {results.score}\n" + "\n".join(lost))
    yield "reference 100.0, results.json valid"
    results = rehearse(assignment, bundle, stub, full_setup=False)
    if results.score != 0.0:
        raise RehearsalError(f"the stub scores {results.score}")
    yield "stub 0.0, results.json valid"
    files, refused = spying(assignment, reference)
    text = rehearse(assignment, bundle, files, full_setup=False).model_dump_json()
    if refused not in text or "spy: READ" in text:
        raise RehearsalError(f"a submission could read what it must not, or did not run:\n{text}")
    yield "hidden tests and submission_metadata.json: unreadable to the submission"
