"""`make demo`: a homework's whole way, from release to report, with the reference as the student."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from autograder.batch.grade import Grading
from autograder.batch.shown import shown_grade
from autograder.course import data
from autograder.course.assignment import load_assignment
from autograder.course.release import make_release
from autograder.sandbox.host import REPOSITORY

console = Console(highlight=False, soft_wrap=True)


def run_demo(homework: str, out: Path) -> int:
    """Release, fill in, submit, grade, report; returns the exit status."""
    assignment = load_assignment(REPOSITORY / homework)
    try:
        for name in assignment.data:
            data.fetch(name)
    except data.DataError as error:
        console.print(error)
        return 1
    folder = Path(tempfile.mkdtemp(prefix="llm-systems-demo-"))
    try:
        student = folder / "student"
        report = make_release(REPOSITORY, student)
        console.print(f"[bold]1. release[/]  {len(report.files)} files a student gets, no solution")
        for file in assignment.files:
            shutil.copy(assignment.solution_path(file), student / homework / file)
        console.print(f"[bold]2. fill in[/]  {len(assignment.files)} files, from the reference")
        target = folder / "submission.zip"
        subprocess.run(
            [sys.executable, "-c", _SUBMIT, str(student / homework), str(target)],
            cwd=student, check=True,
        )  # fmt: skip
        console.print(f"[bold]3. submit[/]   a zip of {target.stat().st_size / 1024:.0f} kB")
        console.print("[bold]4. grade[/]    public and hidden tests, each in a confined process")
        out.mkdir(parents=True, exist_ok=True)
        graded = shown_grade(assignment, target, out, Grading())
        console.print(f"[bold]5. report[/]   {out / 'report.html'}")
        return 0 if graded.report and graded.report.full else 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# Run with the released harness: the student's own copy makes the zip.
_SUBMIT = """
import pathlib, sys
sys.path.insert(0, ".")
from autograder.course.assignment import load_assignment
from autograder.course.submit import make_submission_zip
make_submission_zip(load_assignment(pathlib.Path(sys.argv[1])), pathlib.Path(sys.argv[2]))
"""
