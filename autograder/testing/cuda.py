"""What tests of CUDA kernels ask of a device's report: no diagnostics, and counts within limits.

    cuda.check(result["report"])
    cuda.at_most(report, "global_load_sectors", 4 * rows, why="each element once: 4 sectors a row")

The report comes from the worker, so its shape is checked before it is believed. The counts in it are
the emulator's, which fences kernels in: they can't reach it.
"""

from __future__ import annotations

import contextvars
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from autograder.testing import kernel_words as words
from autograder.testing.frames import called, frames_with_source, helper_calls
from autograder.testing.kernel_report import (
    ACCESSES,
    COUNTS,
    Diagnostic,
    KernelReport,
    Launch,
    LineCount,
    MalformedReport,
    merged,
    merged_lines,
    read_report,
    totals_of,
)
from autograder.testing.records import Frame, Measure
from autograder.testing.student import Student, StudentError

__all__ = [
    "KernelDiagnosed", "MalformedReport", "at_most", "attach", "check", "exactly", "no_access",
    "read", "totals",
]  # fmt: skip

MAX_SHOWN = 5
COSTLIEST = 3
MAX_KERNELS, MAX_ATTACHED_LINES, MAX_ATTACHED_DIAGNOSTICS, MAX_ATTACHED_OUTPUT = 16, 24, 20, 4_000


@dataclass(frozen=True)
class Running:
    """The running test: its student, and where the source of the student's kernels lies."""

    student: Student | None
    overlay: Path
    warnings: list[str] = field(default_factory=list)  # what `check` let pass


# Set by the plugin. Without it, messages show no source, and no measures are recorded.
RUNNING: contextvars.ContextVar[Running | None] = contextvars.ContextVar("running", default=None)


class KernelDiagnosed(StudentError):
    """A kernel did what no kernel may do; `title` is the kind of the first diagnostic."""


def read(report: Any) -> KernelReport:
    """The report, checked; MalformedReport (an AssertionError) where it is not one."""
    return report if isinstance(report, KernelReport) else read_report(report)


def check(report: Any) -> None:
    """Assert that no kernel raced, left its arrays, read what nobody wrote, or the like.

    Warnings pass, and are kept for the report. The message names the lines, the threads, and what
    to try.
    """
    report, running = read(report), RUNNING.get()
    for found in report.diagnostics[:MAX_ATTACHED_DIAGNOSTICS] if running else ():
        if not found.is_error and len(running.warnings) < MAX_SHOWN:
            running.warnings.append(_diagnosed(found))
    errors = [found for found in report.diagnostics if found.is_error]
    if not errors:
        return
    errors.sort(key=words.order)
    shown = [_diagnosed(found) for found in errors[:MAX_SHOWN]]
    if len(errors) > MAX_SHOWN:
        shown.append(f"and {len(errors) - MAX_SHOWN} more")
    if report.dropped:
        shown.append(words.dropped(report.dropped))
    if len(errors) > 1:
        shown.insert(0, f"{len(errors)} errors in your kernels; the first is the one to look at")
    raise KernelDiagnosed(
        words.known_kind(errors[0].kind), "\n\n".join(shown), _frames(errors[0])
    )


def totals(report: Any, kernel: str | None = None) -> dict[str, float]:
    """Counts summed over all launches, or those of one kernel; of bank degrees the largest.

    Every count of the contract is there, 0 where nothing was counted. AssertionError if `kernel`
    was not launched.
    """
    return totals_of(_launches(read(report), kernel) if kernel else read(report).launches)


def at_most(
    report: Any,
    count: str,
    limit: float,
    why: str = "",
    kernel: str | None = None,
    slack: float = 1.2,
) -> None:
    """Assert that `count` is at most `limit` × `slack`; `why` derives the limit in words.

    Atomics count as loads and as stores: `atomicAdd(p, 0)` reads like a load does.
    """
    launches = _launches(read(report), kernel)
    value, allowed = _value(totals_of(launches), count), limit * slack
    allowed = math.floor(allowed + 1e-9) if count not in words.RATIOS else allowed
    product = "" if slack == 1 else f" ({words.number(limit)} × {slack:g})"
    most = f"at most {words.number(allowed)}"
    _measure(count, launches, value, f"{most}{product}", why, value <= allowed)
    if value <= allowed:
        return
    asked = f"{most} may be{product}"
    raise AssertionError(_counted(launches, count, kernel, value, asked, limit, why))


