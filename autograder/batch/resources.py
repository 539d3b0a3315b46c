"""Registers and spills of a student's kernels, by nvcc where it is installed; no GPU is needed.

nvcc reads code that nobody has checked, so it runs in a confined worker, as g++ does for the
emulator. Its numbers are shown, and used for the modelled time; no test and no point needs them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from autograder.kernels import nvcc
from autograder.kernels.nvcc import Resources
from autograder.reporting.kernel_registers import ARCHITECTURE
from autograder.reporting.sanitise import clean_text
from autograder.sandbox.doctor import NVCC_PACKAGES
from autograder.sandbox.host import Sandbox, WorkerFailure, WorkerRaised
from autograder.testing.grading import Run, make_plan

NVCC_MISSING = (
    "registers and spills: only nvcc knows them, and it is not installed; it needs no GPU: "
    f"{NVCC_PACKAGES}"
)
SECONDS, MEMORY_MB = 300, 16 << 10  # cicc and ptxas reserve far more than they use
_MOST_KERNELS, _LARGEST = 400, 1 << 24
_SYSTEM = {Path("/"), Path("/usr"), Path("/usr/local")}  # what is read of these, workers read anyway


@dataclass(frozen=True)
class Compiled:
    """What nvcc said of one file: what each kernel takes, or why it did not compile."""

    resources: tuple[Resources, ...] = ()
    failed: str = ""


def resources_of(run: Run, files: Sequence[Path]) -> dict[Path, Compiled]:
    """What nvcc says of each of `files`, all of the run's overlay; {} where there is no nvcc."""
    program = nvcc.find_nvcc()
    if program is None:
        return {}
    plan = replace(
        make_plan(run), modules={"nvcc_driver": Path(__file__).with_name("nvcc_driver.py")},
        reads=tuple(_toolkits(Path(program))), memory_mb=MEMORY_MB, cpu_seconds=SECONDS, cache=None,
        builders=64,
    )  # fmt: skip
    with Sandbox(plan) as sandbox:
        return {file: _compiled(sandbox, file, program) for file in files}


def _compiled(sandbox: Sandbox, file: Path, program: str) -> Compiled:
    with sandbox.worker(warming_up=True) as worker:
        try:
            asked = {"path": str(file), "program": program, "arch": ARCHITECTURE}
            value = worker.call("nvcc_driver:resources", asked, timeout=SECONDS)
        except WorkerRaised as raised:
            return Compiled(failed=clean_text(str(raised.error.get("message", "")), max_lines=12))
        except WorkerFailure as failure:
            return Compiled(failed=clean_text(str(failure), max_lines=12))
    return Compiled(tuple(map(_read, value[:_MOST_KERNELS])) if isinstance(value, list) else ())


def _read(row: Any) -> Resources:
    """A row of the worker's answer, checked."""
    given = row if isinstance(row, dict) else {}
    numbers = {field.name: given.get(field.name) for field in fields(Resources)[1:]}
    whole = {n: v for n, v in numbers.items() if type(v) is int and 0 <= v < _LARGEST}
    return Resources(str(given.get("kernel", ""))[:200], **whole)


def _toolkits(program: Path) -> list[Path]:
    """Folders that nvcc reads: its toolkit's, also where the program is a script that starts it."""
    real = program.resolve()
    folders = [real.parents[1]]
    if real.stat().st_size < 4096:
        text = real.read_text(encoding="utf-8", errors="replace")
        folders += [Path(p).resolve().parents[1] for p in re.findall(r"(/\S+/bin/nvcc)\b", text)]
    kept = dict.fromkeys(folders)
    return [folder for folder in kept if folder.is_dir() and folder not in _SYSTEM]
