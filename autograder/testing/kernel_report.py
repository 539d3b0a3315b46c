"""What a device reports about the launches of a call: read from an untrusted worker, and summed.

A report is plain data (dicts, lists, numbers, texts) of the form that `autograder.kernels.Device`
gives. Nothing of it is believed before its shape and its sizes have been checked here.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

MAX_LAUNCHES = 2_000
MAX_LINES = 400  # of one launch
MAX_DIAGNOSTICS = 500
MAX_SIZES = 6  # of problems that one configuration of a kernel is shown for
MAX_NAME, MAX_TEXT, MAX_OUTPUT = 200, 4_000, 20_000
WARP = 32
_LARGEST = 2**62

SPACES = ("global", "shared")
KINDS = ("load", "store", "atomic")
ACCESSES = tuple(f"{space}_{kind}" for space in SPACES for kind in KINDS)
OF_SPACE = {
    "global": ("requests", "sectors", "sectors_min", "bytes"),
    "shared": ("requests", "wavefronts", "wavefronts_min", "bytes"),
}
# Of these the largest is kept, where all others are added up.
LARGEST_OF = ("worst_bank_degree",)
COUNTS = (
    *(f"{space}_{kind}_{what}" for space in SPACES for kind in KINDS for what in OF_SPACE[space]),
    "barriers", "warp_syncs", "shuffles", "partial_requests", *LARGEST_OF,
)  # fmt: skip

Counts = dict[str, float]


class MalformedReport(AssertionError):
    """The report has not the shape that a device gives it."""


@dataclass(frozen=True)
class Diagnostic:
    """One thing that is wrong, or doubtful (`severity` "warning"), and where it was seen first."""

    kind: str
    severity: str
    message: str
    kernel: str = ""
    file: str = ""
    line: int = 0
    other_line: int = 0
    block: tuple[int, ...] = ()
    thread: tuple[int, ...] = ()
    count: int = 1

    @property
    def is_error(self) -> bool:
        """Whether it costs points; what is no warning does."""
        return self.severity != "warning"

    @property
    def place(self) -> str:
        """`FILE:LINE`, as far as known."""
        return f"{self.file}:{self.line}" if self.file and self.line else self.file

    @property
    def head(self) -> str:
        """What, in which kernel, where: `race in softmax, softmax.cu:41 and line 38`."""
        text = self.kind or "diagnostic"
        text += f" in {self.kernel}" if self.kernel else ""
        text += f", {self.place}" if self.place else ""
        if self.other_line and self.other_line != self.line:
            text += f" and line {self.other_line}"
        return text

    @property
    def sentence(self) -> str:
        """The message without what the head says already."""
        text = self.message.removeprefix(f"{self.place}:").strip().removeprefix(f"{self.kind}:")
        return text.removesuffix(f"[kernel {self.kernel}]").strip()

    @property
    def seen(self) -> str:
        """How often, and who was first, where the message does not say it."""
        parts = []
        if self.block and self.thread and " of block " not in self.message:
            parts.append(f"first seen in block {self.block}, thread {self.thread}")
        if self.count > 1:
            parts.append(f"{self.count:,} times")
        return "; ".join(parts)


@dataclass(frozen=True)
class LineCount:
    """What the accesses of one kind from one line of source came to.

    sample: the byte offsets of one request's lanes, from the start of the 128 bytes that the lowest
    lies in; None for lanes that took no part.
    """

    file: str
    line: int
    access: str
    requests: int = 0
    sectors: int = 0
    sectors_min: int = 0
    wavefronts: int = 0
    wavefronts_min: int = 0
    worst_degree: float = 0.0
    lanes: int = 0
    partial: int = 0
    bytes: int = 0
    sample: tuple[int | None, ...] = ()
    sample_size: int = 0

    @property
    def place(self) -> str:
        """`FILE:LINE`."""
        return f"{self.file}:{self.line}"

    @property
    def space(self) -> str:
        """`global` or `shared`; "" for an access of another kind."""
        return self.access.partition("_")[0] if self.access in ACCESSES else ""

    @property
    def cost(self) -> int:
        """Sectors of global memory, or passes through shared memory."""
        return self.wavefronts if self.space == "shared" else self.sectors

    @property
    def least(self) -> int:
        """The fewest that the same bytes could cost."""
        return self.wavefronts_min if self.space == "shared" else self.sectors_min


@dataclass(frozen=True)
class Launch:
    """One launch, or under one name several (`launches`), whose counts were added up."""

    kernel: str
    line: int = 0
    grid: tuple[int, ...] = (1, 1, 1)
    block: tuple[int, ...] = (1, 1, 1)
    shared_bytes: int = 0
    blocks: int = 1
    blocks_run: int = 1
    counts: Counts = field(default_factory=dict)
    lines: tuple[LineCount, ...] = ()
    launches: int = 1

    @property
    def configuration(self) -> tuple[Any, ...]:
        """What the launch says between its brackets, and of which kernel."""
        return self.kernel, self.grid, self.block, self.shared_bytes

    @property
    def work(self) -> tuple[float, ...]:
        """What it does more of, if the problem is larger."""
        counts = ("global_load_requests", "global_store_requests", "barriers")
        return tuple(self.counts.get(name, 0) / self.launches for name in counts)

    def as_mapping(self) -> dict[str, Any]:
        """As a device would report it: for `kernels.model`, and for figures."""
        names = ("kernel", "line", "shared_bytes", "blocks", "blocks_run", "launches")
        plain = {name: getattr(self, name) for name in names}
        lines = [vars(line) | {"sample": list(line.sample)} for line in self.lines]
        return plain | {
            "grid": list(self.grid), "block": list(self.block), "counts": dict(self.counts),
            "lines": lines,
        }  # fmt: skip


@dataclass(frozen=True)
class KernelReport:
    """All launches of a call in their order, what was wrong in them, and how often elsewhere."""

    launches: tuple[Launch, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    output: str = ""
    dropped: int = 0

    def of(self, kernel: str | None) -> tuple[Launch, ...]:
        """The launches of one kernel; `name` also means `name<…>`. None means all."""
        return tuple(launch for launch in self.launches if is_kernel(launch.kernel, kernel))

    def kernels(self) -> list[Launch]:
        """The launches of the same kernel and sizes made one, in order of their first launch.

        No argument is in a report: launches of one grid that load, store or wait more often are of
        another problem. Where there are many such, the data decide, and they stay together.
        """
        sizes: dict[Any, set[Any]] = {}
        for launch in self.launches:
            sizes.setdefault(launch.configuration, set()).add(launch.work)
        groups: dict[Any, list[Launch]] = {}
        for launch in self.launches:
            few = len(sizes[launch.configuration]) <= MAX_SIZES
            groups.setdefault((launch.configuration, few and launch.work), []).append(launch)
        return [merged(group) for group in groups.values()]


def is_kernel(name: str, wanted: str | None) -> bool:
    """Whether a launched kernel's name is `wanted`, template arguments and namespaces aside."""
    if wanted is None or name == wanted:
        return True
    bare = name.partition("<")[0].strip()
    return wanted in (bare, bare.rpartition("::")[2])


