"""Gradescope's results.json: its published schema in full, filled in from a report, written safely.

Source of the schema: https://gradescope-autograders.readthedocs.io/en/latest/specs/ . Every text is
sent as format "text", so nothing that a submission printed can be rendered as markup.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from autograder.course.assignment import Assignment
from autograder.reporting.explain import explain
from autograder.reporting.outcome import FAULT_SENTENCE, Report, TestOutcome, points_text
from autograder.reporting.sanitise import clean_text
from autograder.testing.records import write_atomically

OutputFormat = Literal["text", "html", "simple_format", "md", "ansi"]
Visibility = Literal["hidden", "after_due_date", "after_published", "visible"]
# Gradescope cuts an output at 100,000 characters; the sum keeps a whole page quick to load.
MAX_OUTPUT = 100_000
MAX_ALL_OUTPUTS = 1_000_000
_MAX_FILE_BYTES = 8_000_000
_EXACT_INTEGER = 2**53

Output = Annotated[str, Field(max_length=MAX_OUTPUT - 1)]


class ResultsError(Exception):
    """The results do not follow Gradescope's schema; a fault of the grader."""


class _Schema(BaseModel):
    """Unknown fields, NaN and infinity are refused: Gradescope would drop the whole file."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class LeaderboardEntry(_Schema):
    """One column of the leaderboard; `order` "asc" ranks the smallest value first."""

    name: str = Field(min_length=1, max_length=200)
    value: float | str
    order: Literal["asc", "desc"] | None = None


class TestResult(_Schema):
    """One test case as Gradescope shows it."""

    __test__ = False

    score: float | None = Field(default=None, ge=0)
    max_score: float | None = Field(default=None, ge=0)
    status: Literal["passed", "failed"] | None = None
    name: Output | None = None
    name_format: OutputFormat | None = None
    number: str | None = None
    output: Output | None = None
    output_format: OutputFormat | None = None
    tags: list[str] | None = None
    visibility: Visibility | None = None
    extra_data: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _within_maximum(self) -> TestResult:
        if self.score is not None and self.max_score is not None and self.score > self.max_score:
            raise ValueError(f"{self.name}: score {self.score} above its maximum {self.max_score}")
        return self


class Results(_Schema):
    """The whole of results.json; `extra_data` is seen by staff only."""

    score: float | None = Field(default=None, ge=0)
    execution_time: float | None = Field(default=None, ge=0)
    output: Output | None = None
    output_format: OutputFormat | None = None
    test_output_format: OutputFormat | None = None
    test_name_format: OutputFormat | None = None
    visibility: Visibility | None = None
    stdout_visibility: Visibility | None = None
    extra_data: dict[str, Any] | None = None
    tests: list[TestResult] | None = None
    leaderboard: list[LeaderboardEntry] | None = None

    @field_validator("leaderboard")
    @classmethod
    def _distinct_columns(
        cls, value: list[LeaderboardEntry] | None
    ) -> list[LeaderboardEntry] | None:
        names = [column.name for column in value or []]
        if len(names) != len(set(names)):
            raise ValueError("two leaderboard columns have one name")
        return value

    @model_validator(mode="after")
    def _has_score(self) -> Results:
        if self.score is None and not any(test.score is not None for test in self.tests or []):
            raise ValueError("a score is needed, at the top or on a test")
        return self


def results_of(report: Report) -> Results:
    """A report in Gradescope's form; the sum of all outputs stays below a million characters."""
    tests = [_test_result(report, test) for task in report.tasks for test in task.tests]
    spent = sum(len(test.output or "") for test in tests)
    if spent > MAX_ALL_OUTPUTS:
        share = MAX_ALL_OUTPUTS // len(tests)
        tests = [_with_output(test, share) for test in tests]
    return Results(
        score=report.score,
        execution_time=round(report.seconds, 2),
        output=_summary(report),
        output_format="text",
        test_output_format="text",
        test_name_format="text",
        visibility="visible",
        stdout_visibility="hidden",
        extra_data=_staff_data(report),
        tests=tests,
        leaderboard=_leaderboard(report) or None,
    )


