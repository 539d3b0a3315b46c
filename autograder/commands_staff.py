"""Commands for instructors and maintainers: grade, stubs, release, bundle, gradescope, checks."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from autograder.batch.grade import Grading
from autograder.cli import HOMEWORK, cli, console, homework_folders
from autograder.commands_student import shown_grade
from autograder.course.assignment import Assignment, load_assignment
from autograder.course.stubs import StubDrift, check_stubs, write_stubs
from autograder.sandbox.host import REPOSITORY

FOLDER = click.Path(path_type=Path, file_okay=False)


@cli.command()
@click.argument("homework", type=HOMEWORK)
@click.option("--submission", required=True, type=click.Path(path_type=Path), help="Zip or folder.")
@click.option("--out", required=True, type=FOLDER, help="For results.json and report.html.")
@click.option("--public", is_flag=True, help="Public tests only.")
@click.option("--seed", type=int, help="Replay a grading: its seed is in results.json.")
@click.option("--task", "tasks", multiple=True, help="Only these tasks (may be repeated).")
@click.option("--transport", type=click.Choice(["sandbox", "inprocess"]), default="sandbox",
              help="inprocess: no sandbox, for staff's own code only.")  # fmt: skip
@click.option("--confine", type=click.Choice(["full", "self"]), help="Default: full as root.")
@click.option("--layers", default="landlock,seccomp", show_default=True)
def grade(
    homework: Assignment, submission: Path, out: Path, public: bool, seed: int | None,
    tasks: tuple[str, ...], transport: str, confine: str | None, layers: str,
) -> None:  # fmt: skip
    """Grade a zip or folder with public and hidden tests, confined."""
    how = Grading(hidden=not public, seed=seed, tasks=tasks, transport=transport,
                  confine=confine, layers=layers)  # fmt: skip
    graded = shown_grade(homework, submission, out, how)
    console.print(f"results: {out / 'results.json'}", highlight=False, soft_wrap=True)
    if graded.report:
        console.print(f"report:  {out / 'report.html'}", highlight=False, soft_wrap=True)
    sys.exit(0 if graded.report and graded.report.full else 1)


@cli.command()
@click.option("--check", is_flag=True, help="Write nothing; fail if a stub is out of step.")
def stubs(check: bool) -> None:
    """Write every homework's stubs from its marked reference."""
    for folder in homework_folders():
        assignment = load_assignment(folder)
        if check:
            try:
                check_stubs(assignment)
            except StubDrift as error:
                raise click.ClickException(str(error)) from None
            console.print(f"{assignment.name}: stubs in step")
        else:
            for path in write_stubs(assignment):
                console.print(f"wrote {path.relative_to(REPOSITORY)}", highlight=False)
