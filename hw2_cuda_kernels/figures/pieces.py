"""What several figures show: lanes, the sectors and banks that they touch, tables of counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autograder.testing.drawing import BLUE, GREEN, LINE, ORANGE, PALE, PURPLE, SOFT, cell, write
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

LANE_COLOURS = (BLUE, ORANGE, GREEN, PURPLE)  # of eight lanes each
SECTOR, WORD, BANKS = 32, 4, 32


def lane_colour(lane: int) -> str:
    """The colour of a lane of 32."""
    return LANE_COLOURS[lane // 8]


def box(
    axes: Axes, x: float, y: float, width: float, height: float, fill: str, edge: str = "none"
) -> None:
    """A rectangle in one colour."""
    axes.add_patch(Rectangle((x, y), width, height, facecolor=fill, edgecolor=edge, linewidth=0.8))


def lanes(axes: Axes, x: float, y: float, width: float = 0.17, numbers: bool = True) -> None:
    """The 32 lanes of a warp side by side."""
    for lane in range(32):
        box(axes, x + lane * width, y, width - 0.015, 0.17, lane_colour(lane))
        if numbers:
            write(axes, x + (lane + 0.46) * width, y + 0.09, str(lane), ha="center", size=6,
                  color="#ffffff")  # fmt: skip


def sectors(
    axes: Axes, x: float, y: float, line: dict[str, Any], *, width: float = 0.17,
    height: float = 0.2, each_row: int = 32, gap: float = 0.02,
) -> int:  # fmt: skip
    """The sectors that one request touches, in order of address; the bytes used are filled."""
    by_byte: dict[int, int] = {}
    for lane, at in enumerate(line["sample"]):
        if at is not None:
            for byte in range(at, at + line["sample_size"]):
                by_byte.setdefault(byte, lane)
    touched = sorted({byte // SECTOR for byte in by_byte})
    for place, sector in enumerate(touched):
        left = x + place % each_row * (width + gap)
        top = y + place // each_row * (height + 0.07)
        box(axes, left, top, width, height, "#ffffff", LINE)
        for word in range(SECTOR // WORD):
            lane = by_byte.get(sector * SECTOR + word * WORD)
            if lane is not None:
                box(axes, left + word * width / 8, top, width / 8, height, lane_colour(lane))
    return len(touched)


def bank_map(
    axes: Axes, x: float, y: float, line: dict[str, Any], *, width: float = 0.1, height: float = 0.07
) -> int:
    """The words of one request on the 32 banks, stacked from y upwards; returns the highest stack."""
    stacks = [0] * BANKS
    seen = set()
    for lane, at in enumerate(line["sample"]):
        if at is None or at // WORD in seen:
            continue
        seen.add(at // WORD)
        bank = at // WORD % BANKS
        box(axes, x + bank * width, y - (stacks[bank] + 1) * height, width - 0.012, height - 0.012,
            lane_colour(lane))  # fmt: skip
        stacks[bank] += 1
    axes.plot([x, x + BANKS * width], [y, y], color=SOFT, linewidth=0.8)
    for bank in (0, 8, 16, 24, 31):
        write(axes, x + (bank + 0.45) * width, y + 0.11, str(bank), ha="center", size=7, color=SOFT)
    return max(stacks)


def table(
    axes: Axes, x: float, y: float, heads: Sequence[str], rows: Sequence[Sequence[object]],
    widths: Sequence[float], size: float = 8.5,
) -> None:  # fmt: skip
    """Rows of counts; the first column is words, the others numbers, right-aligned."""
    ends = [x + sum(widths[: place + 1]) for place in range(len(widths))]
    for place, head in enumerate(heads):
        write(axes, ends[place] if place else x, y, head, color=SOFT, size=size,
              ha="right" if place else "left")  # fmt: skip
    for place, row in enumerate(rows):
        top = y + 0.24 * (place + 1)
        axes.plot([x, ends[-1]], [top - 0.12] * 2, color=PALE[LINE], linewidth=0.8)
        for column, value in enumerate(row):
            text = f"{value:,}" if isinstance(value, int) else str(value)
            write(axes, ends[column] if column else x, top, text, size=size,
                  ha="right" if column else "left", weight="normal" if column else "bold")  # fmt: skip


def line_of(found: dict[str, Any], access: str) -> dict[str, Any]:
    """The dearest line of a kind of access among those measured."""
    own = [line for line in found["lines"] if line["access"] == access]
    return max(own, key=lambda line: line["sectors"] + line["wavefronts"])


def value_row(
    axes: Axes, x: float, y: float, values: Sequence[object], colours: Sequence[str], width: float
) -> None:
    """Cells with values, those in LINE empty of meaning and pale."""
    for place, (value, colour) in enumerate(zip(values, colours, strict=True)):
        cell(axes, x + place * width, y, str(value), colour, width=width, height=0.26, size=8.5)
