"""The project's checks of itself: what `make test` promises and `make verify` exhausts."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from autograder.batch.grade import Grading, grade_files
from autograder.batch.mutants import Verdict, check_mutants, reference_files
from autograder.batch.run import environment
from autograder.course import data
from autograder.course.assignment import Assignment
from autograder.course.intake import Submission, own_files
from autograder.course.release import ReleaseError, make_release
from autograder.course.stubs import check_stubs, expected_stub
from autograder.sandbox.host import REPOSITORY
from autograder.testing.manifest import build_manifest, check_points

BUSY_GRADINGS = 10
LAYER_SETS = ("landlock,seccomp", "landlock", "seccomp", "")


@dataclass(frozen=True)
class Result:
    """One check: its name, whether it held, what to read, how long it took."""

    name: str
    passed: bool
    detail: str
    seconds: float


class CheckFailed(Exception):
    """A check does not hold; the message says what was found."""


Check = tuple[str, Callable[[], str]]


def run_checks(lanes: list[list[Check]], on_result: Callable[[Result], None]) -> list[Result]:
    """Run each lane's checks in order, the lanes side by side; results come as they are there."""
    results: list[Result] = []
    lock = threading.Lock()

    def run_lane(checks: list[Check]) -> None:
        for name, check in checks:
            started = time.monotonic()
            try:
                detail, passed = check(), True
            except CheckFailed as error:
                detail, passed = str(error), False
            except BaseException as error:  # SystemExit too: it would end the lane unseen
                detail, passed = f"{type(error).__name__}: {error}", False
            result = Result(name, passed, detail, time.monotonic() - started)
            with lock:
                results.append(result)
                on_result(result)

    threads = [threading.Thread(target=run_lane, args=(lane,)) for lane in lanes if lane]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def staff_checks(homeworks: list[Assignment], full: bool) -> list[list[Check]]:
    """The lanes for a repository that has the references."""
    ours = [
        ("the release gives nothing hidden away", _release),
        ("harness tests, attacks and bad input", _harness_tests),
    ]
    theirs: list[Check] = []
    for homework in homeworks:
        theirs += homework_checks(homework, full)
    return [theirs, ours]


def homework_checks(homework: Assignment, full: bool) -> Iterator[Check]:
    """What must hold of one homework."""
    name = homework.name
    reference = Submission(reference_files(homework), [])
    stub = Submission({f: expected_stub(homework, f).encode() for f in homework.files}, [])
    if homework.data:
        yield f"{name}: real data", lambda: _data(homework)
    yield f"{name}: stubs in step, points agree", lambda: _in_step(homework)
    yield f"{name}: reference 100", lambda: _hundred(homework, reference, Grading())
    yield f"{name}: stub 0", lambda: _stub(homework, stub)
    yield f"{name}: both transports agree", lambda: _transports(homework, reference)
    if full:
        yield f"{name}: the first tasks score exactly their points", lambda: _part(homework)
        for layers in LAYER_SETS:
            yield (
                f"{name}: reference 100 with layers [{layers}]",
                lambda layers=layers: _hundred(homework, reference, Grading(layers=layers)),
            )
        yield f"{name}: {BUSY_GRADINGS} gradings beside a busy neighbour", lambda: _busy(
            homework, reference
        )
    # Last: under all tests this takes most of an hour.
    yield f"{name}: mutants caught", lambda: _mutants(homework, full)


def _harness_tests() -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests", "-q", "-p", "no:cacheprovider",
         "--import-mode=importlib", "--noconftest", "-c", os.devnull, "--rootdir=."],
        cwd=REPOSITORY, capture_output=True, text=True, env=environment(),
    )  # fmt: skip
    if done.returncode != 0:
        raise CheckFailed(done.stdout[-6000:] + done.stderr[-2000:])
    return done.stdout.strip().splitlines()[-1]


def _release() -> str:
    with tempfile.TemporaryDirectory(prefix="llm-systems-release-") as folder:
        try:
            report = make_release(REPOSITORY, Path(folder) / "release")
        except ReleaseError as error:
            raise CheckFailed(str(error)) from None
    return f"{len(report.files)} files, {report.secret_lines} hidden lines in none of them"


def _data(homework: Assignment) -> str:
    """Fetch what is not there yet."""
    try:
        return ", ".join(str(data.fetch(name)) for name in homework.data)
    except data.DataError as error:
        raise CheckFailed(str(error)) from None


def _in_step(homework: Assignment) -> str:
    check_stubs(homework)
    manifest = build_manifest(homework)
    check_points(homework, manifest)
    public = sum(entry.weight for entry in manifest if not entry.hidden)
    return f"{len(manifest)} tests, {public:g} points public, {100 - public:g} hidden"


