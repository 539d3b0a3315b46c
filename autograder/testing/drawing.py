"""What the handouts' figures share: one look, and boxes, cells and arrows measured in inches."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

INK, SOFT, LINE, PAPER = "#1f2328", "#59636e", "#9aa4af", "#ffffff"
BLUE, ORANGE, GREEN, PURPLE, RED = "#14569e", "#a94f08", "#23703c", "#7440b8", "#b3261e"
PALE = {
    BLUE: "#dbe8f6", ORANGE: "#fbe5d2", GREEN: "#dcf0e1", PURPLE: "#ebe1f8", RED: "#fbe0de",
    LINE: "#eef0f2",
}  # fmt: skip
MONO = "DejaVu Sans Mono"

matplotlib.rcParams.update({
    "svg.fonttype": "path", "font.family": "DejaVu Sans",
    "font.size": 9.5, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": SOFT,
    "xtick.color": SOFT, "ytick.color": SOFT, "axes.titlesize": 10, "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
    "figure.facecolor": PAPER, "axes.facecolor": PAPER, "savefig.facecolor": PAPER,
})  # fmt: skip


_folder = Path()


def use(folder: Path) -> None:
    """Figures go into `folder`, a homework's; its name makes the ids in them, the same each time."""
    global _folder
    _folder = folder
    matplotlib.rcParams["svg.hashsalt"] = folder.parent.name


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty white sheet; x runs right and y down, both in inches."""
    figure = pyplot.figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    return figure, axes


def charts(count: int, width: float = 8, height: float = 2.9, **options: Any) -> tuple[Figure, Any]:
    """A row of `count` charts."""
    return pyplot.subplots(1, count, figsize=(width, height), layout="constrained", **options)


def save(figure: Figure, name: str, sheet: bool = True) -> None:
    """Write `name`.svg, the same bytes each time: no date, no digits that can't be seen."""
    file = io.StringIO()  # `sheet`: nothing reaches beyond the edges, so nothing needs clipping
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    text = re.sub(r'(?<= d=")[^"]*', lambda path: _rounded(path[0]), file.getvalue())
    text = re.sub(r"(?<=translate\()[^)]*", lambda place: _rounded(place[0]), text)
    text = re.sub(r'<g id="(?:patch|text)_\d+">', "<g>", text)
    text = re.sub(r' clip-path="[^"]*"', "", text) if sheet else text
    text = text.replace("DejaVuSans-", "g").replace("; stroke-linejoin: miter", "")
    lines = (line.strip() for line in text.splitlines())
    (_folder / f"{name}.svg").write_text("\n".join(filter(None, lines)) + "\n", encoding="utf-8")


def _rounded(path: str) -> str:
    """The drawing commands of a path, with one decimal a number."""
    numbers = re.sub(r"-?\d+\.\d+", lambda number: f"{float(number[0]):.1f}", path)
    return " ".join(numbers.replace(".0 ", " ").split())


def write(axes: Axes, x: float, y: float, text: str, **options: Any) -> None:
    """Text whose left end, or `ha`, is at (x, y), centred on the line."""
    axes.text(x, y, text, **{"ha": "left", "va": "center", "color": INK, **options})


def heading(axes: Axes, x: float, y: float, text: str) -> None:
    """A bold line over a part of a figure."""
    write(axes, x, y, text, weight="bold")


def cell(
    axes: Axes, x: float, y: float, text: str = "", colour: str = LINE, *, width: float = 0.36,
    height: float = 0.3, filled: bool = True, **options: Any,
) -> None:  # fmt: skip
    """A box with its upper left corner at (x, y), and text in its middle."""
    axes.add_patch(Rectangle(
        (x, y), width, height, facecolor=PALE[colour] if filled else PAPER, edgecolor=colour,
        linewidth=1,
    ))  # fmt: skip
    if text:
        write(axes, x + width / 2, y + height / 2 + 0.005, text, ha="center", **options)


def row(
    axes: Axes, x: float, y: float, values: Sequence[object], colours: Sequence[str] | str = LINE,
    **options: Any,
) -> None:  # fmt: skip
    """Cells side by side."""
    width = options.get("width", 0.36)
    for place, value in enumerate(values):
        colour = colours if isinstance(colours, str) else colours[place]
        cell(axes, x + place * width, y, str(value), colour, **options)


def grid(
    axes: Axes, x: float, y: float, rows: Sequence[Sequence[object]],
    colours: Sequence[Sequence[str]] | str = LINE, **options: Any,
) -> None:  # fmt: skip
    """Rows of cells, one below the other."""
    height = options.get("height", 0.3)
    for place, values in enumerate(rows):
        colour = colours if isinstance(colours, str) else colours[place]
        row(axes, x, y + place * height, values, colour, **options)


def node(
    axes: Axes, x: float, y: float, text: str, colour: str = BLUE, *, width: float = 1.2,
    height: float = 0.42, **options: Any,
) -> None:  # fmt: skip
    """A rounded box with its centre at (x, y)."""
    axes.add_patch(FancyBboxPatch(
        (x - width / 2 + 0.06, y - height / 2 + 0.06), width - 0.12, height - 0.12,
        boxstyle="round,pad=0.06", facecolor=PALE[colour], edgecolor=colour, linewidth=1.1,
    ))  # fmt: skip
    write(axes, x, y + 0.005, text, ha="center", **options)


def arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str = SOFT,
    bend: float = 0.0, **options: Any,
) -> None:  # fmt: skip
    """An arrow, bent to one side by `bend`."""
    axes.add_patch(FancyArrowPatch(start, end, **{
        "arrowstyle": "-|>", "mutation_scale": 9, "linewidth": 1.1, "color": colour,
        "shrinkA": 0, "shrinkB": 0, "connectionstyle": f"arc3,rad={bend}", **options,
    }))  # fmt: skip
