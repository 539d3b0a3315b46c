"""Why a test lost points, as plain text for results.json, and in parts for the other reports."""

from __future__ import annotations

from autograder.reporting.outcome import Report, TestOutcome, points_text
from autograder.testing.records import Frame, Measure

_SOURCES = {
    "trusted": "measured by the grader",
    "worker-reported": "measured in the process that ran your code",
    "emulator": "counted by the emulator",
}
# The message says it better than the name of the class.
_SAID = ("AssertionError", "NotImplementedError")


def explain(test: TestOutcome, homework: str) -> str:
    """The whole explanation of one test: what went wrong, where, what was printed and measured.

    The parts that have nothing to say are left out; a passed test is one line plus its measures.
    """
    parts = [what_happened(test)]
    parts.extend(frame_text(frame) for frame in test.frames)
    if test.output and test.state != "passed":
        printed = "\n".join(f"    {line}" for line in test.output.split("\n"))
        parts.append(f"Printed by your code:\n{printed}")
    parts.extend(f"Warning, which costs no points:\n{text}" for text in test.warnings)
    parts.extend(measure_text(measure) for measure in test.measures)
    command = rerun_command(test, homework)
    if command and test.state not in ("passed", "skipped"):
        parts.append(f"Run this test alone:\n    {command}")
    return "\n\n".join(part for part in parts if part)


def what_happened(test: TestOutcome) -> str:
    """The message, headed by the exception's name where that adds something."""
    if test.state == "passed":
        return "passed"
    earned = ""
    if test.state == "partial":
        earned = f"{points_text(test.points)} of {points_text(test.maximum)} points."
    exception = test.exception
    if test.hidden:
        body = f"{test.message}\nError: {exception}" if exception else test.message
    elif exception.isidentifier() and exception not in _SAID and exception not in test.message:
        body = f"{exception}: {test.message}" if test.message else exception
    else:
        body = test.message or exception
    return "\n".join(part for part in (earned, body) if part) or test.state


def frame_text(frame: Frame) -> str:
    """A frame with its source lines; the line that was executing has a `>`."""
    lines = [place(frame)]
    width = max((len(str(line.number)) for line in frame.source), default=1)
    for line in frame.source:
        mark = ">" if line.current else " "
        lines.append(f"  {mark} {line.number:>{width}} | {line.text}".rstrip())
    return "\n".join(lines)


def place(frame: Frame) -> str:
    """`FILE:LINE, in FUNCTION (rank 2)`."""
    where = f"{frame.file}:{frame.line}"
    where = f"{where}, in {frame.function}" if frame.function else where
    if not frame.ranks:
        return where
    ranks = ", ".join(map(str, frame.ranks))
    return f"{where} (rank{'s' * (len(frame.ranks) > 1)} {ranks})"


def measure_text(measure: Measure) -> str:
    """One sentence: the number, the ends of its score curve, the peer and who measured it."""
    text = f"{limit_mark(measure)}{measure.name}: {value_text(measure.value, measure.unit)}"
    details = [*curve_parts(measure)]
    if measure.peer:
        details.append(f"peer: {measure.peer}")
    details.append(source_text(measure))
    text = f"{text} ({'; '.join(details)})"
    return f"{text}. {measure.note}" if measure.note else text


def limit_mark(measure: Measure) -> str:
    """Before a number with a limit: a sign whether it keeps it."""
    return "" if measure.met is None else "✓ " if measure.met else "✗ "


def curve_parts(measure: Measure) -> list[str]:
    """The two ends of the score curve, as far as they are known."""
    parts = []
    if measure.full is not None:
        parts.append(f"full points at {value_text(measure.full, measure.unit)}")
    if measure.zero is not None:
        parts.append(f"none at {value_text(measure.zero, measure.unit)}")
    return parts


def source_text(measure: Measure) -> str:
    """Who took the number: it decides how far the number can be believed."""
    return _SOURCES[measure.source]


def value_text(value: float, unit: str) -> str:
    """Three significant digits with the unit; a ratio as `1.31x`."""
    number = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{number}x" if unit in ("x", "×") else f"{number} {unit}".strip()


def curve_position(measure: Measure) -> float | None:
    """Where the value lies between no points (0) and full points (1), or None without a curve."""
    if measure.full is None or measure.zero is None or measure.full == measure.zero:
        return None
    position = (measure.value - measure.zero) / (measure.full - measure.zero)
    return min(max(position, 0.0), 1.0)


def replay_command(report: Report) -> str:
    """The command that gives the run's random inputs once more, "" where that is no one's business.

    A run with hidden tests keeps its seed to itself: their inputs follow from it.
    """
    if not report.public_only or report.seed is None or report.full:
        return ""
    return f"make test HW={report.name} SEED={report.seed}"


def rerun_command(test: TestOutcome, homework: str) -> str:
    """The command that runs this test alone; empty for a hidden test, which students don't have."""
    return "" if test.hidden else f"make test HW={homework} K={test.function}"
