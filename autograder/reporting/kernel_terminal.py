"""A call's kernels in a terminal: for each a table of counts by line, then what is wrong."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from autograder.reporting.kernel_panel import Finding, KernelTable, Panel
from autograder.reporting.kernel_pictures import ladder_cell
from autograder.reporting.terminal import make_console, print_indented


def print_panel(panel: Panel, console: Console | None = None) -> None:
    """Print every kernel's table, and the diagnostics."""
    console = console or make_console()
    for kernel in panel.kernels:
        _print_kernel(kernel, console)
    if panel.more_kernels:
        console.print(Text(f"and {panel.more_kernels} more kernels: see the page"))
    for finding in panel.findings:
        _print_finding(finding, console)
    if panel.more_findings:
        console.print(Text(f"and {panel.more_findings} more diagnostics"))
    if panel.dropped:
        console.print(Text(panel.dropped, style="yellow"), soft_wrap=True)
    if panel.kernels and not panel.findings:
        console.print(Text("no race, no access out of bounds, nothing read before it was written",
                           style="green"))  # fmt: skip
    if panel.output:
        console.print(Text("Printed by the kernels:"))
        console.print(Padding(Text(panel.output, style="dim"), (0, 0, 0, 2)))


def print_ladder(versions: Sequence[Mapping[str, Any]], gpu: str, console: Console) -> None:
    """Print one line a version: its traffic against the least possible, and its modelled time."""
    width = max(len(str(one["label"])) for one in versions)
    heads = f"  {'':<{width}}{'requests':>10}{'sectors':>10}{'× least':>9}{'passes':>9}"
    console.print()
    console.print(Text(f"{heads}{'× least':>9}{'barriers':>10}{gpu:>10}", style="dim"), soft_wrap=True)
    for one in versions:
        cells = [ladder_cell(one, key) for key in (
            "requests", "sectors", "sectors_min", "wavefronts", "wavefronts_min", "barriers",
            "seconds",
        )]  # fmt: skip
        sizes = (10, 10, 9, 9, 9, 10, 10)
        text = "".join(f"{cell:>{size}}" for cell, size in zip(cells, sizes, strict=True))
        line = Text(f"  {one['label']:<{width}}", style="bold").append(text, style="default")
        if one.get("wrong"):
            line.append(f"  wrong: {one['wrong']}", style="bold red")
        console.print(line, soft_wrap=True)


def _print_kernel(kernel: KernelTable, console: Console) -> None:
    console.print()
    console.print(Text(kernel.name, style="bold").append(f"  {kernel.launched}", style="dim"),
                  soft_wrap=True)  # fmt: skip
    for line in _rows(kernel):
        console.print(line, soft_wrap=True)
    width = max(len(label) for label, _ in kernel.facts)
    for label, value in kernel.facts:
        console.print(Text(f"  {label:<{width}}  ", style="dim").append(value, style="default"),
                      soft_wrap=True)  # fmt: skip


def _rows(kernel: KernelTable) -> Iterator[Text]:
    """A line of source, and below it what each kind of access in it costs; waste is marked."""
    if kernel.rows:
        heads = f"    {'access':<15}{'requests':>9}{'each':>7}{'least':>7}{'':9}{'degree':>6}{'idle':>9}"
        yield Text(heads, style="dim")
    for place, rows in itertools.groupby(kernel.rows, key=lambda row: (row.place, row.source)):
        name, source = place
        yield Text(f"  {name.rpartition('/')[2]}  ").append(source, style="dim")
        for row in rows:
            text = Text(f"    {row.access:<15}{row.requests:>9}")
            text.append(f"{row.each:>7}", style="bold yellow" if row.wasteful else "")
            text.append(f"{row.least:>7} {row.unit:<8}{row.degree:>6}{row.idle:>9}")
            yield text


def _print_finding(finding: Finding, console: Console) -> None:
    style = "bold red" if finding.error else "bold yellow"
    text = Text(("error: " if finding.error else "warning: ") + finding.head, style=style)
    console.print()
    console.print(text, soft_wrap=True)
    body = Text(finding.message)
    if finding.seen:
        body.append(f"\n{finding.seen}", style="dim")
    for number, source in finding.sources:
        body.append(f"\n  {number} | {source}")
    if finding.called:
        body.append(f"\n{finding.called}")
    body.append(f"\ntry: {finding.hint}", style="cyan")
    print_indented(body, console)
