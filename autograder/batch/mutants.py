"""Wrong solutions that the tests must catch.

A mutant is a unified diff of the reference, `mutants/1_4_name.patch`, that starts with
`# task: 1.4`, `# error: what the student did wrong` and, to be quick, `# caught by: test_name`. It
must lose points in its task (in that test, if one is named); in a full run, only in its task and in
those that require it.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from autograder.batch.run import Job, environment, run_tests
from autograder.course.assignment import Assignment
from autograder.course.overlay import build_overlay
from autograder.sandbox import numba_cache
from autograder.testing.records import TestRecord, read_records

SECONDS = 300.0


class MutantError(Exception):
    """A mutant's file is malformed or does not apply."""


@dataclass(frozen=True)
class Mutant:
    """A patch and what it claims: the task that loses points, the error, a test that sees it."""

    path: Path
    task: str
    error: str
    test: str = ""

    @property
    def name(self) -> str:
        """The file's name without its suffix."""
        return self.path.stem


@dataclass(frozen=True)
class Verdict:
    """What a mutant lost: tests by task; `caught` in its own task, `stray` tasks beside it."""

    mutant: Mutant
    lost: dict[str, list[str]]
    stray: list[str]
    seconds: float
    problem: str = ""

    @property
    def caught(self) -> bool:
        """Whether its own task lost points."""
        return bool(self.lost.get(self.mutant.task)) and not self.problem

    @property
    def good(self) -> bool:
        """Caught, and nothing else was lost."""
        return self.caught and not self.stray


def read_mutants(assignment: Assignment) -> list[Mutant]:
    """All mutants of a homework, in task order; raises MutantError."""
    mutants = []
    order = {task.number: place for place, task in enumerate(assignment.tasks)}
    for path in sorted((assignment.root / "mutants").glob("*.patch")):
        text = path.read_text(encoding="utf-8")
        found = dict(re.findall(r"^# (task|error|caught by): (.+)$", text, re.MULTILINE))
        if not {"task", "error"} <= set(found) or found["task"] not in order:
            raise MutantError(f"{path}: must start with '# task: N.M' and '# error: sentence'")
        mutants.append(Mutant(path, found["task"], found["error"], found.get("caught by", "")))
    return sorted(mutants, key=lambda mutant: order[mutant.task])


def reference_files(assignment: Assignment) -> dict[str, bytes]:
    """The reference solution, as a submission's files."""
    return {file: assignment.solution_path(file).read_bytes() for file in assignment.files}


def mutated_files(assignment: Assignment, mutant: Mutant) -> dict[str, bytes]:
    """The reference with the mutant's patch applied; raises MutantError if it does not apply."""
    with tempfile.TemporaryDirectory() as folder:
        for file in assignment.files:
            target = Path(folder) / "solution" / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(assignment.solution_path(file).read_bytes())
        done = subprocess.run(
            ["git", "apply", "-p0", "--whitespace=nowarn", str(mutant.path)],
            cwd=folder, capture_output=True, text=True,
            env={**os.environ, "GIT_CEILING_DIRECTORIES": str(Path(folder).parent)},
        )  # fmt: skip
        if done.returncode:
            raise MutantError(f"{mutant.path} does not apply: {done.stderr.strip()}")
        files = {file: (Path(folder) / "solution" / file).read_bytes() for file in assignment.files}
    if files == reference_files(assignment):
        raise MutantError(f"{mutant.path} changes nothing")
    return files


def judge(assignment: Assignment, mutant: Mutant, records: Iterable[TestRecord]) -> Verdict:
    """What the records of a mutant's run come to."""
    lost: dict[str, list[str]] = {}
    seconds = 0.0
    for record in records:
        seconds += record.seconds
        # A test of the mutant's own task must fail; one that was skipped has shown nothing.
        failed, own = record.status == "failed", record.number == mutant.task
        if failed or (record.status == "skipped" and not own):
            lost.setdefault(record.number, []).append(record.test)
    dependants = {
        task.number for task in assignment.tasks if mutant.task in assignment.closure([task.number])
    }
    stray = sorted(task for task in lost if task not in dependants)
    return Verdict(mutant, lost, stray, seconds)