def _hundred(homework: Assignment, reference: Submission, how: Grading) -> str:
    graded = grade_files(homework, reference, None, how)
    report = graded.report
    if report is None or report.score != 100.0:
        lost = [f"{t.test}: {t.message}" for t in report.tests() if t.points < t.maximum]
        raise CheckFailed(f"{graded.score} points\n" + "\n".join(lost) + graded.log[-1500:])
    return f"{report.score} points in {report.seconds:.0f} s"


def _stub(homework: Assignment, stub: Submission) -> str:
    graded = grade_files(homework, stub, None, Grading())
    report = graded.report
    faults = [t.test for t in report.tests() if t.state in ("grader fault", "not reached")]
    if graded.score != 0 or faults:
        earned = [t.test for t in report.tests() if t.points > 0]
        raise CheckFailed(f"{graded.score} points: {earned}; faults: {faults}")
    return f"0 points in {report.seconds:.0f} s"


def _part(homework: Assignment) -> str:
    """The reference for the first half of the tasks (and what they require), stubs for the rest."""
    numbers = [task.number for task in homework.tasks]
    chosen = homework.closure(numbers[: len(numbers) // 2])
    own = {file for number in chosen for file in homework.task(number).files}
    reference = reference_files(homework)
    graded = grade_files(
        homework, Submission({file: reference[file] for file in sorted(own)}, []), None, Grading()
    )
    expected = sum(homework.task(number).points for number in chosen)
    if graded.score != expected:
        lost = [f"{t.number} {t.points:g}/{t.maximum:g}" for t in graded.report.tasks]
        raise CheckFailed(f"{graded.score} points, not {expected:g}: {', '.join(lost)}")
    return f"{graded.score:g} points for {', '.join(n for n in numbers if n in chosen)}"


def _transports(homework: Assignment, reference: Submission) -> str:
    graded = grade_files(homework, reference, None, Grading(transport="inprocess", speed=False))
    states = {test.test: test for test in graded.report.tests() if not test.speed}
    lost = [t for t in states.values() if t.state not in ("passed", "skipped")]
    if lost:
        raise CheckFailed("\n".join(f"{t.test} in process: {t.message}" for t in lost))
    skipped = sum(test.state == "skipped" for test in states.values())
    return f"{len(states) - skipped} tests agree, {skipped} need a process of their own"


def _mutants(homework: Assignment, full: bool) -> str:
    verdicts = check_mutants(homework, full=full)
    bad = [verdict for verdict in verdicts if not verdict.good]
    if bad:
        raise CheckFailed("\n".join(describe(verdict) for verdict in bad))
    seconds = sorted(verdict.seconds for verdict in verdicts)
    return f"{len(verdicts)} of {len(verdicts)} caught, median {seconds[len(seconds) // 2]:.1f} s"


def describe(verdict: Verdict) -> str:
    """Why a mutant's verdict is bad."""
    mutant = verdict.mutant
    if verdict.problem:
        return f"{mutant.path.name}: {verdict.problem}"
    if not verdict.caught:
        return f"{mutant.path.name} ({mutant.error}) loses nothing in task {mutant.task}"
    return f"{mutant.path.name} also loses points in {', '.join(verdict.stray)}: {verdict.lost}"


def _busy(homework: Assignment, reference: Submission) -> str:
    """Gradings while two endless loops keep both processors occupied."""
    spin = [sys.executable, "-c", "while True: pass"]
    neighbours = [subprocess.Popen(spin) for _ in range(os.cpu_count() or 1)]
    try:
        seconds = []
        for _ in range(BUSY_GRADINGS):
            graded = grade_files(homework, reference, None, Grading())
            if graded.score != 100.0:
                lost = [f"{t.test}: {t.message}" for t in graded.report.tests()
                        if t.points < t.maximum]  # fmt: skip
                raise CheckFailed(f"grading {len(seconds) + 1}: {graded.score}\n" + "\n".join(lost))
            seconds.append(graded.report.seconds)
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()
    return f"{BUSY_GRADINGS} × 100 points, {min(seconds):.0f} to {max(seconds):.0f} s each"


def released_checks(homeworks: list[Assignment]) -> list[list[Check]]:
    """The lanes for a student's copy, which has neither references nor hidden tests."""
    return [[(f"{h.name}: the harness runs your code", lambda h=h: _first_look(h)) for h in homeworks]]


def _first_look(homework: Assignment) -> str:
    """Points of the public tests; unfinished tasks are no error, a fault of the grader is one.

    Neither is data that can't be fetched: the tests that need it are skipped.
    """
    note = ""
    try:
        for name in homework.data:
            data.fetch(name)
    except data.DataError as error:
        note = f"; {error}"
    graded = grade_files(homework, own_files(homework), None, Grading(hidden=False))
    report = graded.report
    faults = [t.test for t in report.tests() if t.state in ("grader fault", "not reached")]
    if faults or report.grader_fault:
        raise CheckFailed(f"faults of the grader: {faults} {report.grader_fault}")
    return report.headline() + note

