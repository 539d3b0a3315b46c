"""The pytest plugin of a homework's tests: fixtures, order, prerequisites, one record a test.

Loaded by name while grading (`-p autograder.testing.plugin`); no other plugin and no conftest is.
"""

from __future__ import annotations

import signal
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autograder.course.assignment import load_assignment
from autograder.sandbox.host import GraderFault, WorkerRaised
from autograder.testing import cuda
from autograder.testing.grading import Run
from autograder.testing.records import Figure, TestRecord, write_chosen, write_record
from autograder.testing.student import Student, StudentError

RUN = pytest.StashKey[Run]()
BOARD = pytest.StashKey["Board"]()
STUDENT = pytest.StashKey[Student]()
RUNNING = pytest.StashKey[cuda.Running]()
FIGURES = pytest.StashKey[list]()

# Of a message, and of what pytest writes of a failure: they may quote what a student's code sent.
MAX_MESSAGE, MAX_LOGGED = 20_000, 60_000
NOT_RAISED_BY_STUDENTS = "this is a fault of the grader, not of your code: please tell the staff"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("homework")
    group.addoption("--homework", help="the homework's folder")
    group.addoption("--overlay", help="folder that holds the package to test")
    group.addoption("--cache", help="folder for compiled kernels and byte code")
    group.addoption("--records", help="folder for one JSON file a test")
    group.addoption("--transport", choices=["sandbox", "inprocess"], default="sandbox")
    group.addoption("--confine", choices=["full", "self", "none"], default="self")
    group.addoption("--layers", default="landlock,seccomp", help="confinement layers to use")
    group.addoption("--skip-speed", action="store_true", help="leave out speed tests")
    group.addoption("--stop-at-loss", action="store_true", help="stop at the first lost point")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "forbid_blas: BLAS is out of reach in this test's worker")
    config.addinivalue_line("markers", "warm_up(*names): run these of drivers.WARM_UP first")
    if not config.getoption("--homework"):
        return
    cache = config.getoption("--cache")
    run = Run(
        assignment=load_assignment(Path(config.getoption("--homework")).resolve()),
        overlay=Path(config.getoption("--overlay")).resolve(),
        cache=Path(cache).resolve() if cache else None,
        seed=int(os.environ.get("LLM_SYSTEMS_SEED", "0")),
        transport=config.getoption("--transport"),
        confine=config.getoption("--confine"),
        layers=tuple(name for name in config.getoption("--layers").split(",") if name),
    )
    for folder in ("tests", "hidden"):  # helpers that tests share
        sys.path.append(str(run.assignment.root / folder))
    run.load_modules()
    # The deadline's signal ends the run as Ctrl-C does: workers and folders are cleaned up.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    config.stash[RUN] = run
    records = config.getoption("--records")
    config.stash[BOARD] = Board(run, Path(records) if records else None)


def pytest_unconfigure(config: pytest.Config) -> None:
    if RUN in config.stash:
        config.stash[RUN].close()


@dataclass
class Entry:
    """One test function: how many cases it has, how they went."""

    number: str
    weight: float
    speed: bool
    cases: int = 0
    done: int = 0
    record: TestRecord | None = None
    fraction: float = 1.0

    @property
    def earned(self) -> float:
        """Points earned so far."""
        passed = self.record is not None and self.done == self.cases
        return self.weight * self.fraction if passed else 0.0