def zero_results(assignment: Assignment | None, sentence: str) -> Results:
    """Results that give 0 and say why, for a submission that could not be graded.

    Written before anything of the student's runs, so that whatever happens later there is a file.
    """
    text = clean_text(sentence)
    tasks = assignment.tasks if assignment else []
    return Results(
        score=0.0,
        output=text,
        output_format="text",
        test_output_format="text",
        test_name_format="text",
        visibility="visible",
        stdout_visibility="hidden",
        tests=[
            TestResult(
                score=0.0,
                max_score=task.points,
                status="failed",
                name=task.title,
                number=task.number,
                output=text,
                visibility="visible",
            )
            for task in tasks
        ],
    )


def write_results(path: Path, results: Results) -> None:
    """Validate `results` as it will be read, then replace `path` in one step.

    Raises ResultsError and leaves the old file when they break the schema.
    """
    try:
        text = json.dumps(results.model_dump(exclude_none=True), indent=1, allow_nan=False)
        Results.model_validate_json(text, strict=True)
    except (ValidationError, ValueError, TypeError) as error:
        raise ResultsError(f"results.json would break Gradescope's schema: {error}") from error
    if len(text) > _MAX_FILE_BYTES:
        raise ResultsError(f"results.json would be {len(text):,} bytes, above {_MAX_FILE_BYTES:,}")
    write_atomically(path, text + "\n")


def _test_result(report: Report, test: TestOutcome) -> TestResult:
    tags = [tag for tag, is_on in (("hidden", test.hidden), ("speed", test.speed)) if is_on]
    return TestResult(
        score=test.points,
        max_score=test.maximum,
        status="passed" if test.state == "passed" else "failed",
        name=f"{test.title} (hidden test)" if test.hidden else test.title,
        name_format="text",
        number=test.number,
        output=clean_text(explain(test, report.name), max_lines=2_000, max_characters=50_000),
        output_format="text",
        tags=tags or None,
        visibility=test.visibility,
        extra_data={"grader_fault": test.staff_detail} if test.staff_detail else None,
    )


def _with_output(test: TestResult, size: int) -> TestResult:
    return test.model_copy(
        update={"output": clean_text(test.output or "", max_characters=size, max_lines=2_000)}
    )


def _summary(report: Report) -> str:
    parts = [report.headline()]
    if report.grader_fault:
        parts.append(FAULT_SENTENCE)
    parts.extend(f"does not compile: {problem}" for problem in report.broken)
    parts.extend(f"- {note}" for note in report.notes)
    parts.append("")
    for task in report.tasks:
        parts.append(
            f"{task.number:>5}  {points_text(task.points):>6} / {points_text(task.maximum):<5} "
            f"{task.state:<13} {task.title}"
        )
    return clean_text("\n".join(parts), max_lines=2_000, max_characters=50_000)


def _staff_data(report: Report) -> dict[str, Any]:
    seed = report.seed
    if isinstance(seed, int) and abs(seed) >= _EXACT_INTEGER:
        seed = str(seed)  # a reader in another language would round it
    data: dict[str, Any] = {
        "homework": report.name,
        "seed": seed,
        "public_only": report.public_only,
        "tasks": {task.number: [task.points, task.maximum] for task in report.tasks},
        "not_reached": [test.test for test in report.tests() if test.state == "not reached"],
    }
    if report.grader_fault:
        data["grader_fault"] = report.grader_fault
    return data


def _leaderboard(report: Report) -> list[LeaderboardEntry]:
    columns: dict[str, LeaderboardEntry] = {}
    for test in report.tests():
        if not test.leaderboard:
            continue
        name = clean_text(str(test.leaderboard.get("name", "")), max_characters=100).strip()
        value = test.leaderboard.get("value")
        if isinstance(value, str):
            value = clean_text(value, max_characters=100)
        elif isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if isinstance(value, float) and not math.isfinite(value):
            continue
        order = test.leaderboard.get("order")
        if name:
            columns[name] = LeaderboardEntry(
                name=name, value=value, order=order if order in ("asc", "desc") else None
            )
    return list(columns.values())
