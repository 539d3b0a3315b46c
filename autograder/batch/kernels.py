"""`make kernels`: a student's kernels on the homework's standard inputs, counted and drawn."""

from __future__ import annotations

import importlib.util
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console
from rich.text import Text

from autograder.batch.resources import NVCC_MISSING, Compiled, resources_of
from autograder.batch.run import Job, default_confinement
from autograder.course.assignment import Assignment
from autograder.course.intake import Submission
from autograder.course.overlay import build_overlay
from autograder.kernels.nvcc import find_nvcc
from autograder.reporting.explain import frame_text
from autograder.reporting.figures import Drawing, draw
from autograder.reporting.kernel_page import Operation, Page, Version, write_page
from autograder.reporting.kernel_panel import Panel, panel_of, version_of
from autograder.reporting.kernel_terminal import print_ladder, print_panel
from autograder.reporting.sanitise import clean_line, clean_text
from autograder.sandbox.host import WorkerFailure
from autograder.sandbox.processes import remove_tree
from autograder.testing import cuda
from autograder.testing.grading import Run
from autograder.testing.records import Figure
from autograder.testing.student import StudentError, StudentRaised

STANDARD_INPUTS = "standard_inputs.py"


class NothingToShow(Exception):
    """The homework has no kernels, or none that matches; the message says which there are."""


@dataclass(frozen=True)
class Counted:
    """One version that ran: its panel for the page, its row of the ladder."""

    panel: Panel
    row: dict[str, Any]


def chosen_operations(assignment: Assignment, keyword: str) -> list[Any]:
    """The operations of the homework's `standard_inputs.py` that `keyword` names; all for ""."""
    operations = _standard_inputs(assignment).OPERATIONS
    plain = keyword.strip("_").replace("_", ".") if re.fullmatch(r"[\d_.]+", keyword) else keyword
    exact = [one for one in operations if plain in (one.name, one.file, one.task)]
    found = exact or [one for one in operations if plain in one.name]
    if not found:
        names = ", ".join(f"{one.name} ({one.task})" for one in operations)
        raise NothingToShow(f"no operation is called {keyword!r}; there are: {names}")
    return found


def show_kernels(
    assignment: Assignment, files: Submission, keyword: str, out: Path, console: Console
) -> Path:
    """Run the chosen operations of `files`, print their counts, write a page; returns its path.

    The code runs in the sandbox, as in a test. What fails is shown in the place of its counts.
    """
    operations = chosen_operations(assignment, keyword)
    work = Path(tempfile.mkdtemp(prefix="llm-systems-kernels-"))
    run: Run | None = None
    try:
        work.chmod(0o711)
        overlay = build_overlay(assignment, files.files, work / "overlay")
        job = Job(assignment, overlay, work / "run")
        job.prepare()
        run = Run(assignment, overlay, job.work / "cache", seed=0, confine=default_confinement())
        run.load_modules()
        paths = {one.file: overlay / assignment.package / f"{one.file}.cu" for one in operations}
        compiled = resources_of(run, [path for path in paths.values() if path.is_file()])
        by_file = {name: compiled.get(path, Compiled()) for name, path in paths.items()}
        told: dict[str, str] = {}
        shown = [_operation(run, one, by_file[one.file], told, console) for one in operations]
        note = "" if find_nvcc() else NVCC_MISSING
    finally:
        if run is not None:
            run.close()
        remove_tree(work)
    name = re.sub(r"\W+", "_", keyword).strip("_") or "all"
    command = f"make kernels HW={assignment.name}{f' K={keyword}' if keyword else ''}"
    page = out / f"kernels_{name}.html"
    title = f"{assignment.title.partition(':')[0]}: your kernels"
    if note:
        console.print()
        console.print(Text(note, style="yellow"), soft_wrap=True)
    write_page(page, Page(title=title, command=clean_line(command), operations=shown, note=note))
    return page