def exactly(report: Any, count: str, expected: float, why: str = "", kernel: str | None = None) -> None:
    """Assert that `count` is `expected`, for counts that follow from the task alone.

    Atomics count as loads and as stores.
    """
    launches = _launches(read(report), kernel)
    value = _value(totals_of(launches), count)
    asked = f"exactly {words.number(expected)}"
    _measure(count, launches, value, asked, why, value == expected)
    if value != expected:
        asked += " are expected"
        raise AssertionError(_counted(launches, count, kernel, value, asked, expected, why))


def no_access(report: Any, access: str, kernel: str | None = None, why: str = "") -> None:
    """Assert that there was no access of a kind: "global_atomic", "shared", "atomic", …."""
    counts = [
        f"{one}_requests" for one in ACCESSES if access == one or access in one.split("_")
    ]  # fmt: skip
    if not counts:
        raise ValueError(f"{access!r} is no kind of access; there are {', '.join(ACCESSES)}")
    launches = _launches(read(report), kernel)
    total = totals_of(launches)
    for count in counts:
        if total[count]:
            raise AssertionError(
                _counted(launches, count, kernel, total[count], "none may be", 0, why)
            )


def attach(
    figure: Callable[..., None],
    report: Any,
    title: str = "Your kernels",
    flops: float | Mapping[str, float] = 0,
) -> None:
    """Attach the report's pictures: counts by line, access and bank pictures, modelled time.

    figure: the fixture of that name; flops: floating-point operations, a fused multiply-add two,
    where a roofline should be drawn: of the whole call, or by kernel (of all its launches together).
    """
    found = read(report)
    kernels = found.kernels()
    data = {
        "launches": [_trimmed(one).as_mapping() for one in kernels[:MAX_KERNELS]],
        "more_kernels": max(len(kernels) - MAX_KERNELS, 0),
        "more_diagnostics": max(len(found.diagnostics) - MAX_ATTACHED_DIAGNOSTICS, 0),
        "dropped": found.dropped,
        "diagnostics": [
            vars(one) | {"block": list(one.block), "thread": list(one.thread)}
            for one in found.diagnostics[:MAX_ATTACHED_DIAGNOSTICS]
        ],
        "output": found.output[:MAX_ATTACHED_OUTPUT],
        "sources": _sources(found),
        "calls": {f"{one.file}:{one.line}": called(*_calls(one))
                  for one in found.diagnostics[:MAX_ATTACHED_DIAGNOSTICS]},
        "flops": dict(flops) if isinstance(flops, Mapping) else {"": flops},
    }  # fmt: skip
    figure(kind="kernels", title=title, data=data)


def costliest(launches: Sequence[Launch], count: str, limit: int = COSTLIEST) -> list[LineCount]:
    """The lines that `count` comes from, the dearest first; [] for a count that no line has."""
    lines = merged_lines(line for launch in launches for line in launch.lines)
    worth = words.worth_of(count)
    dear = [line for line in lines if worth(line) > 0]
    return sorted(dear, key=worth, reverse=True)[:limit]


def _launches(report: KernelReport, kernel: str | None) -> tuple[Launch, ...]:
    """Those of one kernel; a count over none at all would earn points for doing nothing."""
    if not report.launches:
        raise AssertionError("no kernel was launched, so there is nothing to count")
    found = report.of(kernel)
    if not found:
        names = list(dict.fromkeys(launch.kernel for launch in report.launches))
        raise AssertionError(
            f"no kernel named {kernel} was launched; launched were: {', '.join(names[:12])}"
        )
    return found


def _value(total: dict[str, float], count: str) -> float:
    """A count with its atomics: one reads and writes, so it is no way around a limit on either."""
    return total[_known(count)] + total.get(words.of_atomics(count), 0)


def _known(count: str) -> str:
    if count not in COUNTS:
        raise ValueError(f"{count!r} is no count; there are {', '.join(COUNTS)}")
    return count


def _counted(
    launches: Sequence[Launch], count: str, kernel: str | None, value: float, asked: str,
    limit: float, why: str,
) -> str:  # fmt: skip
    """What was counted, the limit and where it comes from, the lines it comes from, and a hint."""
    names = list(dict.fromkeys(launch.kernel for launch in launches))
    where = kernel or ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
    atomics = totals_of(launches).get(words.of_atomics(count), 0)
    of_them = f", {words.number(atomics)} of them by atomics, which read and write" if atomics else ""
    lines = [f"{where}: {words.amount(count, value)}{of_them}; {asked}"]
    if why:
        lines.append(f"{words.number(limit)} because: {why}" if limit else f"because: {why}")
    dear = costliest(launches, count)
    if dear:
        lines.append("most of it comes from:" if len(dear) > 1 else "it comes from:")
        for line in dear:
            lines.append(f"  {line.place}  {words.line_text(line)}")
            lines += [f"      {text}" for text in _source_text(line.file, line.line)]
    elif len(names) > 1:
        groups = [merged([one for one in launches if one.kernel == name]) for name in names]
        groups.sort(key=lambda one: one.counts[count], reverse=True)
        lines += [f"  {one.kernel}: {words.number(one.counts[count])}" for one in groups[:COSTLIEST]]
    lines.append(f"hint: {words.hint_for_count(count, dear, value < limit)}")
    return "\n".join(lines)


