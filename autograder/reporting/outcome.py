"""What one grading comes to: points by test and task, every text made safe once for all reports.

Points come from the manifest; a record only says which fraction of them was earned. The reports
(results.json, terminal, HTML) read nothing but a `Report`, so a rule about what a student may see
has one place: here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from autograder.course.assignment import Assignment
from autograder.reporting.redaction import Redaction, safe_frames
from autograder.reporting.repeats import one_line_a_rank, told_once, unbuilt
from autograder.reporting.sanitise import clean_line, clean_text
from autograder.testing.manifest import ManifestEntry
from autograder.testing.records import Figure, Frame, Measure, TestRecord

State = Literal["passed", "partial", "failed", "skipped", "not reached", "grader fault"]
Visibility = Literal["hidden", "after_due_date", "after_published", "visible"]

FAULT_SENTENCE = "This is a fault of the grader, not of your code: tell the staff."
NOT_REACHED = "the grader did not reach this test"
_VISIBILITIES = ("hidden", "after_due_date", "after_published", "visible")
_MAX_MEASURES = 12
_MAX_FIGURES = 4
_MAX_NOTES = 30
_MAX_WARNINGS = 10


@dataclass(frozen=True)
class TestOutcome:
    """One test as a student may see it; `staff_detail` is for staff only, and free of values."""

    __test__ = False

    test: str
    number: str
    title: str
    hidden: bool
    speed: bool
    visibility: Visibility
    points: float
    maximum: float
    state: State
    exception: str = ""
    message: str = ""
    frames: tuple[Frame, ...] = ()
    output: str = ""
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0
    measures: tuple[Measure, ...] = ()
    figures: tuple[Figure, ...] = ()
    leaderboard: dict[str, Any] | None = None
    staff_detail: str = ""
    same_as: str = ""  # an earlier test that tells of the same error
    edited: frozenset[str] = frozenset()  # the files of the homework that a student edits

    @property
    def function(self) -> str:
        """The test function's name, what `K=` selects."""
        return self.test.rpartition("::")[2]


@dataclass(frozen=True)
class TaskOutcome:
    """One task: the sums over its tests."""

    number: str
    title: str
    points: float
    maximum: float
    state: State | Literal["hidden only"]
    tests: tuple[TestOutcome, ...]
    requires: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """One grading. `maximum` is 100, or what the tests that were to run carry.

    public_only: hidden tests did not run; selected: somebody chose tests by name or task; broken:
    files that do not compile, with place and reason, to be read first.
    """

    name: str
    title: str
    tasks: tuple[TaskOutcome, ...]
    score: float
    maximum: float
    total: float
    public_only: bool = False
    selected: bool = False
    notes: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    seconds: float = 0.0
    seed: int | str | None = None
    grader_fault: str = ""

    def tests(self) -> Iterator[TestOutcome]:
        """All tests in task order."""
        for task in self.tasks:
            yield from task.tests

    @property
    def full(self) -> bool:
        """Whether no point was lost."""
        return all(test.points >= test.maximum for test in self.tests())

    @property
    def reached(self) -> bool:
        """Whether any test ran; false for a submission that could not be unpacked."""
        return any(test.state != "not reached" for test in self.tests())

    def headline(self) -> str:
        """The one line to remember, e.g. `hw1_autodiff: 63.5 / 100.0 points`."""
        if self.selected:
            points = f"{points_text(self.score)} / {points_text(self.maximum)}"
            return f"{self.name}: {points} points of the chosen tests"
        if self.public_only:
            return (
                f"{self.name}: {points_text(self.score)} / {points_text(self.maximum)} public "
                f"points; hidden tests carry the other {points_text(self.total - self.maximum)}"
            )
        score = f"{self.score:.2f}".removesuffix("0")
        return f"{self.name}: {score} / {self.maximum:.1f} points"


def points_text(points: float) -> str:
    """Points without a trailing `.0`, at most two decimals."""
    return f"{round(points, 2):g}"


