"""Grading one submission: zero first, then unpack, overlay, run confined, report."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from autograder.batch.run import Job, Outcome, run_tests
from autograder.course import data
from autograder.course.assignment import Assignment
from autograder.course.intake import Submission, SubmissionError, read_submission
from autograder.course.overlay import build_overlay
from autograder.course.syntax import syntax_problems
from autograder.reporting.html import write_html
from autograder.reporting.outcome import Report, build_report
from autograder.reporting.results import results_of, write_results, zero_results
from autograder.sandbox.host import GraderFault
from autograder.sandbox.processes import remove_tree
from autograder.testing.manifest import ManifestEntry, build_manifest, check_points
from autograder.testing.records import TestRecord

NOT_YET = "Grading did not finish. If you see this, tell the staff: the grader was stopped."


@dataclass
class Grading:
    """How to grade: which tests, what seed, which transport; see `batch.run.Job`."""

    hidden: bool = True
    seed: int | None = None
    tasks: Sequence[str] = ()
    expression: str = ""
    speed: bool = True
    transport: str = "sandbox"
    confine: str | None = None
    layers: str = "landlock,seccomp"
    minutes: float | None = None
    on_start: Callable[[list[ManifestEntry]], None] | None = None
    on_chosen: Callable[[list[str]], None] | None = None
    on_record: Callable[[TestRecord], None] | None = None
    notes: list[str] = field(default_factory=list)


@dataclass
class Graded:
    """The report, or the sentence why there is none, and pytest's log for staff."""

    report: Report | None
    refused: str = ""
    log: str = ""

    @property
    def score(self) -> float:
        """Points earned."""
        return self.report.score if self.report else 0.0


def grade(assignment: Assignment, submission: Path, out: Path | None, how: Grading) -> Graded:
    """Grade a zip or folder; writes results.json, report.html and grader.log into `out`.

    A broken submission ends in results of 0 that say why. A fault of the grader is in the report,
    told apart from the student's.
    """
    _begin(assignment, out)
    try:
        files = read_submission(submission, assignment)
    except SubmissionError as error:
        if out is not None:
            write_results(out / "results.json", zero_results(assignment, str(error)))
        return Graded(None, refused=str(error))
    return grade_files(assignment, files, out, how)


def _begin(assignment: Assignment, out: Path | None) -> None:
    """Results of 0, which stay if nothing better comes."""
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_results(out / "results.json", zero_results(assignment, NOT_YET))


def grade_files(
    assignment: Assignment, submission: Submission, out: Path | None, how: Grading
) -> Graded:
    """Grade files that were unpacked already."""
    started = time.monotonic()
    _begin(assignment, out)
    notes = [*how.notes, *submission.notes]
    broken = syntax_problems(submission.files)
    manifest = build_manifest(assignment, include_hidden=how.hidden)
    has_hidden = (assignment.root / "hidden").is_dir()
    if how.hidden and has_hidden:
        check_points(assignment, manifest)
        _protect(assignment)
    if how.on_start:
        how.on_start(manifest)
    work = Path(tempfile.mkdtemp(prefix="llm-systems-grade-"))
    fault = ""
    outcome: Outcome | None = None
    try:
        work.chmod(0o711)
        if how.hidden and has_hidden and (missing := data.needs(assignment.data)):
            raise GraderFault(f"no test was run: {assignment.name} {missing}")
        job = make_job(assignment, submission, work, how)
        limit = 60 * (how.minutes or assignment.needs.minutes) - (time.monotonic() - started)
        outcome = run_tests(
            job, deadline_seconds=limit, on_record=how.on_record, on_chosen=how.on_chosen
        )
        fault = outcome.fault or _cut_short(outcome, manifest, how)
        if outcome.out_of_time:
            notes.append("time for grading ran out: tests that were not reached score 0")
    except (GraderFault, OSError) as error:
        fault = f"{type(error).__name__}: {error}"
    finally:
        remove_tree(work)
    if how.tasks or how.expression:  # only what was asked for is shown and counted
        ran = outcome.records if outcome else {}
        manifest = [entry for entry in manifest if entry.number in how.tasks or entry.test in ran]
        if not manifest:
            return Graded(None, refused=f"no test matches {how.expression or list(how.tasks)!r}")
    report = build_report(
        assignment, manifest, outcome.records if outcome else {}, notes=notes, broken=broken,
        seconds=time.monotonic() - started, seed=outcome and job.seed,
        public_only=not (how.hidden and has_hidden),
        selected=bool(how.tasks or how.expression), grader_fault=fault or None,
    )  # fmt: skip
    if out is not None:
        write_results(out / "results.json", results_of(report))
        write_html(out / "report.html", report)
        (out / "grader.log").write_text(outcome.log if outcome else fault, encoding="utf-8")
    return Graded(report, log=outcome.log if outcome else fault)


def _cut_short(outcome: Outcome, manifest: list[ManifestEntry], how: Grading) -> str:
    """A sentence if pytest ended well and yet left tests out; "" otherwise."""
    chosen = how.tasks or how.expression or not how.speed
    missing = [entry.test for entry in manifest if entry.test not in outcome.records]
    if chosen or outcome.out_of_time or not missing:
        return ""
    return f"the run ended early: {len(missing)} tests left no record, the first is {missing[0]}"


def make_job(assignment: Assignment, submission: Submission, work: Path, how: Grading) -> Job:
    """The overlay, laid out in `work`, and the job that tests it."""
    overlay = build_overlay(assignment, submission.files, work / "overlay")
    job = Job(assignment, overlay, work / "run", hidden=how.hidden, tasks=how.tasks,
              expression=how.expression, transport=how.transport, layers=how.layers,
              skip_speed=not how.speed)  # fmt: skip
    if how.seed is not None:
        job.seed = how.seed
    if how.confine is not None:
        job.confine = how.confine
    return job


def _protect(assignment: Assignment) -> None:
    """As root, close the staff's folders to every other user (a layer beside Landlock)."""
    if os.geteuid() != 0:
        return
    for name in ("hidden", "solution", "mutants"):
        folder = assignment.root / name
        if folder.is_dir():
            folder.chmod(0o700)