def totals_of(launches: Iterable[Launch]) -> Counts:
    """Counts added up; of a degree the largest. Every known count is there."""
    total: Counts = dict.fromkeys(COUNTS, 0)
    for launch in launches:
        for name, value in launch.counts.items():
            held = total.get(name, 0)
            total[name] = max(held, value) if name in LARGEST_OF else held + value
    return total


def merged(launches: list[Launch]) -> Launch:
    """Several launches as one: the configuration of the first, counts and lines added up."""
    first = launches[0]
    return replace(
        first,
        counts=totals_of(launches),
        lines=merged_lines(line for launch in launches for line in launch.lines),
        blocks=sum(launch.blocks for launch in launches),
        blocks_run=sum(launch.blocks_run for launch in launches),
        launches=sum(launch.launches for launch in launches),
    )


def merged_lines(lines: Iterable[LineCount]) -> tuple[LineCount, ...]:
    """Counts of the same line and access added up, in the order of the source."""
    found: dict[tuple[str, int, str], LineCount] = {}
    for line in lines:
        key = (line.file, line.line, line.access)
        held = found.get(key)
        if held is None:
            found[key] = line
            continue
        added = (
            "requests", "sectors", "sectors_min", "wavefronts", "wavefronts_min", "lanes",
            "partial", "bytes",
        )  # fmt: skip
        sums = {name: getattr(held, name) + getattr(line, name) for name in added}
        # The sample of the dearer access is the one to look at.
        worst = max(held, line, key=lambda one: one.cost / one.requests if one.requests else 0)
        degree = max(held.worst_degree, line.worst_degree)
        found[key] = replace(worst, **sums, worst_degree=degree)
    return tuple(sorted(found.values(), key=lambda line: (line.file, line.line, line.access)))


def read_report(value: Any) -> KernelReport:
    """Check `value` and read it; MalformedReport for what a device would not say.

    Unknown entries are ignored. Texts come out printable and bounded.
    """
    report = _mapping(value, "it")
    return KernelReport(
        launches=tuple(map(_launch, _items(report, "launches", MAX_LAUNCHES))),
        diagnostics=tuple(map(_diagnostic, _items(report, "diagnostics", MAX_DIAGNOSTICS))),
        output=printable(report.get("output", ""), MAX_OUTPUT),
        dropped=_reader(report, "report")("dropped"),
    )


