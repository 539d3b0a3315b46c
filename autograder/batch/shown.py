"""Grading with its progress and its table in the terminal."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from autograder.batch.grade import Graded, Grading, grade, grade_files
from autograder.course.assignment import Assignment
from autograder.course.intake import Submission
from autograder.reporting.terminal import Progress, print_report
from autograder.testing.manifest import ManifestEntry

console = Console(highlight=False)


def shown_grade(
    assignment: Assignment, submission: Path | Submission, out: Path | None, how: Grading
) -> Graded:
    """Grade as `batch.grade` does, with a progress bar, and the table or the refusal at the end."""
    with ExitStack() as stack:

        def start(manifest: list[ManifestEntry]) -> None:
            progress = stack.enter_context(Progress(manifest))
            how.on_chosen, how.on_record = progress.on_chosen, progress.on_record

        how.on_start = start
        if isinstance(submission, Submission):
            graded = grade_files(assignment, submission, out, how)
        else:
            graded = grade(assignment, submission, out, how)
    if graded.report is None:
        console.print("[bold red]not graded:[/]", end=" ")
        console.print(graded.refused, markup=False)
    else:
        print_report(graded.report)
    return graded