@dataclass
class Board:
    """The tests of this run and what became of them."""

    run: Run
    folder: Path | None
    entries: dict[str, Entry] = field(default_factory=dict)

    def missing(self, number: str) -> list[str]:
        """Required tasks, direct or not, that earned less than half of their correctness points.

        A task none of whose tests were selected counts as done.
        """
        needed = self.run.assignment.closure([number]) - {number}
        order = [task.number for task in self.run.assignment.tasks]
        return [task for task in order if task in needed and not self._half_done(task)]

    def _half_done(self, number: str) -> bool:
        own = [e for e in self.entries.values() if e.number == number and not e.speed]
        possible = sum(entry.weight for entry in own)
        return sum(entry.earned for entry in own) >= possible / 2

    def correct(self, number: str) -> bool:
        """Whether every correctness test of a task passed, or was skipped for want of data."""
        own = [e for e in self.entries.values() if e.number == number and not e.speed]
        return all(entry.record and entry.record.status != "failed" for entry in own)

    def finish_case(self, test: str, record: TestRecord, fraction: float) -> None:
        """Merge one case into its function's record; write it when the last case is in."""
        entry = self.entries[test]
        entry.done += 1
        entry.fraction = min(entry.fraction, fraction)
        kept = entry.record
        if kept is None or (kept.status == "passed" and record.status != "passed"):
            record.seconds += kept.seconds if kept else 0.0
            entry.record = kept = record
        else:
            kept.seconds += record.seconds
            kept.measures += record.measures
            kept.warnings += record.warnings
            kept.figures += record.figures
        kept.fraction = entry.fraction
        if entry.done == entry.cases and self.folder is not None:
            write_record(self.folder, kept)


def attribute(item: pytest.Item, name: str, default: Any = None) -> Any:
    """What a decorator left on the test function, looking through wrappers."""
    function = getattr(item, "obj", None)
    while function is not None:
        if name in getattr(function, "__dict__", {}):
            return function.__dict__[name]
        function = getattr(function, "__wrapped__", None)
    return default


def forget(item: pytest.Item, *names: str) -> None:
    """Take away what an earlier case of the same function left on it."""
    function = getattr(item, "obj", None)
    while function is not None:
        for name in names:
            getattr(function, "__dict__", {}).pop(name, None)
        function = getattr(function, "__wrapped__", None)


def test_name(item: pytest.Item) -> str:
    """`tests/test_x.py::test_name`: the function, without its parameters."""
    path = Path(item.path)
    return f"{path.parent.name}/{path.name}::{getattr(item, 'originalname', item.name)}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if BOARD not in config.stash:
        return
    board = config.stash[BOARD]
    order = {task.number: place for place, task in enumerate(board.run.assignment.tasks)}

    def place(item: pytest.Item) -> tuple[int, bool]:
        return order.get(attribute(item, "__number__"), 99), bool(attribute(item, "__speed__"))

    items.sort(key=place)
    if config.getoption("--skip-speed"):
        items[:] = [item for item in items if not attribute(item, "__speed__")]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Counts the cases of each function after `-k` and the like have chosen."""
    if BOARD not in session.config.stash:
        return
    entries = session.config.stash[BOARD].entries
    for item in session.items:
        entry = entries.setdefault(
            test_name(item),
            Entry(
                number=str(attribute(item, "__number__", "")),
                weight=float(attribute(item, "__weight__", 0)),
                speed=bool(attribute(item, "__speed__", False)),
            ),
        )
        entry.cases += 1
    folder = session.config.stash[BOARD].folder
    if folder is not None:
        write_chosen(folder, entries)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if BOARD not in item.config.stash:
        return
    board = item.config.stash[BOARD]
    number = board.entries[test_name(item)].number
    missing = board.missing(number)
    if missing and not attribute(item, "__stands_alone__"):
        pytest.skip(f"needs {', '.join(missing)}")
    if attribute(item, "__speed__") and not board.correct(number):
        pytest.skip(f"speed counts once the other tests of {number} pass")
    for marker in item.iter_markers("warm_up"):
        for name in marker.args:
            item.config.stash[RUN].warm_up(name)


@pytest.fixture
def student(request: pytest.FixtureRequest) -> Iterator[Student]:
    """Runs drivers in a worker that holds the student's package."""
    run = request.config.stash[RUN]
    forbid = request.node.get_closest_marker("forbid_blas") is not None
    student = run.student(test_name(request.node), forbid)
    request.node.stash[STUDENT] = student
    request.node.stash[RUNNING] = cuda.Running(student, run.overlay)
    cuda.RUNNING.set(request.node.stash[RUNNING])
    yield student
    cuda.RUNNING.set(None)
    student.close()
    run.timeouts += student.timed_out


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers of this test, drawn anew for every grading."""
    return request.config.stash[RUN].rng(request.node.nodeid.partition("::")[2])


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Any:
    """figure(kind=…, title=…, data=…) attaches a picture's data to the report."""
    figures = request.node.stash.setdefault(FIGURES, [])
    return lambda **fields: figures.append(Figure(**fields))


