"""Tiny made-up homeworks for the tests of `autograder.testing` and `autograder.batch`."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import dedent

from autograder.batch.run import Job, Outcome, environment, run_tests
from autograder.course.assignment import Assignment, load_assignment
from autograder.course.overlay import build_overlay
from autograder.testing.grading import Run
from autograder.testing.records import read_records

# What every made-up test file starts with.
PRELUDE = """\
import numpy as np
import pytest
from gradescope_utils.autograder_utils.decorators import (
    leaderboard, number, partial_credit, visibility, weight,
)
import {name}_drivers as drivers
from autograder.testing import *
from notebook import note
"""

# tests/notebook.py: trusted tests leave here what the outer test wants to know.
NOTEBOOK = """\
import json, pathlib
def note(key, value):
    with pathlib.Path(__file__).with_name("notes.jsonl").open("a") as file:
        file.write(json.dumps([key, value]) + "\\n")
"""

OPS = """\
def double(x):
    return 2 * x
"""

DRIVERS = """\
def double(x):
    from tiny.ops import double
    return double(x)
"""

Tasks = Sequence[tuple[str, float, Sequence[str]]]


def make_homework(
    folder: Path, tasks: Tasks, tests: Mapping[str, str], *, name: str = "hw9_tiny",
    ops: str = OPS, drivers: str = DRIVERS, hidden: Mapping[str, str] | None = None,
    extra: Mapping[str, str] | None = None, limits: str = "wall_seconds = 20",
    imports: Sequence[str] = ("numpy",), minutes: int = 2,
) -> Assignment:  # fmt: skip
    """Write a homework of one editable file, `tiny/ops.py`; test files get the prelude."""
    root, head = folder / name, PRELUDE.format(name=name)
    lines = [
        'title = "Made up"', 'package = "tiny"', 'files = ["tiny/ops.py"]',
        f"imports = {list(imports)!r}", "[needs]", "cpus = 1", "memory_mb = 512",
        f"minutes = {minutes}", "[limits]", limits,
    ]  # fmt: skip
    for task, points, requires in tasks:
        lines += ["[[tasks]]", f'number = "{task}"', f'title = "Task {task}"', f"points = {points}",
                  f"requires = {list(requires)!r}", 'files = ["tiny/ops.py"]']  # fmt: skip
    files = {
        "assignment.toml": "\n".join(lines),
        "tiny/__init__.py": "",
        "tiny/ops.py": ops,
        "tests/drivers.py": drivers,
        "tests/notebook.py": NOTEBOOK,
        **{f"tests/{file}": head + dedent(text) for file, text in tests.items()},
        **{f"hidden/{file}": head + dedent(text) for file, text in (hidden or {}).items()},
        **(extra or {}),
    }  # fmt: skip
    for file, text in files.items():
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return load_assignment(root)


def open_folder() -> Path:
    """A temporary folder that another user may look into by name, as a grading's is."""
    folder = Path(tempfile.mkdtemp(prefix="llm-systems-tests-"))
    folder.chmod(0o711)
    return folder


def make_run(assignment: Assignment, folder: Path, **options: object) -> Run:
    """A run over the homework's own package, with which workers can be started here."""
    overlay = build_overlay(assignment, {}, folder / "overlay")
    job = Job(assignment, overlay, folder / "run")
    run = Run(assignment, overlay, None, seed=5, confine=job.confine, **options)  # type: ignore[arg-type]
    run.load_modules()
    return run


def make_job(assignment: Assignment, folder: Path, **options: object) -> Job:
    """A job over the homework's own package; in process unless `transport` says otherwise."""
    overlay = build_overlay(assignment, {}, folder / "overlay")
    options = {"transport": "inprocess", "seed": 7, **options}
    return Job(assignment, overlay, folder / "run", **options)  # type: ignore[arg-type]


def run_job(job: Job) -> Outcome:
    """As `run_tests`, in a fork where that is safe: what pytest imports is here already."""
    if sys.platform != "linux":
        return run_tests(job)
    job.prepare()
    pid = os.fork()
    if pid == 0:
        _become_pytest(job)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    log = job.log.read_text(encoding="utf-8", errors="replace")
    return Outcome(read_records(job.records), status, False, 0.0, log)


def _become_pytest(job: Job) -> None:
    import pytest

    status = 70
    try:
        log = os.open(job.log, os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.stdout = sys.__stdout__ = os.fdopen(1, "w")
        sys.stderr = sys.__stderr__ = os.fdopen(2, "w")
        os.environ.update(environment(job))
        os.chdir(job.assignment.root)
        status = int(pytest.main(job.arguments()))
        sys.stdout.flush()
    finally:
        os._exit(status)


def remove(folder: Path) -> None:
    """Remove what `open_folder` made."""
    shutil.rmtree(folder, ignore_errors=True)
