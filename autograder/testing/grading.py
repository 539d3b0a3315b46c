"""One grading run, seen from the tests: the sandbox, its caches, and which tasks have failed."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from autograder.course import data
from autograder.course.assignment import Assignment
from autograder.sandbox import host
from autograder.sandbox.processes import hand_over
from autograder.sandbox.worker import load_modules
from autograder.testing.inprocess import InProcessWorker
from autograder.testing.student import Student, driver_name

WARM_UP_SECONDS = 240.0
# After so many tests that hung, each further call gets fewer seconds: an endless loop at import
# would otherwise use up the time of the whole grading.
PATIENCE, IMPATIENT_SECONDS = 4, 5.0
# Processes of a compiler at work: driver, compiler proper, assembler, linker.
BUILDERS = 16


@dataclass
class Run:
    """Everything the plugin's hooks and fixtures share.

    transport: "sandbox" (a worker process) or "inprocess" (for a debugger; the same values cross).
    """

    assignment: Assignment
    overlay: Path
    cache: Path | None
    seed: int
    transport: str = "sandbox"
    confine: str = "self"
    layers: tuple[str, ...] = ("landlock", "seccomp")
    modules: dict[str, ModuleType] = field(default_factory=dict)
    timeouts: int = 0
    _sandbox: host.Sandbox | None = None
    _warm: set[str] = field(default_factory=set)
    _warm_up_seconds: float = WARM_UP_SECONDS

    @property
    def drivers(self) -> ModuleType:
        """The homework's drivers."""
        return self.modules[f"{self.assignment.name}_drivers"]

    def load_modules(self) -> None:
        """Load drivers and peers in this process, so that tests can name them."""
        entries = [f"{name}={path}" for name, path in module_paths(self.assignment).items()]
        self.modules = load_modules(entries)

    def student(self, test: str, forbid_blas: bool) -> Student:
        """The fixture's value for one test."""
        student = Student(self.start_worker, self.overlay, self.seed_of(test), forbid_blas)
        if self.timeouts >= PATIENCE:
            student.patience = IMPATIENT_SECONDS
        return student

    def seed_of(self, test: str) -> int:
        """A seed of the run and the test's name."""
        return (self.seed * 0x9E3779B1 + zlib.crc32(test.encode())) % 2**32

    def rng(self, test: str) -> np.random.Generator:
        """Random numbers of one test, other ones in each run, the same under `--seed`."""
        return np.random.default_rng([self.seed, zlib.crc32(test.encode())])

    def start_worker(self, **options: Any) -> Any:
        """A fresh worker of the chosen transport."""
        if self.transport == "inprocess":
            if self.cache is not None:
                os.environ["LLM_SYSTEMS_KERNEL_CACHE"] = str(self.cache / "kernels")
            return InProcessWorker(self.overlay, self.assignment.package, self.modules, **options)
        return self.sandbox.worker(**options)

    @property
    def sandbox(self) -> host.Sandbox:
        """The sandbox, started at the first use."""
        if self._sandbox is None:
            self._sandbox = host.Sandbox(make_plan(self))
            self._compile()
        return self._sandbox

    def warm_up(self, name: str) -> None:
        """Run `WARM_UP[name]` of the drivers in a worker that may write the cache, once a run.

        What fails there shows in the tests.
        """
        if name in self._warm or self.transport == "inprocess" or self.cache is None:
            return
        self._warm.add(name)
        driver = getattr(self.drivers, "WARM_UP", {}).get(name) if self.sandbox else None
        if driver is not None:
            self._in_warm_worker(
                lambda worker: worker.call(driver_name(driver), {}, timeout=self._warm_up_seconds)
            )

    def close(self) -> None:
        """End the sandbox."""
        if self._sandbox is not None:
            self._sandbox.close()
            self._sandbox = None

    def _compile(self) -> None:
        """Byte code of the student's files, made in a worker: a compiler can be crashed too."""
        if self.cache is not None:
            self._in_warm_worker(lambda worker: worker.call("", {}, op="compile", timeout=30.0))

    def _in_warm_worker(self, use: Callable[[Any], Any]) -> None:
        assert self._sandbox is not None
        worker = self._sandbox.worker(warming_up=True)
        try:
            use(worker)
        except host.WorkerTimedOut:  # once is patience enough: other tasks need the time
            self._warm_up_seconds = self.assignment.limits.wall_seconds
        except host.WorkerFailure:
            pass  # the tests that need it will say what is wrong
        finally:
            worker.close()
            if self.cache is not None:  # readable by all, its own no more
                hand_over(self.cache, os.geteuid(), seal=True)


def module_paths(assignment: Assignment) -> dict[str, Path]:
    """Staff modules by name: siblings first, then `<homework>_peers` and `<homework>_drivers`."""
    tests = assignment.root / "tests"
    paths = {
        path.stem: path
        for pattern in ("peers_*.py", "drivers_*.py")
        for path in sorted(tests.glob(pattern))
    }
    for kind in ("peers", "drivers"):
        if (tests / f"{kind}.py").is_file():
            paths[f"{assignment.name}_{kind}"] = tests / f"{kind}.py"
    return paths


def make_plan(run: Run) -> host.Plan:
    """The sandbox's plan for a run, from the homework's limits."""
    limits = run.assignment.limits
    reads = tuple(data.folders(run.assignment.data))
    if run.assignment.kernels:
        from autograder.kernels.toolchain import reads as kernel_reads

        reads += tuple(kernel_reads())
    return host.Plan(
        package=run.assignment.package,
        overlay=run.overlay,
        imports=tuple(run.assignment.imports),
        modules=module_paths(run.assignment),
        cache=run.cache,
        confine=run.confine,
        never=tuple(run.assignment.root / name for name in ("hidden", "solution", "mutants")),
        reads=reads,
        builders=BUILDERS if run.assignment.kernels else 0,
        layers=run.layers,
        wall_seconds=limits.wall_seconds,
        cpu_seconds=limits.cpu_seconds,
        memory_mb=limits.memory_mb,
        processes=limits.processes,
        open_files=limits.open_files,
        output_kb=limits.output_kb,
        file_mb=limits.file_mb,
        reply_mb=limits.reply_mb,
    )