def printable(text: Any, limit: int = MAX_TEXT) -> str:
    """A text without control and invisible characters, newlines aside, cut to `limit`."""
    if not isinstance(text, str):
        raise MalformedReport(_malformed(f"a text is needed, not {type(text).__name__}"))
    text = text[: 4 * limit]
    kept = (c for c in text if c == "\n" or unicodedata.category(c)[0] != "C")
    return "".join(kept)[:limit]


def _launch(value: Any) -> Launch:
    launch = _mapping(value, "a launch")
    read = _reader(launch, "launch")
    counts = _mapping(launch.get("counts"), "a launch's counts")
    if len(counts) > 4 * len(COUNTS):
        raise MalformedReport(_malformed(f"{len(counts)} counts in a launch"))
    grid = _three(launch.get("grid"), "grid")
    blocks = math.prod(grid)
    return Launch(
        kernel=_name(launch.get("kernel") or ""),
        line=read("line"), shared_bytes=read("shared_bytes"),
        grid=grid, block=_three(launch.get("block"), "block"),
        blocks=read("blocks", blocks), blocks_run=read("blocks_run", blocks),
        counts={name: _number(counts.get(name, 0), name) for name in COUNTS},
        lines=tuple(map(_line, _items(launch, "lines", MAX_LINES))),
        launches=read("launches", 1),
    )  # fmt: skip


def _line(value: Any) -> LineCount:
    line = _mapping(value, "a line")
    read = _reader(line, "line")
    numbers = ("line", "requests", "sectors", "sectors_min", "wavefronts", "wavefronts_min",
               "lanes", "partial", "bytes", "sample_size")  # fmt: skip
    return LineCount(
        file=_name(line.get("file") or ""),
        access=_name(line.get("access") or ""),
        worst_degree=_number(line.get("worst_degree", 0), "worst_degree"),
        sample=_sample(line.get("sample")),
        **{name: read(name) for name in numbers},
    )


def _sample(value: Any) -> tuple[int | None, ...]:
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)) or len(value) > WARP:
        raise MalformedReport(_malformed(f"a sample is a list of at most {WARP} offsets"))
    return tuple(None if one is None else _whole(one, "a sample's offset") for one in value)


def _diagnostic(value: Any) -> Diagnostic:
    found = _mapping(value, "a diagnostic")
    read = _reader(found, "diagnostic")
    return Diagnostic(
        kind=_name(found.get("kind", "")),
        severity=_name(found.get("severity", "")),
        message=printable(found.get("message", "")),
        kernel=_name(found.get("kernel") or ""),
        file=_name(found.get("file") or ""),
        line=read("line"), other_line=read("other_line"), count=read("count", 1),
        block=_place(found.get("block"), "block"), thread=_place(found.get("thread"), "thread"),
    )  # fmt: skip


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise MalformedReport(_malformed(f"{what} should be a dict, not {type(value).__name__}"))
    return value


def _items(holder: Mapping[str, Any], name: str, limit: int) -> list[Any]:
    value = holder.get(name, [])
    if not isinstance(value, (list, tuple)):
        raise MalformedReport(_malformed(f"{name!r} should be a list, not {type(value).__name__}"))
    if len(value) > limit:
        raise MalformedReport(_malformed(f"{len(value)} {name}, at most {limit} can be read"))
    return list(value)


def _reader(holder: Mapping[str, Any], what: str) -> Callable[..., int]:
    """Whole numbers by name; one that is absent or None is the default."""

    def read(name: str, default: int = 0) -> int:
        value = holder.get(name)
        return default if value is None else _whole(value, f"a {what}'s {name!r}")

    return read


def _whole(value: Any, what: str) -> int:
    if type(value) is not int or not 0 <= value < _LARGEST:
        raise MalformedReport(_malformed(f"{what} should be a whole number from 0 up"))
    return value


def _number(value: Any, what: str) -> float:
    """An int where it is one, so that counts compare exactly."""
    if type(value) is float and math.isfinite(value) and 0 <= value < _LARGEST:
        return int(value) if value.is_integer() else value
    return _whole(value, repr(what))


def _three(value: Any, what: str) -> tuple[int, ...]:
    place = _place(value, what)
    if len(place) != 3 or not all(place):
        raise MalformedReport(_malformed(f"a {what} has three sizes from 1 up"))
    return place


def _place(value: Any, what: str) -> tuple[int, ...]:
    """Indices or sizes in x, y and z; () for none."""
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)) or len(value) > 3:
        raise MalformedReport(_malformed(f"{what!r} should be a list of three numbers"))
    return tuple(_whole(one, f"an entry of {what!r}") for one in value)


def _name(text: Any) -> str:
    return re.sub(r"\s+", " ", printable(text, MAX_NAME)).strip()


def _malformed(what: str) -> str:
    return (
        f"the report of the device is malformed: {what}. Nothing in your .cu file should be able to "
        "change it; if you are sure that it did not, tell the staff"
    )