def _standard_inputs(assignment: Assignment) -> ModuleType:
    path = assignment.root / "tests" / STANDARD_INPUTS
    if not path.is_file():
        raise NothingToShow(f"{assignment.name} has no kernels to show")
    name = f"{assignment.name}_standard_inputs"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look there for their module
    spec.loader.exec_module(module)
    return module


def _operation(
    run: Run, operation: Any, compiled: Compiled, told: dict[str, str], console: Console
) -> Operation:
    """Run and print one operation; its part of the page. told: by failure, who told it first."""
    console.print()
    console.print(Text(f"{operation.task} {operation.name}: {operation.input}", style="bold"),
                  soft_wrap=True)  # fmt: skip
    run.warm_up(operation.task)
    versions, rows = [], []
    for case, counted in _runs(run, operation, compiled):
        if isinstance(counted, str):
            own = f"{operation.name}, {case.label}"
            if (teller := told.setdefault(counted, own)) != own:
                counted = f"the same as {teller}"
            text = Text(f"\n{case.label}: ", style="bold").append(counted, style="yellow")
            console.print(text, soft_wrap=not console.is_terminal)
            versions.append(Version(case.label, failed=counted))
            continue
        if len(operation.cases) > 1:
            console.print(Text(f"\n{case.label}", style="bold"))
        print_panel(counted.panel, console)
        versions.append(Version(case.label, counted.panel))
        rows.append(counted.row)
    ladder = roofline = None
    if compiled.failed and rows:
        text = Text("\nnvcc refuses this file, so registers and spills are not known: ")
        console.print(text.append(compiled.failed, style="yellow"), soft_wrap=True)
    if len(rows) > 1:
        print_ladder(rows, versions[-1].panel.gpu if versions[-1].panel else "modelled", console)
        ladder = _drawn("kernel_ladder", versions=rows, gpu="A100")
    if operation.flops and rows:
        roofline = _drawn("roofline", points=rows, gpu="A100")
    title = f"{operation.task} {operation.name}"
    return Operation(title, operation.input, versions, ladder, roofline, compiled.failed)


def _runs(run: Run, operation: Any, compiled: Compiled) -> Iterator[tuple[Any, Counted | str]]:
    """Each case with its counts, or with what went wrong."""
    for case in operation.cases:
        student = run.student(f"kernels {operation.name} {case.label}", forbid_blas=False)
        try:
            value = student.run(getattr(run.drivers, case.driver), **case.arguments())
            answer = value[0] if isinstance(value, list) and value else value
            report = answer.get("report") if isinstance(answer, dict) else None
            yield case, _counted(report, case.label, run.overlay, operation.flops, compiled)
        except (StudentError, AssertionError) as error:
            yield case, _failed(error)
        except WorkerFailure as failure:
            yield case, clean_text(str(failure))
        finally:
            student.close()


def _counted(
    report: Any, label: str, overlay: Path, flops: float, compiled: Compiled
) -> Counted:
    """The panel and the row of a report, with lines of source from the overlay."""
    kept: list[dict[str, Any]] = []
    token = cuda.RUNNING.set(cuda.Running(None, overlay))
    try:
        cuda.attach(lambda **fields: kept.append(fields), report)
    finally:
        cuda.RUNNING.reset(token)
    found = compiled.resources
    row = version_of(label, cuda.read(report), flops=flops, resources=found)
    return Counted(panel_of(kept[0]["data"], resources=found), row)


def _failed(error: AssertionError) -> str:
    """What a student is told: the message, and the place in their own code."""
    if isinstance(error, StudentRaised) and error.unfinished:
        return clean_text(error.message)
    frames = getattr(error, "frames", [])[-2:]
    return clean_text("\n".join([str(error), *map(frame_text, frames)]))


def _drawn(kind: str, **data: Any) -> Drawing | None:
    return draw(Figure(kind=kind, title="", data=data))
