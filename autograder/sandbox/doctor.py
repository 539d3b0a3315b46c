"""What this machine can do for the course: what is there, what is missing, and what that costs.

Everything is tried rather than guessed: the layers of confinement in throwaway processes, the
interpreter as a throwaway user. Nothing is changed.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import InvalidRequirement, Requirement
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from autograder.course import data
from autograder.course.assignment import AssignmentError, load_assignment
from autograder.sandbox import confinement, machine

Status = Literal["ok", "warn", "missing"]
GIBIBYTE = 1 << 30
NVCC_PACKAGES = "pip install nvidia-cuda-nvcc nvidia-cuda-runtime nvidia-cuda-cccl (346 MB)"
SUPPORTED_PYTHONS = ((3, 11), (3, 12), (3, 13))
# Where pyproject.toml does not say (an installed copy without its source).
ESSENTIAL = ("numpy", "numba", "torch", "pytest", "gradescope-utils", "hypothesis", "click")
ESSENTIAL += ("rich", "jinja2", "pydantic", "matplotlib")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    status: "ok"; "warn": works, with less; "missing": something of the course does not work.
    cost: what one can't do because of it; remedy: what to do about it. Both "" where status is ok.
    """

    name: str
    status: Status
    detail: str
    cost: str = ""
    remedy: str = ""


def examine(root: Path) -> list[Finding]:
    """Look at everything. root: the repository's (its pyproject.toml names the packages)."""
    answers = _probe()
    return [
        python_version(sys.version_info[:3]),
        *packages(_requirements(root)),
        *_tools(),
        graphics(machine.graphics_processors(), machine.has_cuda_driver()),
        processors(machine.processors(), machine.cpu_quota()),
        memory(machine.physical_memory(), machine.memory_limit()),
        space(tempfile.gettempdir()),
        *real_data(root),
        *confinement_findings(answers, sys.platform),
        *interpreter(answers, sys.executable),
        fork_safety(sys.platform),
    ]


def python_version(version: tuple[int, ...]) -> Finding:
    """Is it one of the versions that the course is tested with?"""
    text = ".".join(map(str, version))
    if version[:2] in SUPPORTED_PYTHONS:
        return Finding("Python", "ok", text)
    return Finding(
        "Python",
        "missing" if version[:2] < SUPPORTED_PYTHONS[0] else "warn",
        f"{text}, not 3.11 to 3.13",
        "packages may not install, and results are untested",
        "install Python 3.12 and run `make setup` with it",
    )


def _requirements(root: Path) -> list[Requirement]:
    try:
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        named = [Requirement(line) for line in project["dependencies"]]
    except (OSError, KeyError, tomllib.TOMLDecodeError, InvalidRequirement):
        named = []
    known = {requirement.name.lower() for requirement in named}
    return named + [Requirement(name) for name in ESSENTIAL if name not in known]


def packages(requirements: Iterable[Requirement]) -> list[Finding]:
    """One finding for all that is installed as asked, and one for each package that is not."""
    present, findings = [], []
    for requirement in requirements:
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        name = requirement.name
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            cost = "the grader or a homework does not start"
            findings.append(Finding(name, "missing", "not installed", cost, "run `make setup`"))
            continue
        if requirement.specifier.contains(version, prereleases=True):
            present.append(f"{name} {version}")
        else:
            detail = f"{version} is installed, {requirement.specifier} is asked for"
            cost = "results may differ from the graded ones"
            findings.append(Finding(name, "warn", detail, cost, "run `make setup` again"))
    return [Finding("Packages", "ok", ", ".join(present)), *findings]


def _tools() -> list[Finding]:
    compiler = machine.tool_version(os.environ.get("CXX", "g++"), "g++", "clang++", "c++")
    return [
        tool(
            "C++ compiler",
            compiler,
            "missing",
            "homework 2 (CUDA kernels) can't be built",
            "apt install g++, or xcode-select --install on macOS",
        ),
        tool(
            "nvcc",
            machine.tool_version("nvcc"),
            "warn",
            "kernels run in the emulator only; that is enough for full marks",
            NVCC_PACKAGES,
        ),
    ]


def tool(
    name: str, found: tuple[str, str] | None, otherwise: Status, cost: str, remedy: str
) -> Finding:
    """A command-line tool, with its version where there is one."""
    if found is None:
        return Finding(name, otherwise, "not found", cost, remedy)
    return Finding(name, "ok", f"{found[0]}: {found[1]}")


def graphics(listed: list[str], driver: bool) -> Finding:
    """The GPUs, if any."""
    if listed:
        return Finding("GPU", "ok", "; ".join(listed))
    detail = "a CUDA driver, but no GPU answers" if driver else "none"
    cost = "no measured GPU times; every homework can be done and graded without"
    remedy = "check nvidia-smi and the driver" if driver else "nothing needed"
    return Finding("GPU", "warn", detail, cost, remedy)


