"""The command line: a thin face over the rooms below. `python -m autograder --help`."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console

from autograder.course.assignment import Assignment, AssignmentError, load_assignment
from autograder.sandbox.host import REPOSITORY, GraderFault


class HomeworkName(click.ParamType):
    """A homework by its folder's name or path, e.g. hw1_autodiff."""

    name = "homework"

    def convert(
        self, value: str, param: click.Parameter | None, context: click.Context | None
    ) -> Assignment:
        """The loaded assignment."""
        named = REPOSITORY / value
        folder = named if (named / "assignment.toml").is_file() else Path(value)
        if not (folder / "assignment.toml").is_file():
            known = ", ".join(path.name for path in homework_folders()) or "none here"
            self.fail(f"there is no homework {value!r}; there are: {known}", param, context)
        try:
            return load_assignment(folder)
        except AssignmentError as error:
            self.fail(str(error), param, context)


HOMEWORK = HomeworkName()
console = Console()


def homework_folders() -> list[Path]:
    """The homeworks of this repository."""
    return sorted(path.parent for path in REPOSITORY.glob("hw*/assignment.toml"))


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def cli() -> None:
    """Homeworks on large-language-model systems, and the grader that scores them."""


def main() -> None:
    """Run the command line; a fault of the grader ends in a sentence, not in a traceback."""
    try:
        cli()
    except GraderFault as error:
        console.print(f"[bold red]fault of the grader:[/] {error}", highlight=False)
        sys.exit(3)


from autograder import commands_data, commands_kernels, commands_staff, commands_student  # noqa: E402, F401  they add to `cli`
