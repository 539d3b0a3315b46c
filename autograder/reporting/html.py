"""The report as one HTML page: no script, nothing loaded, every text escaped by the template."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2

from autograder.reporting import explain
from autograder.reporting.figures import Drawing, draw
from autograder.reporting.outcome import (
    FAULT_SENTENCE,
    Report,
    TaskOutcome,
    TestOutcome,
    points_text,
)
from autograder.reporting.repeats import the_same_in, warned
from autograder.reporting.sanitise import clean_line, clean_text
from autograder.testing.records import Figure, Measure, write_atomically

if TYPE_CHECKING:
    from autograder.reporting.kernel_panel import Panel

_TEMPLATES = Path(__file__).parent / "templates"
_MAX_FIGURES = 24
_MAX_PANELS = 60  # of kernels: folded away, and small
# Not colour alone: each state has a sign of its own, read out as its word.
_SIGNS: Mapping[str, str] = {
    "passed": "✓",
    "partial": "◐",
    "failed": "✗",
    "skipped": "–",
    "not reached": "?",
    "grader fault": "!",
    "hidden only": "–",
}


@dataclass(frozen=True)
class _Picture:
    title: str
    drawing: Drawing | None
    panel: Panel | None = None


@dataclass(frozen=True)
class _Curve:
    """A measure with what the template needs to draw its place on the score curve."""

    measure: Measure
    value: str
    zero: str
    full: str
    percent: float | None
    mark: str
    details: list[str]


def render_html(report: Report) -> str:
    """The whole page. It needs no network and no script, and follows the reader's dark mode."""
    budget = {"figures": _MAX_FIGURES, "panels": _MAX_PANELS}
    pictures = {
        test.test: [_picture(figure, budget) for figure in test.figures] for test in report.tests()
    }
    return (
        template_environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            pictures={test: [p for p in drawn if p] for test, drawn in pictures.items()},
            lost=[test for test in report.tests() if test.state != "passed"],
            fault_sentence=FAULT_SENTENCE,
            score_percent=_percent(report.score, report.maximum),
        )
    )


def write_html(path: Path, report: Report) -> None:
    """Replace `path` by the page in one step."""
    write_atomically(path, render_html(report))


@functools.cache
def template_environment() -> jinja2.Environment:
    """The templates of this folder, autoescaped; an undefined name is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        points=points_text,
        clean=clean_text,
        sign=lambda state: _SIGNS[state],
        anchor=lambda text: "".join(c if c.isascii() and c.isalnum() else "-" for c in text),
    )
    environment.globals.update(
        what_happened=explain.what_happened,
        place=explain.place,
        rerun=explain.rerun_command,
        replay=explain.replay_command,
        curve=_curve,
        percent=_percent,
        summary=_summary,
        needs_detail=_needs_detail,
        told_elsewhere=_told_elsewhere,
        same_elsewhere=_same_elsewhere,
        warned=warned,
    )
    return environment


def _picture(figure: Figure, budget: dict[str, int]) -> _Picture | None:
    purse = "panels" if figure.kind == "kernels" else "figures"
    if budget[purse] <= 0:
        return None
    budget[purse] -= 1
    title = clean_line(figure.title, 120)
    if figure.kind == "kernels":  # tables beside the pictures
        return _Picture(title=title, drawing=None, panel=_panel(figure))
    return _Picture(title=title, drawing=draw(figure))


def _panel(figure: Figure) -> Panel | None:
    from autograder.reporting.kernel_panel import panel_of  # only homework 2 needs it

    try:
        return panel_of(figure.data)
    except Exception:  # as in `draw`: bad data cost the picture, not the report
        return None


def _curve(measure: Measure) -> _Curve:
    position = explain.curve_position(measure)
    details = explain.curve_parts(measure) if position is None else []
    if measure.peer:
        details.append(f"peer: {measure.peer}")
    details.append(explain.source_text(measure))
    return _Curve(
        measure=measure,
        value=explain.value_text(measure.value, measure.unit),
        zero="" if position is None else explain.value_text(measure.zero or 0.0, measure.unit),
        full="" if position is None else explain.value_text(measure.full or 0.0, measure.unit),
        mark=explain.limit_mark(measure).strip(),
        percent=None if position is None else round(100 * position, 1),
        details=details,
    )


def _percent(part: float, whole: float) -> float:
    return round(100 * part / whole, 2) if whole > 0 else 0.0


def _summary(task: TaskOutcome) -> str:
    """`3 of 5 tests passed`, in words that a table cell has room for."""
    if not task.tests:
        return "hidden tests only"
    count = len(task.tests)
    passed = sum(test.state == "passed" for test in task.tests)
    if passed == count:
        return f"all {count} tests passed" if count > 1 else "its test passed"
    skipped = {test.message for test in task.tests if test.state == "skipped"}
    if len(skipped) == 1 and all(test.state == "skipped" for test in task.tests):
        return skipped.pop()
    return f"{passed} of {count} tests passed"


def _needs_detail(test: TestOutcome) -> bool:
    """Whether a test says more than its row in the table; a skip or a missing record does not."""
    return test.state in ("failed", "partial", "grader fault") and not test.same_as


def _told_elsewhere(task: TaskOutcome, report: Report) -> list[str]:
    """For the tests of a task whose failure a test of another task tells: a line each teller."""
    tellers = {test.test: test for test in report.tests()}
    groups: dict[str, list[TestOutcome]] = {}
    for test in task.tests:
        if test.same_as and tellers[test.same_as].number != task.number:
            groups.setdefault(test.same_as, []).append(test)
    return [
        f"{', '.join(test.function for test in tests)}: see {tellers[name].function} "
        f"of task {tellers[name].number}"
        for name, tests in groups.items()
    ]


def _same_elsewhere(test: TestOutcome, report: Report) -> str:
    """Below a test's failure: which others fail in the same way."""
    same = [other for other in report.tests() if other.same_as == test.test]
    return the_same_in(same) if same else ""