def processors(count: int, quota: float | None) -> Finding:
    """Processors that can be used, and the share of them that a container grants."""
    granted = count if quota is None else min(float(count), quota)
    detail = f"{count}" if quota is None else f"{count}, of which a quota grants {quota:g}"
    if granted >= 2:
        return Finding("Processors", "ok", detail)
    cost = "grading takes longer; tests of parallel speed are uncertain"
    remedy = "give the container 2 processors (Gradescope: Settings, container specifications)"
    return Finding("Processors", "warn", detail, cost, remedy)


def memory(physical: int | None, limit: int | None) -> Finding:
    """Memory of the machine, and what a container grants of it."""
    known = [amount for amount in (physical, limit) if amount is not None]
    if not known:
        return Finding("Memory", "warn", "unknown", "tests may be killed without a word", "")
    detail = f"{min(known) / GIBIBYTE:.1f} GiB"
    if limit is not None and limit <= min(known):
        detail += " (a container's limit)"
    if min(known) >= 1.5 * GIBIBYTE:
        return Finding("Memory", "ok", detail)
    cost = "the larger tests are killed by the system"
    return Finding("Memory", "missing", detail, cost, "use 2 GiB or more")


def space(folder: str) -> Finding:
    """Free space where workers' private folders are."""
    free = shutil.disk_usage(folder).free / GIBIBYTE
    detail = f"{free:.1f} GiB free in {folder}"
    if free >= 2:
        return Finding("Temporary space", "ok", detail)
    cost = "workers and builds run out of space"
    remedy = f"free 2 GiB in {folder}, or set TMPDIR to a larger folder"
    return Finding("Temporary space", "warn" if free >= 0.5 else "missing", detail, cost, remedy)


def real_data(root: Path) -> list[Finding]:
    """One finding for each homework that uses data from packages; none for a broken one."""
    findings = []
    for file in sorted(root.glob("hw*/assignment.toml")):
        try:
            names = load_assignment(file.parent).data
        except AssignmentError:
            continue
        name, missing = f"Data of {file.parent.name}", data.absent(names)
        closed = [p for p in data.folders(names) if os.geteuid() == 0
                  and not confinement.readable_by_others(p)]  # fmt: skip
        if missing:
            cost = "tests of it are skipped; grading with hidden tests refuses to start"
            detail = f"{', '.join(missing)} not in {data.cache_folder()}"
            findings.append(Finding(name, "warn", detail, cost, f"run `{data.COMMAND}`"))
        elif closed:
            cost = "workers of a root grader can't read it"
            remedy = f"set {data.CACHE_VARIABLE} to a folder that others can enter, and fetch again"
            findings.append(Finding(name, "missing", f"{closed[0]} is closed", cost, remedy))
        elif names:
            findings.append(Finding(name, "ok", f"{', '.join(names)} in {data.cache_folder()}"))
    return findings


def _probe() -> dict[str, Any]:
    """The answers of `autograder.sandbox.probe`; {"failed": why} if it could not run."""
    package = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": package, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "autograder.sandbox.probe"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, env=environment, cwd="/"
        )
        return dict(json.loads(done.stdout))
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"failed": str(error)}
    except ValueError:
        return {"failed": (done.stderr.strip().splitlines() or ["no answer"])[-1]}


@dataclass(frozen=True)
class _Layer:
    """A layer of confinement: the probe's names for it, and what its absence costs."""

    name: str
    layers: tuple[str, ...]
    effects: tuple[str, ...]
    cost: str
    remedy: str


_LAYERS = (
    _Layer(
        "Own user id",
        ("uid",),
        (),
        "student code runs as you: grade only code that you trust",
        "grade as root (in a container: the default), so that workers can drop to their own uid",
    ),
    _Layer(
        "Landlock",
        ("landlock",),
        ("file_outside",),
        "workers can read every file that is open to all users",
        "use Linux 5.13 or newer with landlock among the active security modules; a container"
        " manager may block it: a current Docker lets it through",
    ),
    _Layer(
        "System-call filter",
        ("no_new_privs", "seccomp"),
        ("network", "fork", "signals"),
        "workers can reach the network and start processes",
        "use Linux on x86-64 or arm64 with seccomp; in a container, allow the seccomp call",
    ),
    _Layer(
        "Resource limits",
        ("rlimits",),
        ("memory",),
        "a submission may use all memory",
        "grade on Linux; limit the container's memory",
    ),
    _Layer(
        "Killed with the grader",
        ("session", "parent_death"),
        (),
        "a killed grader may leave workers behind",
        "grade on Linux",
    ),
)


