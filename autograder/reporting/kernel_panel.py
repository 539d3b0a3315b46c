"""What a reader is shown of a call's kernels, ready for a terminal or a page: tables and pictures.

Made from a device's report, which comes from untrusted code: it is read by `kernel_report`, and every
text is cleaned here, once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autograder.kernels.model import DEFAULT_GPU, GPUS, DoesNotFit, Estimate, modelled_time
from autograder.kernels.nvcc import Resources
from autograder.reporting.figures import Drawing, draw
from autograder.reporting.kernel_pictures import short, time_text
from autograder.reporting.kernel_registers import register_facts, registers_of
from autograder.reporting.sanitise import clean_line, clean_text
from autograder.testing.kernel_report import (
    Diagnostic,
    KernelReport,
    Launch,
    LineCount,
    is_kernel,
    read_report,
)
from autograder.testing.kernel_words import WASTEFUL, dropped, hint_for_diagnostic, known_kind, order
from autograder.testing.records import Figure

MAX_KERNELS, MAX_LINES, MAX_DIAGNOSTICS = 16, 24, 20
# One, and several.
_SHARED_UNIT, _GLOBAL_UNIT = ("pass", "passes"), ("sector", "sectors")


@dataclass(frozen=True)
class Row:
    """The accesses of one kind from one line: how many requests, what each costs at best and here."""

    place: str
    source: str
    access: str
    requests: str
    unit: str
    each: str
    least: str
    degree: str
    idle: str
    wasteful: bool


@dataclass(frozen=True)
class KernelTable:
    """One kernel: how it was launched, facts about the whole, and its lines."""

    name: str
    launched: str
    facts: list[tuple[str, str]]
    terms: str
    rows: list[Row]
    pictures: list[tuple[str, Drawing]]


@dataclass(frozen=True)
class Finding:
    """A diagnostic: its head, the sentence, when it was seen, lines of source, what to try.

    called: where the function is called that the line lies in, if that is no kernel.
    """

    head: str
    message: str
    seen: str
    sources: list[tuple[int, str]]
    called: str
    hint: str
    error: bool


@dataclass(frozen=True)
class Panel:
    """All kernels of a call, what is wrong in them, and the roofline where flops are known."""

    kernels: list[KernelTable]
    findings: list[Finding]
    more_kernels: int
    more_findings: int
    dropped: str
    gpu: str
    roofline: Drawing | None
    output: str


def panel_of(
    data: Any, pictures: bool = True, gpu: str = DEFAULT_GPU, resources: Sequence[Resources] = ()
) -> Panel:
    """The panel of a report, or of a figure's data: a report with "sources" and "flops" beside it.

    sources: lines of source by `FILE:LINE`; flops: floating-point operations by kernel, those of
    the whole call under ""; resources: what nvcc said of the kernels, if asked. Raises
    MalformedReport.
    """
    report = read_report(data)
    sources, calls = _texts(data.get("sources")), _texts(data.get("calls"))
    flops = _numbers(data.get("flops"))
    kernels = report.kernels()
    shown = kernels[:MAX_KERNELS]
    diagnostics = sorted(report.diagnostics, key=order)[:MAX_DIAGNOSTICS]
    return Panel(
        kernels=[
            _table(one, kernels, sources, _flops_of(one, kernels, flops), gpu, pictures, resources)
            for one in shown
        ],
        findings=[_finding(one, sources, calls) for one in diagnostics],
        more_kernels=len(kernels) - len(shown) + _count(data.get("more_kernels")),
        more_findings=(
            len(report.diagnostics) - len(diagnostics) + _count(data.get("more_diagnostics"))
        ),
        dropped=dropped(report.dropped) if report.dropped else "",
        gpu=gpu,
        roofline=_roofline(report, flops, gpu, resources) if pictures else None,
        output=clean_text(report.output, max_lines=40, max_characters=4_000),
    )


def estimate_of(
    launch: Launch, gpu: str = DEFAULT_GPU, flops: float = 0.0, resources: Sequence[Resources] = ()
) -> Estimate | None:
    """The modelled time of a launch, None where it does not fit on the GPU."""
    registers = registers_of(launch, resources)
    try:
        return modelled_time(launch.as_mapping(), GPUS[gpu], flops=flops, registers=registers)
    except DoesNotFit:
        return None


def version_of(
    label: str, report: KernelReport, gpu: str = DEFAULT_GPU, flops: float = 0.0,
    resources: Sequence[Resources] = (),
) -> dict[str, Any]:
    """A version's counts over all its launches: a row of `kernel_ladder`, a point of `roofline`.

    flops: of the version, shared by its launches; the time is nan where one does not fit; wrong: the
    kind of the error to look at first, "" for none: its counts are those of another kernel.
    """
    kinds = ("load", "store", "atomic")
    launches = report.kernels()
    errors = sorted((one for one in report.diagnostics if one.is_error), key=order)
    total: dict[str, Any] = {"label": label, "flops": flops}
    total["wrong"] = known_kind(errors[0].kind) if errors else ""
    for name, space, what in (
        ("requests", "global", "requests"), ("sectors", "global", "sectors"),
        ("sectors_min", "global", "sectors_min"), ("wavefronts", "shared", "wavefronts"),
        ("wavefronts_min", "shared", "wavefronts_min"),
    ):  # fmt: skip
        total[name] = sum(
            one.counts.get(f"{space}_{kind}_{what}", 0) for one in launches for kind in kinds
        )
    total["barriers"] = sum(one.counts.get("barriers", 0) for one in launches)
    times = [estimate_of(one, gpu, flops / len(launches), resources) for one in launches]
    total["bytes"] = 32 * total["sectors"]
    total["seconds"] = sum(one.seconds for one in times if one) if all(times) else math.nan
    return total


def _table(
    launch: Launch, kernels: Sequence[Launch], sources: Mapping[str, str], flops: float, gpu: str,
    pictures: bool, resources: Sequence[Resources],
) -> KernelTable:  # fmt: skip
    dear = sorted(launch.lines, key=lambda line: line.cost, reverse=True)[:MAX_LINES]
    lines = [line for line in launch.lines if line in dear]
    estimate = estimate_of(launch, gpu, flops, resources)
    return KernelTable(
        name=clean_line(launch.kernel, 120) or "a kernel",
        launched=_launched(launch, kernels),
        facts=_facts(launch, estimate, gpu, flops, resources),
        terms=_terms(estimate),
        rows=[_row(line, sources) for line in lines],
        pictures=_pictures(lines) if pictures else [],
    )


def _launched(launch: Launch, kernels: Sequence[Launch]) -> str:
    """Blocks and threads; where several problems have the same, how much this one reads."""

    def sizes(three: Sequence[int]) -> str:
        while len(three) > 1 and three[-1] == 1:
            three = three[:-1]
        return " × ".join(f"{one:,}" for one in three)

    blocks = "block" if launch.grid == (1, 1, 1) else "blocks"
    text = f"{sizes(launch.grid)} {blocks} of {sizes(launch.block)} threads"
    if launch.shared_bytes:
        text += f", {launch.shared_bytes:,} bytes of shared memory"
    if launch.launches > 1:
        text += f", launched {launch.launches} times"
    if sum(one.configuration == launch.configuration for one in kernels) > 1:
        read = launch.counts.get("global_load_bytes", 0) / launch.launches
        text += f"; the problem of {short(read)} bytes read"
    if launch.blocks_run < launch.blocks:
        text += f"; counted on {launch.blocks_run:,} of {launch.blocks:,} blocks"
    return text


def _facts(
    launch: Launch, estimate: Estimate | None, gpu: str, flops: float,
    resources: Sequence[Resources],
) -> list[tuple[str, str]]:  # fmt: skip
    counts = launch.counts
    facts = []
    for space, what, unit in (("global", "sectors", "sectors"), ("shared", "wavefronts", "passes")):
        cost = sum(counts.get(f"{space}_{k}_{what}", 0) for k in ("load", "store", "atomic"))
        least = sum(counts.get(f"{space}_{k}_{what}_min", 0) for k in ("load", "store", "atomic"))
        if cost:
            over = f", {cost / least:.3g} × the least possible" if least else ""
            facts.append((f"{space} memory", f"{short(cost)} {unit}{over}"))
    if counts.get("worst_bank_degree", 0):
        facts.append(("worst bank conflict", f"degree {counts['worst_bank_degree']:.3g}"))
    for name, label in (
        ("barriers", "barriers"), ("warp_syncs", "warp barriers"), ("shuffles", "shuffles"),
        ("partial_requests", "requests with idle lanes"),
    ):  # fmt: skip
        if counts.get(name, 0) or name == "barriers":
            facts.append((label, short(counts.get(name, 0))))
    facts += register_facts(launch, resources)
    if estimate is None:
        facts.append(("modelled time", f"none: a block does not fit on an SM of {gpu}"))
        return facts
    if estimate.seconds:
        bound = f"{time_text(estimate.seconds)} on {gpu}, bound by {estimate.bound}"
        facts.append(("modelled time", bound))
    held = estimate.occupancy
    facts.append(("occupancy", f"{100 * held.fraction:.0f}%, limited by {held.limit}"))
    others = {name: estimate_of(launch, name, flops, resources) for name in GPUS if name != gpu}
    told = [f"{time_text(one.seconds)} on {name}" for name, one in others.items() if one]
    if told and estimate.seconds:
        facts.append(("elsewhere", ", ".join(told)))
    return facts


def _terms(estimate: Estimate | None) -> str:
    """The time of each resource, the longest first."""
    if estimate is None or not estimate.seconds:
        return ""
    terms = sorted(estimate.terms.items(), key=lambda term: -term[1])
    return ", ".join(f"{name} {time_text(value)}" for name, value in terms if value)


def _row(line: LineCount, sources: Mapping[str, str]) -> Row:
    shared = line.space == "shared"
    each = line.cost / line.requests if line.requests else 0.0
    least = line.least / line.requests if line.requests else 0.0
    return Row(
        place=clean_line(line.place, 80),
        source=sources.get(line.place, ""),
        access=clean_line(line.access, 40).replace("_", " "),
        requests=short(line.requests),
        unit=(_SHARED_UNIT if shared else _GLOBAL_UNIT)[least != 1],
        each=f"{each:.3g}",
        least=f"{least:.3g}",
        degree=f"{line.worst_degree:.3g}" if shared else "",
        idle=short(line.partial) if line.partial else "",
        wasteful=line.cost > WASTEFUL * line.least or (shared and line.worst_degree > 1),
    )


def _pictures(lines: Sequence[LineCount]) -> list[tuple[str, Drawing]]:
    """The dearest load and store of global memory, and the worst access of shared memory."""
    chosen: list[tuple[str, LineCount]] = []
    for access in ("global_load", "global_store", "global_atomic"):
        own = [line for line in lines if line.access == access and line.sample]
        if own:
            chosen.append(("access", max(own, key=lambda line: line.cost - line.least)))
    own = [line for line in lines if line.space == "shared" and line.sample]
    if own:
        chosen.append(("banks", max(own, key=lambda line: (line.worst_degree, line.cost))))
    drawn = []
    for kind, line in chosen:
        data = {
            "sample": list(line.sample), "sample_size": line.sample_size, "access": line.access,
        }  # fmt: skip
        drawing = draw(Figure(kind=kind, title="", data=data))
        if drawing is not None:
            name = clean_line(line.access, 40).replace("_", " ")
            drawn.append((f"{clean_line(line.place, 80)}, {name}: one request", drawing))
    return drawn


def _flops_of(launch: Launch, kernels: Sequence[Launch], flops: Mapping[str, float]) -> float:
    """Those of one row of the panel; 0 where other launches share the number with it."""
    for name, known in flops.items():
        own = [one for one in kernels if is_kernel(one.kernel, name or None)]
        if own == [launch]:
            return known
    return 0.0


def _roofline(
    report: KernelReport, flops: Mapping[str, float], gpu: str, resources: Sequence[Resources]
) -> Drawing | None:
    """A point for each kernel whose flops are known, or one for all together."""
    points = []
    for name, known in flops.items():
        own = KernelReport(launches=report.of(name or None))
        names = {launch.kernel for launch in own.launches}
        if known > 0 and names:
            words = name or (names.pop() if len(names) == 1 else "all kernels together")
            points.append(version_of(words, own, gpu, known, resources))
    if not points:
        return None
    return draw(Figure(kind="roofline", title="", data={"gpu": gpu, "points": points}))


def _finding(
    found: Diagnostic, sources: Mapping[str, str], calls: Mapping[str, str]
) -> Finding:
    lines = sorted({line for line in (found.line, found.other_line) if line})
    known = [(line, sources.get(f"{found.file}:{line}", "")) for line in lines]
    return Finding(
        head=clean_line(found.head, 300),
        message=clean_text(found.sentence, max_lines=20, max_characters=2_000),
        seen=found.seen,
        sources=[(line, text) for line, text in known if text],
        called=calls.get(f"{found.file}:{found.line}", ""),
        hint=hint_for_diagnostic(found),
        error=found.is_error,
    )


def _texts(value: Any) -> dict[str, str]:
    """Source lines, each cleaned; anything that is none is left out."""
    if not isinstance(value, Mapping):
        return {}
    pairs = ((key, text) for key, text in list(value.items())[:2_000])
    return {
        key: clean_text(text, max_lines=1, max_characters=160).strip()
        for key, text in pairs
        if isinstance(key, str) and isinstance(text, str)
    }


def _count(value: Any) -> int:
    return value if type(value) is int and 0 <= value < 1_000_000 else 0


def _numbers(value: Any) -> dict[str, float]:
    if not isinstance(value, Mapping):
        return {}
    return {
        str(key): float(one)
        for key, one in list(value.items())[:100]
        if type(one) in (int, float) and 0 <= one < 1e30
    }