@pytest.fixture
def set_score() -> None:
    """Filled in by @partial_credit; here so that pytest knows the name."""


@pytest.fixture
def set_leaderboard_value() -> None:
    """Filled in by @leaderboard; here so that pytest knows the name."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: Any) -> Iterator[None]:
    item.stash[FIGURES] = []
    forget(item, "__score__", "__leaderboard_value__")
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if BOARD in item.config.stash:
        failed_early = call.when == "setup" and report.outcome != "passed"
        failed_late = call.when == "teardown" and report.outcome == "failed"
        if call.when == "call" or failed_early or failed_late:
            _record(item, call, report)
        if report.failed and len(report.longreprtext) > MAX_LOGGED:
            report.longrepr = cut(report.longreprtext, MAX_LOGGED)
    return report


def cut(text: str, length: int) -> str:
    """The beginning and the end of a text that is longer."""
    if len(text) <= length:
        return text
    half = length // 2 - 50
    return f"{text[:half]}\n… {len(text) - 2 * half:,} characters left out …\n{text[-half:]}"


@pytest.hookimpl(tryfirst=True)
def pytest_exception_interact(call: pytest.CallInfo[Any]) -> None:
    """A debugger opens where the student's code raised, not where the test was told of it."""
    told = call.excinfo.value.__context__ if call.excinfo else None
    if isinstance(told, WorkerRaised) and told.__cause__ is not None:
        call.excinfo = pytest.ExceptionInfo.from_exception(told.__cause__)


def _record(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
    board = item.config.stash[BOARD]
    test = test_name(item)
    entry = board.entries[test]
    student, running = item.stash.get(STUDENT, None), item.stash.get(RUNNING, None)
    record = TestRecord(
        test=test, number=entry.number, status=report.outcome, seconds=report.duration,
        figures=item.stash[FIGURES], output=student.output if student else "",
        measures=student.measures if student else [], leaderboard=_leaderboard(item),
        warnings=running.warnings if running else [],
    )  # fmt: skip
    if report.outcome == "skipped":
        record.message = f"skipped: {getattr(call.excinfo.value, 'msg', '')}"
    elif report.outcome == "failed":
        answered = call.when != "teardown" and bool(student and student.answers)
        _describe(record, call.excinfo.value, answered)
        record.message = cut(record.message, MAX_MESSAGE)
    score = attribute(item, "__score__")
    if score is not None and record.fault != "grader" and entry.weight:
        fraction = min(1.0, max(0.0, float(score) / entry.weight))
    else:
        fraction = 1.0 if report.outcome == "passed" else 0.0
    if call.when == "teardown":
        entry.done -= 1  # the call was counted already; a fault while cleaning up replaces it
    board.finish_case(test, record, fraction)
    if item.config.getoption("--stop-at-loss") and entry.earned < entry.weight:
        if entry.done == entry.cases or report.outcome != "passed":
            item.session.shouldstop = "a point was lost"
            if board.folder is not None and entry.record is not None:
                write_record(board.folder, entry.record)  # further cases will not come


def _describe(record: TestRecord, error: BaseException, answered: bool) -> None:
    record.exception = type(error).__name__
    if isinstance(error, StudentError):
        record.fault, record.exception = "student", error.title
        record.message, record.frames = error.message, error.frames
    elif isinstance(error, AssertionError):
        example = [note for note in getattr(error, "__notes__", []) if "example" in note]
        record.fault, record.message = "student", "\n".join([str(error), *example])
    elif isinstance(error, GraderFault) or not answered:
        record.fault = "grader"
        record.message = f"{NOT_RAISED_BY_STUDENTS} ({type(error).__name__}: {error})"
    else:
        record.fault = "student"
        record.message = (
            "the test could not use what your code returned "
            f"({type(error).__name__}: {error}); if it looks right to you, tell the staff"
        )


def _leaderboard(item: pytest.Item) -> dict[str, Any] | None:
    value = attribute(item, "__leaderboard_value__")
    if value is None:
        return None
    order = attribute(item, "__leaderboard_sort_order__", "desc")
    return {"name": attribute(item, "__leaderboard_column__"), "value": value, "order": order}
