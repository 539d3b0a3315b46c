"""Commands a student uses: test, debug, submit, doctor."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import click
from rich.text import Text

from autograder.batch.grade import Grading
from autograder.batch.run import Job, environment
from autograder.batch.shown import shown_grade
from autograder.cli import HOMEWORK, cli, console
from autograder.course.assignment import Assignment
from autograder.course.intake import SubmissionError, own_files
from autograder.course.submit import SubmitError, make_submission_zip
from autograder.reporting.repeats import broken_files
from autograder.sandbox.host import REPOSITORY
from autograder.testing.manifest import build_manifest


@cli.command()
@click.argument("homework", type=HOMEWORK)
@click.option("-k", "--keyword", default="", help="Only tests whose name matches (pytest -k).")
@click.option("--seed", type=int, help="Draw the random inputs of the run that named this number.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write report.html there.")
def test(homework: Assignment, keyword: str, seed: int | None, out: Path | None) -> None:
    """Run HOMEWORK's public tests on the code in its folder, and show the points."""
    try:
        own = own_files(homework)
    except SubmissionError as error:
        raise click.ClickException(str(error)) from None
    out = out or REPOSITORY / "results" / homework.name
    how = Grading(hidden=False, expression=keyword, seed=seed)
    graded = shown_grade(homework, own, out, how)
    console.print(f"report: {out / 'report.html'}", highlight=False, soft_wrap=True)
    sys.exit(0 if graded.report and graded.report.full else 1)


@cli.command(context_settings={"ignore_unknown_options": True})
@click.argument("homework", type=HOMEWORK)
@click.argument("keyword", default="", required=False)
@click.argument("pytest_options", nargs=-1, type=click.UNPROCESSED)
def debug(homework: Assignment, keyword: str, pytest_options: tuple[str, ...]) -> None:
    """Run public tests in one process, so that a breakpoint() in your code opens the debugger.

    With --pdb the debugger also opens where a test fails: in your own code if that raised, else in
    the test.
    KEYWORD chooses tests as pytest's -k; further options go to pytest. Without any, --pdb is on.
    """
    if not keyword:
        example = build_manifest(homework, include_hidden=False)[0].test.rpartition("::")[2]
        raise click.ClickException(
            f"name the test to debug, for example: make debug HW={homework.name} K={example}"
        )
    with tempfile.TemporaryDirectory(prefix="llm-systems-debug-") as folder:
        job = Job(homework, homework.root, Path(folder), hidden=False, expression=keyword,
                  transport="inprocess", extra=["-rs", *(pytest_options or ["--pdb"])])  # fmt: skip
        job.prepare()
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *job.arguments()],
            env=environment(job), cwd=homework.root,
        )  # fmt: skip
    sys.exit(done.returncode)


@cli.command()
@click.argument("homework", type=HOMEWORK)
@click.option("--out", type=click.Path(path_type=Path), help="Where to write the zip.")
def submit(homework: Assignment, out: Path | None) -> None:
    """Write the zip to upload for HOMEWORK, then unpack it and grade it with the public tests.

    Exits with 1 if a file in it does not compile, or if it can't be graded.
    """
    target = out or REPOSITORY / f"submission_{homework.name}.zip"
    try:
        make_submission_zip(homework, target)
    except SubmitError as error:
        raise click.ClickException(str(error)) from None
    console.print(f"wrote {target}; now grading what is in it…", highlight=False, soft_wrap=True)
    out = REPOSITORY / "results" / homework.name
    graded = shown_grade(homework, target, out, Grading(hidden=False))
    if graded.report is None:
        console.print(f"[bold red]don't upload yet:[/] {target}", highlight=False, soft_wrap=True)
        sys.exit(1)
    if files := broken_files(graded.report.broken):
        verb = "don't" if " and " in files else "doesn't"
        console.print(Text(f"{files} {verb} compile, don't upload yet: {target}", style="bold red"),
                      soft_wrap=True)  # fmt: skip
        sys.exit(1)
    console.print(f"[bold]upload this file:[/] {target}", highlight=False, soft_wrap=True)


@cli.command()
def doctor() -> None:
    """Say what this machine can do, what is missing, what that costs and how to mend it."""
    from autograder.sandbox import doctor as machine

    sys.exit(machine.main(REPOSITORY, console.print))
