"""Benchmarks of homework 2: the CUDA emulator against numba's CUDA simulator, and by itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autograder import kernels
from autograder.batch.bench import Row, benchmark, own_or_reference
from autograder.batch.grade import Grading, grade_files
from autograder.course.assignment import load_assignment
from autograder.course.intake import Submission
from autograder.kernels.emulator_backend import library
from autograder.sandbox.host import REPOSITORY

HOMEWORK = "hw2_cuda_kernels"
STAFF = Path(__file__).parent / "staff"  # students write such a kernel, so they don't get it
SOURCE, PEER_SOURCE = STAFF / "tiled_matmul.cu", STAFF / "numba_simulator.py"
NOT_HERE = "the kernel is in the staff's repository"
PEER = "numba's CUDA simulator"
PINNED = f"{PEER} on one core"
SIZES = (64, 128)
# What the emulator does for each row, and the mode that does it; "full" is the default.
MODES = {
    "fast": ("fast", "values only"),
    "counted": ("full", "values, all checks (races, bounds, uninitialised reads) and all counts"),
    "checks_only": ("check", "values and all checks, no counts"),
    "counts_only": ("metrics", "values, bounds and all counts, no races or uninitialised reads"),
}
REPEATS = {"fast": 100, "full": 15, "check": 15, "metrics": 15}  # at n = 128, about a second
TARGETS = {"fast": 3000.0, "counted": 500.0}  # at n = 128
SAMPLED_BLOCKS = 64  # of the 4096 that n = 1024 has
SWITCHES = 20_000_000
PEER_MINUTES = 10


@dataclass(frozen=True)
class Seconds:
    """Of one launch: by the clock on the wall, and of CPU time over all threads."""

    wall: float
    cpu: float


def product_seconds(
    folder: Path, mode: str, n: int, repeats: int, sample: int = 0, threads: int = 1
) -> Seconds:
    """Means of one launch of the tiled product out of `repeats`; the build is not in it.

    The kernel's account of CPU time may have a grain of milliseconds, so that it is read only
    before the first launch and after the last.

    Raises ValueError where the product is wrong (a sample of blocks has none to check).
    """
    path = folder / SOURCE.name
    if not path.exists():
        shutil.copyfile(SOURCE, path)
    device = kernels.Device(backend="emulator", mode=mode, sample=sample, seconds=300.0,
                            steps=4_000_000_000, threads=threads)  # fmt: skip
    module = device.load(path)
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((n, n), dtype=np.float32) for _ in range(2))
    held = device.array(a), device.array(b), device.zeros((n, n))
    module.launch("tiled_matmul", *held, n)  # the first one touches the memory
    device.report()
    started, cpu = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        module.launch("tiled_matmul", *held, n)
        report = device.report()
        if report["diagnostics"]:
            raise ValueError(f"a diagnostic: {report['diagnostics'][0]['message']}")
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu
    if not sample and not np.allclose(held[2].numpy(), a @ b, atol=1e-3):
        raise ValueError(f"the emulator's product of {n} × {n} is wrong")
    return Seconds(wall / repeats, cpu / repeats)


def peer_seconds(pinned: bool) -> dict[int, Seconds]:
    """What numba's simulator takes, by size; {} where it can't run.

    It has a Python thread for each CUDA thread of a block, and one lock for all of them. Handing
    the lock from core to core can cost more than the work, the most where nothing else runs.
    pinned: to one core, which is the fastest for it, and steady.
    """
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, str(PEER_SOURCE), *map(str, SIZES)]
    if pinned and not hasattr(os, "sched_setaffinity"):
        return {}

    def pin() -> None:
        if pinned:
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60 * PEER_MINUTES,
            preexec_fn=pin,
        )  # fmt: skip
        found = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        return {}
    return {int(n): Seconds(wall, cpu) for n, (wall, cpu, error) in found.items() if error < 1e-3}


@benchmark("emulator_fast_vs_numba_simulator", "emulator_counted_vs_numba_simulator",
           "emulator_checks_only_vs_numba_simulator", "emulator_counts_only_vs_numba_simulator",
           "emulator_fast_vs_numba_simulator_64", "emulator_counted_vs_numba_simulator_64",
           "emulator_fast_vs_pinned_numba_simulator", "emulator_counted_vs_pinned_numba_simulator",
           "emulator_two_threads_vs_numba_simulator",
           "emulator_two_threads_vs_pinned_numba_simulator")  # fmt: skip
def against_numba(work: Path) -> Iterator[Row]:
    """The same tiled product, n = 128 and 64, in each mode.

    By CPU time, one thread of the emulator against the simulator as it comes and, "pinned", on one
    core. The last rows are by the clock, with the two threads that fast mode has by default: they
    need an idle machine to mean something.
    """
    if not SOURCE.is_file():
        for name in TARGETS:
            yield Row(f"emulator_{name}_vs_numba_simulator", None, "x", "higher", PEER, None, NOT_HERE)
        return
    peer, pinned = peer_seconds(pinned=False), peer_seconds(pinned=True)
    for name, (mode, does) in MODES.items():
        for n in reversed(SIZES) if name in TARGETS else (128,):
            own = product_seconds(work, mode, n, repeats=REPEATS[mode] * (128 // n) ** 3)
            row = f"emulator_{name}_vs_numba_simulator{'' if n == 128 else f'_{n}'}"
            yield _row(row, PEER, peer, own, n, does, TARGETS.get(name) if n == 128 else None)
            if name in TARGETS and n == 128:
                row = f"emulator_{name}_vs_pinned_numba_simulator"
                yield _row(row, PINNED, pinned, own, n, does)
    own = product_seconds(work, "fast", 128, repeats=REPEATS["fast"], threads=2)
    clock = Seconds(own.wall, own.wall)
    for kind, against, times in (("", PEER, peer), ("pinned_", PINNED, pinned)):
        yield _row(
            f"emulator_two_threads_vs_{kind}numba_simulator", against,
            {n: Seconds(each.wall, each.wall) for n, each in times.items()}, clock, 128,
            "values only, two threads, by the clock",
        )  # fmt: skip


def _row(
    name: str, against: str, peer: dict[int, Seconds], own: Seconds, n: int, does: str,
    target: float | None = None,
) -> Row:  # fmt: skip
    """The row of one comparison by CPU time; without a value where the peer did not run."""
    if n not in peer:
        return Row(name, None, "x", "higher", against, target, "the simulator did not run")
    note = (
        f"{does}; n = {n}: {1e3 * own.cpu:.3g} ms and {peer[n].cpu:.3g} s; by the clock "
        f"{peer[n].wall / own.wall:.3g} x"
    )
    return Row(name, peer[n].cpu / own.cpu, "x", "higher", against, target, note)


@benchmark("emulator_512_seconds", "emulator_counted_512_seconds", "emulator_sampled_1024_seconds",
           "fiber_switches_per_second")  # fmt: skip
def alone(work: Path) -> Iterator[Row]:
    """Larger products, whole and sampled, and what a switch between two threads costs."""
    if not SOURCE.is_file():
        yield Row("emulator_sampled_1024_seconds", None, "s", "lower", note=NOT_HERE)
        return
    for name, mode, note in (
        ("emulator_512_seconds", "fast", "values only"),
        ("emulator_counted_512_seconds", "full", "checks and counts"),
    ):
        own = product_seconds(work, mode, 512, 1)
        yield Row(name, own.wall, "s", "lower", note=f"{note}; {own.cpu:.3g} s of CPU time")
    own = product_seconds(work, "metrics", 1024, 3, sample=SAMPLED_BLOCKS)
    yield Row("emulator_sampled_1024_seconds", own.wall, "s", "lower", "", 5,
              f"counts of {SAMPLED_BLOCKS} of 4,096 blocks; {own.cpu:.3g} s of CPU time")  # fmt: skip
    switches = library(None)
    best = min(switches.emu_benchmark_switches(SWITCHES) for _ in range(3))
    yield Row("fiber_switches_per_second", 2 * SWITCHES / best, "1/s", "higher", note="one core")


@benchmark(f"grade_seconds_{HOMEWORK}")
def grading(work: Path) -> Iterator[Row]:
    """A full grading of the reference, hidden tests included."""
    if not (REPOSITORY / HOMEWORK).is_dir():
        return
    assignment = load_assignment(REPOSITORY / HOMEWORK)
    files = own_or_reference(assignment)
    graded = grade_files(assignment, Submission(files, []), None, Grading())
    report = graded.report
    assert report is not None
    note = f"{report.score:g} of {report.maximum:g} points"
    yield Row(f"grade_seconds_{HOMEWORK}", report.seconds, "s", "lower", "", 90, note)
