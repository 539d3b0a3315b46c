"""Pictures of kernels: where the lanes of a request land, in sectors and in banks; ladder; roofline.

The numbers come from the emulator's report of untrusted code, so they are checked here as in every
drawing function, and texts go through `label`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from autograder.kernels.model import DEFAULT_GPU, GPUS
from autograder.reporting.figures import (
    INK,
    MUTED,
    PAPER,
    RULE,
    SERIES,
    FigureDataError,
    kind,
    label,
    log_axis,
    number,
    sequence,
    written_kind,
)
from autograder.reporting.sanitise import clean_line
from autograder.reporting.svg import WIDTH, Sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LANES, BANKS, WORD, SECTOR = 32, 32, 4, 32
_SIZES = (1, 2, 4, 8, 16)
_MAX_ROWS = 8  # of sectors in a picture, four in each
_MAX_OFFSET = 2**48
_MAX_VERSIONS = 12
_MAX_POINTS = 12
_LEFT = 5.0


@dataclass(frozen=True)
class Sample:
    """One request of a warp: the byte offset of each lane, None where it took no part."""

    offsets: list[int | None]
    size: int
    atomic: bool = False

    def taking_part(self) -> list[tuple[int, int]]:
        """(lane, offset) of the lanes that did."""
        return [(lane, at) for lane, at in enumerate(self.offsets) if at is not None]

    def lanes_at(self, unit: int) -> dict[int, list[int]]:
        """The lanes that touch each piece of `unit` bytes, by the piece's number, in order."""
        found: dict[int, list[int]] = {}
        for lane, at in self.taking_part():
            for piece in range(at // unit, (at + self.size - 1) // unit + 1):
                found.setdefault(piece, []).append(lane)
        return dict(sorted(found.items()))


def read_sample(data: Mapping[str, Any]) -> Sample:
    """The sample of a line of a report; FigureDataError where there is none to draw."""
    offsets, size = data.get("sample"), data.get("sample_size")
    if not isinstance(offsets, list | tuple) or not 0 < len(offsets) <= LANES:
        raise FigureDataError("a sample is a list of up to 32 offsets")
    for at in offsets:
        if at is not None and (type(at) is not int or not 0 <= at < _MAX_OFFSET):
            raise FigureDataError("an offset is a number of bytes, or null")
    if size not in _SIZES or all(at is None for at in offsets):
        raise FigureDataError("no lane takes part, or with a size that no access has")
    atomic = str(data.get("access")).endswith("atomic")
    return Sample([*offsets, *[None] * (LANES - len(offsets))], size, atomic)


def sectors_of(sample: Sample) -> tuple[int, int]:
    """How many sectors a request touches, and the fewest that its distinct bytes could fill."""
    distinct = len(sample.lanes_at(1))
    return len(sample.lanes_at(SECTOR)), math.ceil(distinct / SECTOR)


def passes_of(sample: Sample) -> tuple[int, int]:
    """How many passes through shared memory a request takes, and the fewest for its size.

    Accesses of 8 bytes are served half a warp at a time, of 16 bytes a quarter. Lanes that read one
    word share it; atomics on one word wait for each other.
    """
    phases = max(1, sample.size // WORD)
    taken = least = 0
    for phase in range(phases):
        first = phase * LANES // phases
        lanes: list[int | None] = [None] * LANES
        lanes[first : first + LANES // phases] = sample.offsets[first : first + LANES // phases]
        held = [0] * BANKS
        for word, those in replace(sample, offsets=lanes).lanes_at(WORD).items():
            held[word % BANKS] += len(those) if sample.atomic else 1
        taken += max(held)
        least += any(held)
    return taken, least


def _who(sample: Sample) -> str:
    count, size = len(sample.taking_part()), f"{sample.size} byte{'s' * (sample.size > 1)}"
    return f"{count} lanes, {size} each" if count > 1 else f"1 lane, {size}"


def _lane_colour(lane: int) -> str:
    return SERIES[lane // 8]


def _lanes_row(sheet: Sheet, sample: Sample, y: float) -> None:
    """The 32 lanes side by side, those that take no part hollow."""
    width = (WIDTH - 2 * _LEFT) / LANES
    for lane, at in enumerate(sample.offsets):
        x = _LEFT + lane * width
        idle = at is None
        sheet.box(x + 0.5, y, width - 1, 14, "none" if idle else _lane_colour(lane),
                  RULE if idle else "")  # fmt: skip
        sheet.text(x + width / 2, y + 10.5, str(lane), size=8, anchor="middle",
                   colour=MUTED if idle else PAPER)  # fmt: skip


def _cell_words(lanes: Sequence[int]) -> str:
    return str(lanes[0]) if len(lanes) == 1 else f"×{len(lanes)}"


@written_kind("access")
def access(data: Mapping[str, Any]) -> tuple[str, str]:
    """The lanes of one request over the sectors they touch: {"sample", "sample_size", "access"}."""
    sample = read_sample(data)
    touched, least = sectors_of(sample)
    sheet = Sheet()
    plural = "s" * (touched != 1)
    verdict = f"{touched} sector{plural}" + (f", {least} would do" if touched > least else "")
    sheet.text(_LEFT, 13, _who(sample), colour=MUTED)
    sheet.text(WIDTH - _LEFT, 13, verdict, anchor="end", bold=True)
    _lanes_row(sheet, sample, 20)
    by_byte = sample.lanes_at(1)
    sectors = list(sample.lanes_at(SECTOR))
    shown = sectors[: 4 * _MAX_ROWS]
    width, gap, top, step = 104.0, 8.0, 48.0, 36.0
    for place, sector in enumerate(shown):
        x = _LEFT + place % 4 * (width + gap)
        y = top + place // 4 * step
        away = (sector - sectors[0]) * SECTOR
        sheet.text(x, y + 8, f"+{away:,} bytes" if away else "first byte", size=9, colour=MUTED)
        _sector(sheet, x, y + 12, width, [by_byte.get(sector * SECTOR + b) for b in range(SECTOR)],
                min(sample.size, WORD))  # fmt: skip
    height = top + math.ceil(len(shown) / 4) * step
    if len(sectors) > len(shown):
        height += 14
        sheet.text(_LEFT, height - 4, f"and {len(sectors) - len(shown)} more sectors", size=11,
                   colour=MUTED)  # fmt: skip
    name = label(data.get("access"), "access").replace("_", " ")
    alt = f"{name}: {_who(sample)}, {touched} sector{plural} of 32 bytes touched; {least} would do."
    return sheet.finish(height), alt


def _sector(
    sheet: Sheet, x: float, y: float, width: float, lanes: Sequence[list[int] | None], unit: int
) -> None:
    """A box of 32 bytes, the bytes that lanes touch filled in pieces of `unit` bytes."""
    sheet.box(x, y, width, 17, "none", MUTED)
    piece = width / SECTOR * unit
    place = 0
    for here, run in itertools.groupby(lanes[::unit]):
        wide = len(list(run))  # the pieces of one lane are one box
        if here:
            seam = 1 if unit > 1 else 0.4
            sheet.box(x + place * piece + seam / 2, y + 0.5, wide * piece - seam, 16,
                      _lane_colour(here[0]))  # fmt: skip
            if unit == WORD:
                sheet.text(x + (place + wide / 2) * piece, y + 12, _cell_words(here),
                           anchor="middle", size=8 if len(here) < 10 else 6, colour=PAPER)  # fmt: skip
        place += wide


@written_kind("banks")
def banks(data: Mapping[str, Any]) -> tuple[str, str]:
    """The words of one request on the 32 banks, one above the other where they meet."""
    sample = read_sample(data)
    passes, least = passes_of(sample)
    columns: list[list[list[int]]] = [[] for _ in range(BANKS)]
    for word, lanes in sample.lanes_at(WORD).items():
        columns[word % BANKS].append(lanes)
    sheet = Sheet()
    tallest = max(map(len, columns))
    cell = 13.0 if tallest <= 8 else 9.0
    degree = passes / least
    floor = (40 if degree > 1 else 22) + tallest * cell
    width = (WIDTH - 2 * _LEFT) / BANKS
    plural = "es" * (passes != 1)
    said = f"no conflict: {passes} pass{plural}"
    if degree > 1:
        said = f"conflict of degree {degree:.3g}: {passes} passes, {least} would do"
    sheet.text(_LEFT, 13, _who(sample), colour=MUTED)
    sheet.text(WIDTH - _LEFT, 13, said, anchor="end", bold=True)
    for bank, words in enumerate(columns):
        x = _LEFT + bank * width
        for depth, lanes in enumerate(words):
            y = floor - (depth + 1) * cell
            sheet.box(x + 0.75, y + 0.5, width - 1.5, cell - 1, _lane_colour(lanes[0]))
            size = 6 if len(lanes) > 9 else 8 if cell > 10 else 7
            sheet.text(x + width / 2, y + cell - 2.5, _cell_words(lanes), anchor="middle",
                       size=size, colour=PAPER)  # fmt: skip
        if bank % 4 == 0 or bank == BANKS - 1:
            sheet.text(x + width / 2, floor + 12, str(bank), size=9, colour=MUTED, anchor="middle")
    sheet.line(_LEFT, floor, WIDTH - _LEFT, floor, MUTED)
    if degree > 1 and tallest > least:
        level = floor - least * cell
        sheet.line(_LEFT, level, WIDTH - _LEFT, level, INK, dashed=True)
        full = max(range(BANKS), key=lambda bank: len(columns[bank]))
        right = full < BANKS / 2
        x = _LEFT + (full + 1) * width + 4 if right else _LEFT + full * width - 4
        sheet.text(x, 38, f"bank {full}: {len(columns[full])} words, one after the other", size=11,
                   anchor="start" if right else "end")  # fmt: skip
    sheet.text(_LEFT, floor + 26, "bank = (byte address / 4) mod 32; lanes that read the same word "
               "share it", size=10, colour=MUTED)  # fmt: skip
    alt = f"Bank map of one request, {_who(sample)}: {said}."
    return sheet.finish(floor + 32), alt


def short(value: float) -> str:
    """A count with three digits: 512, 4,096, 65.5k, 2.1M."""
    if not math.isfinite(value):
        return "–"
    for limit, unit in ((1e4, ""), (1e6, "k"), (1e9, "M"), (1e12, "G")):
        if abs(value) < limit:
            scaled = value / {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[unit]
            return f"{scaled:,.0f}" if not unit and value == int(value) else f"{scaled:.3g}{unit}"
    return f"{value:.2g}"


def time_text(seconds: float) -> str:
    """Seconds with a unit that fits."""
    if not math.isfinite(seconds):
        return "–"
    for scale, unit in ((1e-6, "ns"), (1e-3, "µs"), (1, "ms")):
        if seconds < scale:
            return f"{seconds / scale * 1e3:.3g} {unit}"
    return f"{seconds:.3g} s"


_COLUMNS = (
    (165.0, "requests", "requests"), (215.0, "sectors", "sectors"), (258.0, "× least", "sectors_min"),
    (308.0, "passes", "wavefronts"), (351.0, "× least", "wavefronts_min"),
    (398.0, "barriers", "barriers"), (WIDTH - 2.0, "time", "seconds"),
)  # fmt: skip
_MAX_VERSION_LABEL = 17


@written_kind("kernel_ladder")
def kernel_ladder(data: Mapping[str, Any]) -> tuple[str, str]:
    """A table of one operation's versions.

    {"versions": [{"label", "requests", "sectors", "sectors_min", "wavefronts", "wavefronts_min",
    "barriers", "seconds"}…], "gpu"}
    """
    versions = [one for one in sequence(data.get("versions"), _MAX_VERSIONS) if isinstance(one, dict)]
    if not versions:
        raise FigureDataError("no version")
    sheet = Sheet()
    sheet.text(190, 12, "global memory", size=10, colour=MUTED, anchor="middle")
    sheet.text(330, 12, "shared memory", size=10, colour=MUTED, anchor="middle")
    sheet.text(WIDTH - 2, 12, label(data.get("gpu"), "modelled"), size=10, colour=MUTED, anchor="end")
    for x, name, _ in _COLUMNS:
        sheet.text(x, 27, name, size=10, colour=MUTED, anchor="end")
    words = []
    for place, one in enumerate(versions):
        y = 48 + 24 * place
        sheet.line(0, y - 16, WIDTH, y - 16, RULE)
        wrong = label(one.get("wrong"))
        sheet.text(0, y, clean_line(label(one.get("label")), _MAX_VERSION_LABEL), size=12, bold=True)
        if wrong:  # what it counts is another kernel's work
            sheet.text(0, y + 11, clean_line(f"wrong: {wrong}", 30), size=9, colour=MUTED)
        cells = {key: ladder_cell(one, key) for _, _, key in _COLUMNS}
        for x, _, key in _COLUMNS:
            sheet.text(x, y, cells[key], size=11, anchor="end")
        words.append(
            f"{label(one.get('label'))}: {cells['requests']} requests, {cells['sectors']} sectors "
            f"({cells['sectors_min']} the least), {cells['wavefronts']} passes through shared "
            f"memory, {cells['barriers']} barriers, {cells['seconds']}"
            + (f", but wrong: {wrong}" if wrong else "")
        )
    return sheet.finish(48 + 24 * len(versions) - 14), f"Versions. {'; '.join(words)}."


def ladder_cell(version: Mapping[str, Any], key: str) -> str:
    """One number of a version; for a least possible count, how many times it was needed."""
    value = number(version.get(key))
    if key == "seconds":
        return time_text(value)
    if key.endswith("_min"):
        whole = number(version.get(key.removesuffix("_min")))
        return f"{whole / value:.3g}" if value > 0 and math.isfinite(whole) else "–"
    return short(value)


@kind("roofline", height=3.4)
def roofline(axes: Axes, data: Mapping[str, Any]) -> str:
    """Modelled speed over intensity, under the GPU's roofs.

    {"gpu": name, "points": [{"label", "flops", "bytes", "seconds"}…]}: bytes are those asked of
    global memory, 32 for each sector.
    """
    gpu = GPUS.get(str(data.get("gpu")), GPUS[DEFAULT_GPU])
    points = []
    for point in sequence(data.get("points"), _MAX_POINTS):
        flops, moved, seconds = (number(point.get(key)) for key in ("flops", "bytes", "seconds"))
        if flops > 0 and moved > 0 and seconds > 0:  # NaN is neither
            points.append((label(point.get("label")), flops / moved, flops / seconds))
    if not points:
        raise FigureDataError("no point with flops, bytes and seconds")
    peak = gpu.flops_per_second
    low = min(0.05, min(x for _, x, _ in points) / 2)
    high = max(4 * peak / gpu.dram_bytes_per_second, 2 * max(x for _, x, _ in points))
    for rate, name, style in (
        (gpu.dram_bytes_per_second, "DRAM", "-"),
        (gpu.l2_bytes_per_second, "L2 cache", (0, (4, 2))),
    ):
        ridge = peak / rate
        axes.plot([low, ridge], [low * rate / 1e9, peak / 1e9], color=MUTED, linewidth=1.2,
                  linestyle=style, label=f"{name}, {rate / 1e12:.3g} TB/s")  # fmt: skip
    ridge = peak / gpu.l2_bytes_per_second
    axes.plot([ridge, high], [peak / 1e9] * 2, color=MUTED, linewidth=1.2)
    axes.annotate(f"fp32 {peak / 1e12:.3g} TFLOP/s", (high, peak / 1e9), xytext=(0, 4), ha="right",
                  textcoords="offset points", fontsize=9, color=MUTED)  # fmt: skip
    for place, (name, x, y) in enumerate(points):
        axes.plot([x], [y / 1e9], marker="o", markersize=7, color=SERIES[place % len(SERIES)])
        right = x > math.sqrt(low * high)
        axes.annotate(name, (x, y / 1e9), xytext=(-7 if right else 7, -11), fontsize=9, color=INK,
                      textcoords="offset points", ha="right" if right else "left")  # fmt: skip
    log_axis(axes, "x")
    log_axis(axes, "y")
    # Above the roofs no point can lie.
    axes.legend(loc="upper left", frameon=False, fontsize=9, labelcolor=MUTED)
    axes.set_xlabel("FLOP per byte asked of global memory")
    axes.set_title(f"GFLOP/s, modelled on {gpu.name}", loc="left", fontsize=10, color=MUTED)
    axes.grid(color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    words = [f"{name} at {x:.3g} FLOP a byte, {y / 1e9:,.3g} GFLOP/s" for name, x, y in points]
    return f"Roofline of {gpu.name}, modelled: {'; '.join(words)}."
