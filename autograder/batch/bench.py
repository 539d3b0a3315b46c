"""The benchmark tables: ratios measured in one run, against peers that are named."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from autograder.batch.mutants import reference_files
from autograder.batch.run import Job, default_confinement
from autograder.course.assignment import Assignment, load_assignment
from autograder.course.intake import own_files
from autograder.course.overlay import build_overlay
from autograder.sandbox.host import REPOSITORY
from autograder.testing.grading import Run


@dataclass(frozen=True)
class Row:
    """One line of a table; `peer` is what `value` is a ratio to, or "" for an absolute figure.

    `value` is None where it could not be measured (a peer that is not installed); `note` says why.
    """

    name: str
    value: float | None
    unit: str
    better: str
    peer: str = ""
    target: float | None = None
    note: str = ""


Benchmark = Callable[[Path], Iterator[Row]]
BENCHMARKS: dict[str, Benchmark] = {}


def benchmark(*names: str) -> Callable[[Benchmark], Benchmark]:
    """Register a benchmark that yields the rows `names`."""

    def register(function: Benchmark) -> Benchmark:
        BENCHMARKS.update(dict.fromkeys(names, function))
        return function

    return register


def register_all() -> None:
    """Import every module that adds to BENCHMARKS."""
    from autograder.batch import (  # noqa: F401  they register
        bench_hw1,
        bench_hw2,
        bench_hw2_gpu,
        bench_hw3,
        bench_hw3_align,
        bench_hw3_data,
        bench_hw3_finetune,
        bench_hw3_training,
        bench_hw4,
        bench_hw5,
        bench_hw5_compression,
    )


def run_benchmarks(only: str, work: Path, on_row: Callable[[Row], None]) -> list[dict[str, object]]:
    """Run the benchmarks whose names contain `only`; rows are handed out as they come."""
    register_all()
    functions = dict.fromkeys(f for name, f in BENCHMARKS.items() if only in name)
    rows = []
    for place, function in enumerate(functions):
        folder = work / str(place)
        folder.mkdir()
        folder.chmod(0o711)
        for row in function(folder):
            if only in row.name:
                on_row(row)
                rows.append(asdict(row))
    return rows


def own_or_reference(assignment: Assignment) -> dict[str, bytes]:
    """The reference's files, or in a student's copy, which has none, the student's own."""
    if (assignment.root / "solution").is_dir():
        return reference_files(assignment)
    return own_files(assignment).files


def reference_run(homework: str, work: Path, transport: str = "sandbox") -> Run:
    """A run over the reference solution of a homework, ready to start workers."""
    assignment = load_assignment(REPOSITORY / homework)
    overlay = build_overlay(assignment, own_or_reference(assignment), work / f"overlay-{transport}")
    job = Job(assignment, overlay, work / f"run-{transport}")
    job.prepare()
    run = Run(assignment, overlay, job.work / "cache", seed=0, transport=transport,
              confine=default_confinement())  # fmt: skip
    run.load_modules()
    return run


@benchmark("worker_overhead_ms", "worker_call_ms")
def worker_overhead(work: Path) -> Iterator[Row]:
    """What a test costs in a fresh confined worker over the same test in the test's process."""
    rounds = 40
    seconds: dict[str, list[float]] = {}
    runs = {name: reference_run("hw1_autodiff", work, name) for name in ("inprocess", "sandbox")}
    x = np.ones((3, 2))
    for place in range(rounds + 2):
        for name, run in runs.items():
            started = time.perf_counter()
            student = run.student("bench", forbid_blas=False)
            student.run(run.drivers.accumulated_gradients, x=x, times=3)
            student.close()
            if place >= 2:
                seconds.setdefault(name, []).append(time.perf_counter() - started)
    calls = []
    student = runs["sandbox"].student("bench", forbid_blas=False)
    for _ in range(rounds):
        started = time.perf_counter()
        student.run(runs["sandbox"].drivers.accumulated_gradients, x=x, times=3)
        calls.append(time.perf_counter() - started)
    student.close()
    for run in runs.values():
        run.close()
    over = statistics.median(seconds["sandbox"]) - statistics.median(seconds["inprocess"])
    yield Row("worker_overhead_ms", 1e3 * over, "ms", "lower", "in-process", 10,
              f"confinement: {default_confinement()}")  # fmt: skip
    yield Row("worker_call_ms", 1e3 * statistics.median(calls), "ms", "lower")

