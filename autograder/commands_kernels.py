"""The command for students who write CUDA: kernels."""

from __future__ import annotations

from pathlib import Path

import click

from autograder.cli import HOMEWORK, cli, console
from autograder.course.assignment import Assignment
from autograder.course.intake import SubmissionError, own_files
from autograder.reporting.terminal import make_console
from autograder.sandbox.host import REPOSITORY


@cli.command()
@click.argument("homework", type=HOMEWORK)
@click.argument("operation", default="", required=False)
@click.option("--out", type=click.Path(path_type=Path), help="Write the page there.")
def kernels(homework: Assignment, operation: str, out: Path | None) -> None:
    """Show what HOMEWORK's kernels, as they are in its folder, do to memory: counts and pictures.

    OPERATION is an operation, a file or a task (transpose, matmul, 2.4); without it all are run.
    For each version of it: requests by line, sectors and bank conflicts against the least possible,
    barriers, races and bounds, and a modelled time; with nvcc, registers and spills. No points hang
    on it.
    """
    from autograder.batch.kernels import NothingToShow, show_kernels

    try:
        own = own_files(homework)
        folder = out or REPOSITORY / "results" / homework.name
        page = show_kernels(homework, own, operation, folder, make_console())
    except (SubmissionError, NothingToShow) as error:
        raise click.ClickException(str(error)) from None
    console.print(f"\npage with pictures: {page}", highlight=False, soft_wrap=True)