def build_report(
    assignment: Assignment,
    manifest: Sequence[ManifestEntry],
    records: Mapping[str, TestRecord],
    *,
    notes: Sequence[str] = (),
    broken: Sequence[str] = (),
    seconds: float = 0.0,
    seed: int | str | None = None,
    public_only: bool = False,
    selected: bool = False,
    grader_fault: str | None = None,
) -> Report:
    """The report of one grading.

    `manifest` says what each test is worth, `records` (by test) what each came to; with
    `public_only`, hidden entries are left out of the sums. `grader_fault` is a sentence for staff
    that must hold no hidden value; students are told only that there was a fault. `broken`:
    `FILE:LINE: …` of files that do not compile; kernel files that can't be built are added.
    """
    redaction = Redaction.of(assignment)
    outcomes = [
        _outcome(entry, records.get(entry.test), redaction)
        for entry in manifest
        if not (public_only and entry.hidden)
    ]
    broken, outcomes, tasks = [*broken, *unbuilt(outcomes)], told_once(outcomes), []
    for task in assignment.tasks:
        own = tuple(outcome for outcome in outcomes if outcome.number == task.number)
        if selected and not own:
            continue
        points, maximum = _sums(own)
        tasks.append(
            TaskOutcome(
                number=task.number,
                title=clean_line(task.title),
                points=points,
                maximum=maximum,
                state=_task_state(own),
                tests=own,
                requires=tuple(task.requires),
            )
        )
    score, maximum = _sums(outcomes)
    return Report(
        name=clean_line(assignment.name, 80),
        title=clean_line(assignment.title),
        tasks=tuple(tasks),
        score=score,
        maximum=maximum,
        total=assignment.total(),
        public_only=public_only,
        selected=selected,
        notes=tuple(clean_text(note, max_characters=2_000) for note in list(notes)[:_MAX_NOTES]),
        broken=tuple(clean_text(one, max_characters=2_000) for one in broken[:_MAX_NOTES]),
        seconds=_finite(seconds),
        seed=seed,
        grader_fault=clean_text(grader_fault or "", max_characters=4_000),
    )


def _outcome(entry: ManifestEntry, record: TestRecord | None, redaction: Redaction) -> TestOutcome:
    weight = round(_finite(entry.weight), 4)
    known: dict[str, Any] = {
        "test": entry.test,
        "number": entry.number,
        "title": clean_line(entry.title),
        "hidden": entry.hidden,
        "speed": entry.speed,
        "visibility": entry.visibility if entry.visibility in _VISIBILITIES else "hidden",
        "maximum": weight,
        "edited": redaction.files,
    }
    if record is None:
        return TestOutcome(**known, points=0.0, state="not reached", message=NOT_REACHED)
    points = round(weight * _fraction(entry, record), 4)
    if entry.hidden:
        record = redaction.hidden(record)
    state = _state(record, points, weight)
    message = clean_text(record.message, max_characters=8_000, max_lines=120)
    detail = ""
    if state == "grader fault":
        detail = clean_line(record.exception, 120) or "no exception was named"
        if not entry.hidden:
            detail = f"{detail}: {message}"
        record = record.model_copy(update={"frames": [], "output": "", "exception": ""})
        message = FAULT_SENTENCE
    return TestOutcome(
        **known,
        points=points,
        state=state,
        exception=clean_line(record.exception, 120),
        message=message,
        frames=safe_frames(one_line_a_rank(record.frames, redaction.files)),
        output=clean_text(record.output, max_characters=8_000, max_lines=120),
        warnings=tuple(
            clean_text(one, max_characters=4_000, max_lines=40)
            for one in dict.fromkeys(record.warnings[:_MAX_WARNINGS])
        ),
        seconds=_finite(record.seconds),
        measures=tuple(
            measure for measure in map(_safe_measure, record.measures[:_MAX_MEASURES]) if measure
        ),
        figures=tuple(record.figures[:_MAX_FIGURES]),
        leaderboard=record.leaderboard,
        staff_detail=detail,
    )


def _fraction(entry: ManifestEntry, record: TestRecord) -> float:
    """The part of the weight that was earned, in [0, 1]; NaN and anything doubtful give 0."""
    if record.status == "skipped" or record.fault == "grader":
        return 0.0
    if record.status == "failed" and not entry.partial:
        return 0.0
    return min(max(_finite(record.fraction), 0.0), 1.0)


def _state(record: TestRecord, points: float, weight: float) -> State:
    if record.fault == "grader":
        return "grader fault"
    if record.status == "skipped":
        return "skipped"
    if record.status == "passed" and points >= weight:
        return "passed"
    return "partial" if points > 0 else "failed"


def _task_state(tests: Sequence[TestOutcome]) -> State | Literal["hidden only"]:
    states = {test.state for test in tests}
    if not states:
        return "hidden only"
    if len(states) == 1:
        return states.pop()
    if "grader fault" in states:
        return "grader fault"
    return "partial" if any(test.points > 0 for test in tests) else "failed"


def _sums(tests: Sequence[TestOutcome]) -> tuple[float, float]:
    """Points and maximum to two decimals; the maximum is reached only if no test lost anything."""
    maximum = round(math.fsum(test.maximum for test in tests), 2)
    if all(test.points >= test.maximum for test in tests):
        return maximum, maximum
    points = round(math.fsum(test.points for test in tests), 2)
    return max(min(points, round(maximum - 0.01, 2)), 0.0), maximum


def _safe_measure(measure: Measure) -> Measure | None:
    if not math.isfinite(measure.value):
        return None
    return measure.model_copy(
        update={
            "name": clean_line(measure.name, 160),
            "unit": clean_line(measure.unit, 16),
            "peer": clean_line(measure.peer, 80),
            "note": clean_line(measure.note, 300),
            "full": _finite_or_none(measure.full),
            "zero": _finite_or_none(measure.zero),
        }
    )


def _finite_or_none(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _finite(value: float) -> float:
    return float(value) if math.isfinite(value) and value > 0 else 0.0
