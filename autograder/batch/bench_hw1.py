"""Benchmarks of homework 1: its kernels against BLAS and numpy, its grading, its graded measures."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from autograder.batch.bench import Row, benchmark, own_or_reference, reference_run
from autograder.batch.grade import Grading, grade_files
from autograder.course.assignment import load_assignment
from autograder.course.intake import Submission
from autograder.sandbox.host import REPOSITORY, WorkerFailure
from autograder.testing.student import StudentError

HOMEWORK = "hw1_autodiff"
ROUNDS = 9
# measure's name in the report -> the benchmark's, its better end
GRADED = {
    "AdamW step": ("adamw_vs_numpy", "higher"),
    "held: checkpointed / plain": ("checkpoint_held_ratio", "lower"),
    "t(8n) / t(n)": ("backward_8n_over_n", "lower"),
}


@benchmark("matmul_512_vs_blas", "matmul_1024_vs_blas", "matmul_blocked_1024_vs_blas",
           "matmul_ikj_1024_vs_blas", "gelu_vs_numpy", "sum_vs_numpy")  # fmt: skip
def kernels(work: Path) -> Iterator[Row]:
    """One thread against one thread, in turn, in one process; the median of the ratios."""
    run = reference_run(HOMEWORK, work)
    for name in run.drivers.WARM_UP:
        run.warm_up(name)
    student = run.student("bench", forbid_blas=False)
    drivers: Any = run.drivers

    def row(name: str, driver: Callable[..., Any], peer: str, target: float | None,
            flops: float = 0, **arguments: Any) -> Row:  # fmt: skip
        try:
            pairs = student.run(driver, timeout=300, rounds=ROUNDS, **arguments)
        except (StudentError, WorkerFailure) as error:
            return Row(name, None, "x", "higher", peer, target, str(error)[:80])
        ratio = statistics.median(other / own for own, other in pairs)
        note = ""
        if flops:
            own, other = (flops / min(pair[i] for pair in pairs) / 1e9 for i in (0, 1))
            note = f"{own:.0f} and {other:.0f} GFLOP/s"
        return Row(name, ratio, "x", "higher", peer, target, note)

    try:
        for kind, n, target in (
            ("register", 512, 0.6), ("register", 1024, 0.6), ("blocked", 1024, None),
            ("ikj", 1024, None),
        ):  # fmt: skip
            name = f"matmul_{n}_vs_blas" if kind == "register" else f"matmul_{kind}_{n}_vs_blas"
            yield row(name, drivers.bench_matmul, "numpy's BLAS, one thread", target,
                      2.0 * n**3 * drivers.matmul_calls(n), kind=kind, n=n)  # fmt: skip
        yield row("gelu_vs_numpy", drivers.bench_gelu, "numpy, one thread", None, size=1 << 20)
        yield row("sum_vs_numpy", drivers.bench_sum, "numpy, one thread", None, size=1 << 20)
    finally:
        student.close()
        run.close()


@benchmark(f"grade_seconds_{HOMEWORK}", *(name for name, _ in GRADED.values()))
def grading(work: Path) -> Iterator[Row]:
    """A full grading, and what it measured on the way."""
    assignment = load_assignment(REPOSITORY / HOMEWORK)
    files = own_or_reference(assignment)
    graded = grade_files(assignment, Submission(files, []), None, Grading())
    report = graded.report
    assert report is not None
    note = f"{report.score:g} of {report.maximum:g} points"
    yield Row(f"grade_seconds_{HOMEWORK}", report.seconds, "s", "lower", "", 90, note)
    for test in report.tests():
        for measure in test.measures:
            if measure.name in GRADED:
                name, better = GRADED[measure.name]
                yield Row(name, measure.value, measure.unit, better, measure.peer, measure.full)