def check_mutants(
    assignment: Assignment,
    *,
    full: bool,
    only: Sequence[str] = (),
    at_once: int = 2,
    on_verdict: Callable[[Verdict], None] | None = None,
) -> list[Verdict]:
    """Run every mutant: in its own task's untimed tests up to the first loss, or (`full`) in all.

    Not `full`, a mutant is tried in the test's own process first, which is quick, and in a worker
    only if nothing was lost there (some tests need one). The runs are forked from this process after it has imported what they need. Each of the
    `at_once` lanes keeps its cache of compiled kernels from one mutant to the next (they are the
    staff's own code): what a mutant did not change is not compiled again.
    """
    chosen = [m for m in read_mutants(assignment) if not only or any(o in m.name for o in only)]
    first = "sandbox" if full or sys.platform != "linux" else "inprocess"
    waiting = [(mutant, first) for mutant in chosen]
    running: list[_Trial] = []
    verdicts: list[Verdict] = []

    def tell(verdict: Verdict) -> None:
        verdicts.append(verdict)
        if on_verdict:
            on_verdict(verdict)

    _preload()
    with tempfile.TemporaryDirectory(prefix="llm-systems-mutants-") as folder:
        Path(folder).chmod(0o711)
        lanes = [Path(folder) / str(place) for place in range(at_once)]
        while waiting or running:
            while waiting and lanes:
                (mutant, transport), lane = waiting.pop(0), lanes.pop()
                try:
                    running.append(_Trial(assignment, mutant, full, lane, transport))
                except MutantError as error:
                    lanes.append(lane)
                    tell(Verdict(mutant, {}, [], 0.0, str(error)))
            time.sleep(0.02)
            for trial in [trial for trial in running if trial.finished()]:
                running.remove(trial)
                lanes.append(trial.lane)
                verdict = trial.verdict()
                if trial.job.transport == "inprocess" and not verdict.caught:
                    waiting.insert(0, (trial.mutant, "sandbox"))
                else:
                    tell(verdict)
    return verdicts


def _preload() -> None:
    """Import what every run imports, so that a fork has it already."""
    import hypothesis  # noqa: F401
    import numba  # noqa: F401
    import pytest  # noqa: F401
    import scipy.special  # noqa: F401
    import torch
    import torch.fx.experimental.symbolic_shapes  # noqa: F401  the first backward asks for it

    torch.set_num_threads(1)


class _Trial:
    """One mutant's run in a forked process (a fresh one where forking is unsafe)."""

    def __init__(
        self, assignment: Assignment, mutant: Mutant, full: bool, lane: Path, transport: str
    ) -> None:
        self.assignment, self.mutant, self.lane = assignment, mutant, lane
        self.problem = ""
        files = mutated_files(assignment, mutant)
        self.started = time.monotonic()
        # Byte code goes too: it is matched by time and size, which two mutants may share.
        for part in ("overlay", "run/records", "run/cache/pycache"):
            shutil.rmtree(lane / part, ignore_errors=True)
        overlay = build_overlay(assignment, files, lane / "overlay")
        self.job = Job(assignment, overlay, lane / "run", tasks=() if full else (mutant.task,),
                       skip_speed=not full, stop_at_loss=not full, seed=1, transport=transport,
                       expression="" if full else mutant.test,
                       extra=["--tb=no"])  # fmt: skip
        self.job.prepare()
        self.pid = os.fork() if sys.platform == "linux" else 0
        if self.pid == 0:
            self._run_here() if sys.platform == "linux" else run_tests(self.job)

    def _run_here(self) -> None:
        """In the fork: become the pytest process; never returns."""
        import pytest

        status = 70
        try:
            os.setsid()
            log = os.open(self.job.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.environ.update(environment(self.job))
            os.chdir(self.assignment.root)
            if self.job.transport == "inprocess":
                numba_cache.use(str(self.job.work / "cache" / "numba"), writable=True)
            status = int(pytest.main(self.job.arguments()))
        finally:
            os._exit(status)

    def finished(self) -> bool:
        if self.pid == 0:
            return True
        over = time.monotonic() - self.started - SECONDS
        if over > 0 and (not self.problem or over > 10):
            self.problem = f"not finished within {SECONDS:g} s"
            with suppress(ProcessLookupError):  # first as Ctrl-C, so that it can clean up
                os.kill(self.pid, signal.SIGTERM if over < 10 else signal.SIGKILL)
        ended, status = os.waitpid(self.pid, os.WNOHANG)
        if ended and not self.problem and os.waitstatus_to_exitcode(status) not in (0, 1, 2):
            self.problem = f"pytest ended with status {os.waitstatus_to_exitcode(status)}"
        return ended != 0

    def verdict(self) -> Verdict:
        records = read_records(self.job.records)
        verdict = judge(self.assignment, self.mutant, records.values())
        problem = self.problem
        if not records:
            problem = f"{problem} {self.job.log.read_text(errors='replace')[-800:]}".strip()
        if any(record.fault == "grader" for record in records.values()):
            problem = "; ".join(r.message for r in records.values() if r.fault == "grader")[:800]
        seconds = time.monotonic() - self.started
        return Verdict(self.mutant, verdict.lost, verdict.stray, seconds, problem)

