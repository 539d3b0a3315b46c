"""Running a homework's tests over one overlay: one pytest process, one record a test."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from autograder.course.assignment import Assignment
from autograder.sandbox.host import REPOSITORY
from autograder.testing.records import TestRecord, read_chosen, read_records, record_path

ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TERM", "SYSTEMROOT", "LLM_SYSTEMS_DATA",
         "XDG_CACHE_HOME", "NUMBA_DISABLE_JIT", "NUMBA_BOUNDSCHECK")  # fmt: skip


def default_confinement() -> str:
    """"full" for root (a throwaway user a test), "self" otherwise."""
    return "full" if os.geteuid() == 0 else "self"


@dataclass
class Job:
    """One run of a homework's tests.

    overlay: folder with the package; work: private folder for caches, records and the log.
    hidden: run hidden tests too; tasks: only these tasks' files (empty: all); expression: pytest -k.
    """

    assignment: Assignment
    overlay: Path
    work: Path
    hidden: bool = True
    tasks: Sequence[str] = ()
    expression: str = ""
    seed: int = field(default_factory=lambda: secrets.randbits(32))
    transport: str = "sandbox"
    confine: str = field(default_factory=default_confinement)
    layers: str = "landlock,seccomp"
    skip_speed: bool = False
    stop_at_loss: bool = False
    extra: Sequence[str] = ()

    @property
    def records(self) -> Path:
        """Where the tests leave their records."""
        return self.work / "records"

    @property
    def log(self) -> Path:
        """What pytest printed: for staff."""
        return self.work / "pytest.log"

    def prepare(self) -> None:
        """Make the work folder; only its cache may be looked into by workers."""
        self.work.mkdir(parents=True, exist_ok=True)
        self.work.chmod(0o711)
        for name, mode in (("records", 0o700), ("cache", 0o755)):
            (self.work / name).mkdir(exist_ok=True)
            (self.work / name).chmod(mode)

    def arguments(self) -> list[str]:
        """pytest's command line, without the program."""
        options = [
            "-p", "autograder.testing.plugin", "-p", "no:cacheprovider", "-p", "no:doctest",
            "--assert=plain",  # a student reads the test's message, not pytest's view of the test
            "--noconftest", "--import-mode=importlib", "-c", os.devnull,
            f"--rootdir={self.assignment.root}", "-q", "--no-header", "--tb=short",
            f"--homework={self.assignment.root}", f"--overlay={self.overlay}",
            f"--cache={self.work / 'cache'}", f"--records={self.records}",
            f"--transport={self.transport}", f"--confine={self.confine}",
            f"--layers={self.layers}",
        ]  # fmt: skip
        if self.expression:
            options += ["-k", self.expression]
        if self.skip_speed:
            options.append("--skip-speed")
        if self.stop_at_loss:
            options.append("--stop-at-loss")
        return [*options, *self.extra, *map(str, self.files())]

    def files(self) -> list[Path]:
        """The test files of the chosen tasks."""
        folders = ["tests", "hidden"] if self.hidden else ["tests"]
        prefixes = [f"test_{task.replace('.', '_')}_" for task in self.tasks] or ["test_"]
        return [
            path
            for folder in folders
            for path in sorted((self.assignment.root / folder).glob("test_*.py"))
            if any(path.name.startswith(prefix) for prefix in prefixes)
        ]


@dataclass
class Outcome:
    """What a run left: records by test, pytest's exit status, and whether time ran out."""

    records: dict[str, TestRecord]
    status: int
    out_of_time: bool
    seconds: float
    log: str

    @property
    def fault(self) -> str:
        """A sentence for staff if pytest itself failed; "" otherwise."""
        if self.out_of_time or self.status in (0, 1):
            return ""
        return f"pytest ended with status {self.status}: {self.log[-1500:]}"


def environment(job: Job | None = None) -> dict[str, str]:
    """What the trusted process inherits: no plugins, one thread a library; the job's seed.

    The seed is not on the command line, which others may read.
    """
    own = {}
    if job is not None:
        own = {
            "HYPOTHESIS_STORAGE_DIRECTORY": str(job.work / "hypothesis"),
            "LLM_SYSTEMS_SEED": str(job.seed),
        }
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return kept | ONE_THREAD | own | {
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "NUMBA_NUM_THREADS": "2",  # for the in-process transport; workers have their own settings
    }  # fmt: skip


def run_tests(
    job: Job,
    *,
    deadline_seconds: float | None = None,
    on_record: Callable[[TestRecord], None] | None = None,
    on_chosen: Callable[[list[str]], None] | None = None,
) -> Outcome:
    """Run the job to its end or the deadline.

    `on_chosen` is called once it is known which tests run, `on_record` as each test finishes.
    """
    job.prepare()
    started = time.monotonic()
    job.log.touch(mode=0o600)  # it tells of hidden tests
    with job.log.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *job.arguments()],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            env=environment(job), cwd=job.assignment.root, start_new_session=True,
        )  # fmt: skip
        watch = _Watch(job.records, on_record, on_chosen)
        try:
            out_of_time = _wait(process, started, deadline_seconds, watch)
        finally:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, 15)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(10)
                process.kill()
                process.wait()
    watch.look()
    text = job.log.read_text(encoding="utf-8", errors="replace")
    records = read_records(job.records)
    return Outcome(records, process.returncode, out_of_time, time.monotonic() - started, text)


def _wait(
    process: subprocess.Popen[bytes], started: float, limit: float | None, watch: _Watch
) -> bool:
    while process.poll() is None:
        watch.look()
        if limit is not None and time.monotonic() - started > limit:
            return True
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
    return False


class _Watch:
    """Tells once which tests were chosen, and of each new record once."""

    def __init__(
        self, folder: Path, tell: Callable[[TestRecord], None] | None,
        tell_chosen: Callable[[list[str]], None] | None,
    ) -> None:  # fmt: skip
        self.folder, self.tell, self.tell_chosen = folder, tell, tell_chosen
        self.seen: set[Path] = set()

    def look(self) -> None:
        if self.tell_chosen is not None and (chosen := read_chosen(self.folder)) is not None:
            self.tell_chosen(chosen)
            self.tell_chosen = None
        if self.tell is None:
            return
        new = set(self.folder.glob("*.json")) - self.seen
        self.seen |= new
        if new:
            for record in read_records(self.folder).values():
                if record_path(self.folder, record.test) in new:
                    self.tell(record)
