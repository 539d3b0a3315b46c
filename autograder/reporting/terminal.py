"""The report in a terminal: progress while grading, then a table, then what failed and where.

Student text enters as `rich.text.Text`, never as markup. Without a terminal (a pipe, CI) there are
plain lines; NO_COLOR is honoured by rich itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import TracebackType

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as LiveProgress
from rich.table import Table
from rich.text import Text

from autograder.reporting.explain import (
    frame_text,
    measure_text,
    replay_command,
    rerun_command,
    what_happened,
)
from autograder.reporting.outcome import FAULT_SENTENCE, Report, TestOutcome, points_text
from autograder.reporting.repeats import (
    UNFINISHED,
    broken_files,
    one_per_task,
    telling_frames,
    the_same_in,
    unfinished_functions,
    warned,
)
from autograder.reporting.sanitise import clean_line, clean_text
from autograder.testing.manifest import ManifestEntry
from autograder.testing.records import TestRecord

MAX_DETAILED = 12
MAX_WARNED = 6
PROSE = 100
_SOURCE = re.compile(r"(> +)?\d+ \|")
_STYLES = {
    "passed": "green",
    "partial": "yellow",
    "failed": "red",
    "grader fault": "bold red",
    "skipped": "dim",
    "not reached": "dim",
    "hidden only": "dim",
}


def final_line(report: Report) -> str:
    """The last line of a grading, e.g. `hw1_autodiff: 63.5 / 100.0 points`."""
    return report.headline()


def print_report(report: Report, console: Console | None = None) -> None:
    """Print what does not compile, the table of tasks, the messages of the tests that lost points, and the final line."""
    console = console or make_console()
    for problem in report.broken:
        console.print(Text("does not compile:", style="bold red"))
        print_indented(Text(problem), console)
    console.print(_table(report))
    for note in report.notes:
        console.print(Text(f"note: {note}"), soft_wrap=not console.is_terminal)
    if report.reached:
        _print_losses(report, console)
        _print_warnings(report, console)
    if replay := replay_command(report):
        text = Text("inputs are drawn anew in each run; those of this one again: ", style="dim")
        console.print(text.append(replay, style="cyan"), soft_wrap=True)
    if report.grader_fault:
        console.print(Text(FAULT_SENTENCE, style="bold red"))
        console.print(Text(report.grader_fault, style="dim"))
    if report.broken:  # the top has scrolled off by now
        files = broken_files(report.broken)
        console.print(Text(f"does not compile: {files} (see the top)", style="bold red"))
    console.print(Text(final_line(report), style="bold"), soft_wrap=True)


def make_console() -> Console:
    """A console on stdout that never reads markup, emoji codes or numbers into a text."""
    return Console(markup=False, emoji=False, highlight=False)


class Progress:
    """Shows a grading while it runs: a live bar in a terminal, else one plain line for each test.

    Use as a context manager, and call `on_record` with every record as it appears.
    """

    def __init__(self, manifest: Sequence[ManifestEntry], console: Console | None = None) -> None:
        self._entries = {entry.test: entry for entry in manifest}
        self._console = console or make_console()
        self._seen: set[str] = set()
        self._lost = 0
        self._live: LiveProgress | None = None
        if self._console.is_terminal:
            self._live = LiveProgress(
                TextColumn("{task.description}", markup=True),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
            )
            self._task = self._live.add_task("grading", total=len(self._entries))

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def on_chosen(self, tests: Sequence[str]) -> None:
        """Count these tests only: somebody chose them by name or task."""
        self._entries = {name: e for name, e in self._entries.items() if name in set(tests)}
        if self._live:
            self._live.update(self._task, total=len(self._entries))

    def on_record(self, record: TestRecord) -> None:
        """Count one test; a record of an unknown test, or a second one, changes nothing."""
        entry = self._entries.get(record.test)
        if entry is None or record.test in self._seen:
            return
        self._seen.add(record.test)
        self._lost += record.status != "passed"
        title = clean_line(entry.title)
        if self._live:
            lost = f", [red]{self._lost} not passed[/red]" if self._lost else ""
            self._live.update(
                self._task, advance=1, description=f"task {escape(entry.number)}{lost}"
            )
        else:
            count = f"[{len(self._seen)}/{len(self._entries)}]"
            text = Text(f"{count} {entry.number:<5} {record.status:<8} {title}")
            self._console.print(text, soft_wrap=True)


def _table(report: Report) -> Table:
    table = Table(
        title=Text(report.title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD,
        pad_edge=False, expand=False,
    )  # fmt: skip
    table.add_column("Task", no_wrap=True)
    table.add_column("", overflow="fold", ratio=1)
    table.add_column("Points", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for task in report.tasks:
        table.add_row(
            Text(task.number, style="bold"),
            Text(task.title, style="bold"),
            _points(task.points, task.maximum),
            _state(task.state),
        )
        skipped = all(test.state == "skipped" for test in task.tests)
        if skipped and task.tests:
            table.add_row("", Text(task.tests[0].message, style="dim"), "", "")
        elif task.state != "passed":
            lost = [test for test in task.tests if test.state != "passed"]
            for test in lost:
                table.add_row(
                    "", _title(test), _points(test.points, test.maximum), _state(test.state)
                )
            if passed := len(task.tests) - len(lost):
                words = f"{passed} other test{'s' * (passed > 1)} passed"
                table.add_row("", Padding(Text(words, style="dim"), (0, 0, 0, 2)), "", "")
    return table


def _title(test: TestOutcome) -> Padding:
    text = Text(test.title)
    if test.hidden:
        text.append(" (hidden)", style="dim")
    return Padding(text, (0, 0, 0, 2))


def _points(points: float, maximum: float) -> Text:
    return Text(f"{points_text(points)} / {points_text(maximum)}")


def _state(state: str) -> Text:
    return Text(state, style=_STYLES[state])


def _print_losses(report: Report, console: Console) -> None:
    lost = [test for test in report.tests() if test.state in ("failed", "partial", "grader fault")]
    unfinished = [test for test in lost if test.exception == UNFINISHED]
    detailed = one_per_task([t for t in lost if t.exception != UNFINISHED and not t.same_as])
    for test in detailed[:MAX_DETAILED]:
        console.print()
        console.print(
            Text(f"{test.number} ", style="bold").append(test.title),
            _state(test.state).append(" (hidden test)" if test.hidden else "", style="dim"),
            soft_wrap=not console.is_terminal,
        )
        print_indented(_details(test, report.name), console)
        if same := [other for other in lost if other.same_as == test.test]:
            print_indented(Text(the_same_in(same)), console)
    if left := detailed[MAX_DETAILED:]:
        names = ", ".join(f"{test.function} ({test.number})" for test in left)
        text = Text(f"\nand {len(left)} more: see the HTML report for {names}")
        console.print(text, soft_wrap=not console.is_terminal)
    if unfinished:
        text = Text(f"\nnot written yet: {unfinished_functions(unfinished)}")
        console.print(text, soft_wrap=not console.is_terminal)
    console.print()


def _print_warnings(report: Report, console: Console) -> None:
    """What the emulator let pass, also of tests that passed."""
    found = warned(list(report.tests()))
    for text, tests in found[:MAX_WARNED]:
        first = tests[0]
        console.print(Text(f"{first.number} ", style="bold").append("warning, which costs no points",
                           style="yellow"))  # fmt: skip
        print_indented(Text(text), console)
        print_indented(Text(f"in {first.function}", style="dim"), console)
        if len(tests) > 1:
            print_indented(Text(the_same_in(tests[1:]), style="dim"), console)
        console.print()
    if len(found) > MAX_WARNED:
        console.print(Text(f"and {len(found) - MAX_WARNED} more warnings: see the HTML report\n"))


def print_indented(text: Text, console: Console) -> None:
    """Two columns in, each line wrapped to where it begins.

    Into a pipe prose is wrapped at PROSE columns; source and commands stay whole, to be copied.
    """
    for line in text.split("\n", allow_blank=True):
        plain = line.plain.lstrip(" ")
        margin = 2 + len(line.plain) - len(plain)
        whole = plain.startswith("make ") or _SOURCE.match(plain)
        width = console.width if console.is_terminal else 10**6 if whole else PROSE
        body = line[len(line.plain) - len(plain) :] if plain else Text()
        for piece in body.wrap(console, max(width - margin, 20)) if plain else [body]:
            piece.rstrip()
            console.print(Text(" " * margin).append(piece) if plain else piece, soft_wrap=True)


def _details(test: TestOutcome, homework: str) -> Text:
    text = Text(what_happened(test))
    for frame in telling_frames(test, 2):
        text.append("\n\n").append(frame_text(frame))
    if test.output:
        printed = clean_text(test.output, max_lines=12, max_characters=2_000)
        text.append("\n\nPrinted by your code:\n").append(printed, style="dim")
    for measure in test.measures:
        text.append("\n\n").append(measure_text(measure))
    command = rerun_command(test, homework)
    if command:
        text.append("\n\n").append(command, style="cyan")
    return text