def confinement_findings(answers: dict[str, Any], platform: str) -> list[Finding]:
    """One finding for each layer. answers: what the probe printed; platform: sys.platform."""
    confined = answers.get("confined")
    if not isinstance(confined, dict):
        detail = f"could not be tried: {answers.get('failed', confined)}"
        cost = "submissions can't be graded safely here, and grading as root refuses to start"
        remedy = "a container needs SETUID, SETGID and CHOWN among its capabilities (Docker's"
        remedy += " default); otherwise report this as a bug"
        return [Finding("Confinement", "missing", detail, cost, remedy)]
    # A laptop without them runs a student's own code; a root grader has no such excuse.
    lacking: Status = "missing" if answers.get("root") and platform == "linux" else "warn"
    findings = [_layer_finding(layer, confined, lacking, answers) for layer in _LAYERS]
    if not (confined.get("threads") and confined.get("file_inside")):
        detail = "a confined worker can't start a thread, or write into its own folder"
        remedy = "check the limits on processes (ulimit -u) and the free space"
        findings.append(Finding("Confined work", "missing", detail, "tests fail wrongly", remedy))
    return findings + [
        _measure("Worker's peak memory", answers.get("peak_reset"), "memory tests are skipped"),
        _measure("Worker's CPU clock", answers.get("cpu_clock"), "speed tests use the wall clock"),
    ]


def _layer_finding(
    layer: _Layer, confined: dict[str, Any], lacking: Status, answers: dict[str, Any]
) -> Finding:
    states = {name: str(confined["layers"].get(name, "absent")) for name in layer.layers}
    bad = [state for state in states.values() if state != "ok"]
    bad += [f"{effect} is not held back" for effect in layer.effects if not confined.get(effect)]
    if bad:
        return Finding(layer.name, lacking, "; ".join(bad), layer.cost, layer.remedy)
    detail = "holds"
    if layer.name == "Landlock":
        detail = f"holds (ABI {answers.get('landlock_abi')})"
    return Finding(layer.name, "ok", detail)


def _measure(name: str, answer: object, cost: str) -> Finding:
    if answer is True:
        return Finding(name, "ok", "can be read by the grader")
    detail = "can't be read by the grader" if answer is False else str(answer)
    return Finding(name, "warn", detail, cost, "grade on Linux, with /proc mounted")


def interpreter(answers: dict[str, Any], executable: str) -> list[Finding]:
    """Can a worker's uid execute this interpreter? (Only a root grader changes uid.)"""
    if not answers.get("root"):
        return []
    answer = answers.get("interpreter")
    if answer is True:
        return [Finding("Interpreter for workers", "ok", f"{executable} runs for any user")]
    try:
        blocking = confinement.blocking_parent(executable, execute=True)
    except OSError:
        blocking = None
    detail = f"{executable} can't be run by another user ({answer})"
    if blocking is not None:
        detail = f"{blocking} is closed to other users, and {executable} needs it"
    return [
        Finding(
            "Interpreter for workers",
            "warn",
            detail,
            "workers that start programs fail; those that don't are forked and unharmed",
            "apt install python3-venv && rm -rf .venv && /usr/bin/python3 -m venv .venv"
            " && make setup",
        )
    ]


def fork_safety(platform: str) -> Finding:
    """Are workers forked from a warm process, or started afresh?"""
    if platform == "linux":
        return Finding("Worker start", "ok", "forked from a warm process")
    return Finding(
        "Worker start",
        "warn",
        f"fork is not safe beside {platform}'s own numeric libraries: started afresh",
        "each test starts a second or so later",
        "nothing needed",
    )


_MARKS = {"ok": ("ok", "green"), "warn": ("note", "yellow"), "missing": ("MISSING", "bold red")}


def render(findings: Iterable[Finding]) -> RenderableType:
    """A table for a terminal of 80 columns or more, and a line that sums it up."""
    findings = list(findings)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="What this machine can do")
    table.add_column("what", no_wrap=False, max_width=22)
    table.add_column("", no_wrap=True)
    table.add_column("found", overflow="fold", ratio=1)
    for finding in findings:
        word, colour = _MARKS[finding.status]
        lines = Text(finding.detail)
        if finding.cost:
            lines.append(f"\ncost: {finding.cost}", style="dim")
        if finding.remedy:
            lines.append(f"\ndo:   {finding.remedy}", style="cyan")
        table.add_row(Text(finding.name), Text(word, style=colour), lines)
    missing = sum(finding.status == "missing" for finding in findings)
    noted = sum(finding.status == "warn" for finding in findings)
    summary = f"{missing} missing, {noted} to note, of {len(findings)} looked at"
    return Group(table, Text(summary, style="bold red" if missing else "bold green"))


def main(root: Path, write: Callable[[RenderableType], None] | None = None) -> int:
    """Print the findings; 1 if something is missing, else 0."""
    findings = examine(root)
    (write or Console().print)(render(findings))
    return int(any(finding.status == "missing" for finding in findings))