def _diagnosed(found: Diagnostic) -> str:
    lines = [found.head, *(f"  {line}" for line in found.sentence.splitlines())]
    if found.seen:
        lines.append(f"  {found.seen}")
    for line in dict.fromkeys((found.line, found.other_line)):
        lines += [f"      {text}" for text in _source_text(found.file, line)]
    helper, calls = _calls(found)
    if calls:
        lines.append(f"  {called(helper, calls)}")
        for line in calls:
            lines += [f"      {text}" for text in _source_text(found.file, line)]
    lines.append(f"  try: {words.hint_for_diagnostic(found)}")
    return "\n".join(lines)


def _frames(found: Diagnostic) -> list[Frame]:
    """The lines of a diagnostic with their source from the overlay, where a test is running."""
    _, calls = _calls(found)
    only = calls if len(calls) == 1 else []
    lines = [line for line in (*only, found.other_line, found.line) if line]
    frames = [_frame(found.file, line) for line in dict.fromkeys(lines)]
    return [
        frame.model_copy(update={"function": found.kernel})
        if found.kernel and frame.function == "<file>" else frame
        for frame in frames if frame is not None
    ]  # fmt: skip


def _calls(found: Diagnostic) -> tuple[str, list[int]]:
    """The function that a diagnostic's line lies in, and where it is called, if it is no kernel.

    A fault in a helper is as often one of its caller: a shuffle in a function that half of the warp
    calls. The emulator names the line of the fault alone; the calls are read from the file's text.
    """
    running, frame = RUNNING.get(), _frame(found.file, found.line) if found.line else None
    if running is None or frame is None:
        return "", []
    return helper_calls(frame, found.kernel, running.overlay)


def _frame(file: str, line: int) -> Frame | None:
    """A line of a `.cu` file of the overlay with those around it; reports may name it barely."""
    running = RUNNING.get()
    name = file.rpartition("/")[2]
    if running is None or not name:
        return None
    known = [file, *(f"{path.parent.name}/{name}" for path in running.overlay.glob("*/*.cu*")
                     if path.name == name)]  # fmt: skip
    frames = frames_with_source([[one, line, ""] for one in known], running.overlay)
    return frames[0] if frames else None


def _source_text(file: str, line: int) -> list[str]:
    """The line itself, numbered, or nothing where its source is not at hand."""
    frame = _frame(file, line) if line else None
    source = frame.source if frame else []
    return [f"{one.number} | {one.text.strip()}" for one in source if one.current]


def _sources(report: KernelReport) -> dict[str, str]:
    """The source of every line that a picture names, by `FILE:LINE`."""
    places = {(line.file, line.line) for one in report.launches for line in one.lines}
    places |= {(one.file, one.line) for one in report.diagnostics}
    found = {}
    for file, line in sorted(places)[: MAX_KERNELS * MAX_ATTACHED_LINES]:
        for text in _source_text(file, line):
            found[f"{file}:{line}"] = text.partition(" | ")[2][:120]
    return found


def _trimmed(launch: Launch) -> Launch:
    """Without the cheapest of very many lines: a record has to stay small."""
    dear = sorted(launch.lines, key=lambda line: line.cost, reverse=True)[:MAX_ATTACHED_LINES]
    kept = tuple(line for line in launch.lines if line in dear)
    return replace(launch, lines=kept)


def _measure(
    count: str, launches: Sequence[Launch], value: float, asked: str, why: str, met: bool
) -> None:
    """Attach the number, with the kernels it is of, to the record of the running test."""
    running = RUNNING.get()
    if running is not None and running.student is not None:
        names = list(dict.fromkeys(launch.kernel.partition("<")[0] for launch in launches))
        of = ", ".join(names[:2]) + (", …" if len(names) > 2 else "")
        running.student.measure(Measure(
            name=f"{of}: {words.COUNTED[count]}", value=value, unit="", source="emulator",
            note=f"{asked}: {why}" if why else asked, met=met,
        ))  # fmt: skip
