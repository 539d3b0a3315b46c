"""Pictures for the report: data in, one SVG for light and one for dark pages out.

The data may come from a worker, so it is checked and clipped here; what cannot be drawn gives None,
never an exception. A drawing function is registered under the `kind` that a test names.
"""

from __future__ import annotations

import base64
import importlib
import io
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autograder.reporting.sanitise import clean_line
from autograder.testing.records import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_POINTS = 5_000
MAX_SERIES = 6
MAX_LABEL = 40
_LARGEST = 1e15
WIDTH = 4.7  # inches at 72 points: about 450 CSS pixels, so that type stays readable on a phone

INK, MUTED, RULE, PAPER = "#1c1e21", "#5c6269", "#d5d8dc", "#fffffe"
SERIES = ("#14569e", "#a94f08", "#23703c", "#7440b8", "#8f2d56", "#4f5b66")
STYLES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)), "-.", (0, (8, 2)), "-")
_DARK = {
    INK: "#e8e6e3",
    MUTED: "#a3a7ad",
    RULE: "#3f444a",
    PAPER: "#16181b",
    **dict(
        zip(SERIES, ("#79b4f2", "#f0a35e", "#7fce9b", "#c5a3f2", "#ee9dbd", "#b3bdc7"), strict=True)
    ),
}
_SETTINGS: Any = {
    "svg.hashsalt": "autograder",  # else every run draws other ids, and reports can't be compared
    "svg.fonttype": "none",
    "text.parse_math": False,
    "text.usetex": False,
    "font.size": 10.0,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.8,
    "path.simplify": True,
}
PAGE_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"


class FigureDataError(ValueError):
    """The data of a figure has not the form that its kind needs."""


@dataclass(frozen=True)
class Drawing:
    """A picture as SVG for light and dark pages, with the words that stand for it."""

    light: str
    dark: str
    alt: str

    def light_uri(self) -> str:
        """The light picture as a data URI."""
        return _data_uri(self.light)

    def dark_uri(self) -> str:
        """The dark picture as a data URI."""
        return _data_uri(self.dark)


DrawFunction = Callable[["Axes", Mapping[str, Any]], str]
WriteFunction = Callable[[Mapping[str, Any]], tuple[str, str]]


@dataclass(frozen=True)
class Kind:
    """How one kind is drawn: `draw(axes, data)` returns the text alternative.

    Or `write(data)` returns the SVG, in this module's colours, and the text alternative.
    """

    draw: DrawFunction | None
    height: Callable[[Mapping[str, Any]], float]
    write: WriteFunction | None = None


KINDS: dict[str, Kind] = {}


def kind(
    name: str, height: float | Callable[[Mapping[str, Any]], float] = 2.7
) -> Callable[[DrawFunction], DrawFunction]:
    """Register a drawing function as `name`; `height` is in inches, or computed from the data."""

    def register(draw_function: DrawFunction) -> DrawFunction:
        compute = height if callable(height) else lambda _data: float(height)
        KINDS[name] = Kind(draw_function, compute)
        return draw_function

    return register


def written_kind(name: str) -> Callable[[WriteFunction], WriteFunction]:
    """Register a function that writes its SVG itself, for pictures of many small boxes."""

    def register(write_function: WriteFunction) -> WriteFunction:
        KINDS[name] = Kind(None, lambda _data: 0.0, write_function)
        return write_function

    return register


def draw(figure: Figure) -> Drawing | None:
    """The picture of `figure`, or None if its kind is unknown or its data cannot be drawn.

    The same data gives the same bytes.
    """
    try:
        for module in ("charts", "graph_picture", "kernel_pictures"):
            importlib.import_module(f"autograder.reporting.{module}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            how = KINDS[figure.kind]
            svg, alt = how.write(figure.data) if how.write else _render(how, figure.data)
    except Exception:
        # Hostile data finds errors in matplotlib too; a report without a picture is still a report.
        return None
    dark = svg
    for light_colour, dark_colour in _DARK.items():
        dark = dark.replace(light_colour, dark_colour)
    return Drawing(light=svg, dark=dark, alt=clean_line(alt, 600))


def _render(how: Kind, data: Mapping[str, Any]) -> tuple[str, str]:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    assert how.draw is not None
    with matplotlib.rc_context(_SETTINGS):
        canvas = Canvas(
            figsize=(WIDTH, min(max(how.height(data), 1.0), 12.0)), layout="constrained"
        )
        FigureCanvasSVG(canvas)
        axes = canvas.add_subplot()
        alt = how.draw(axes, data)
        buffer = io.StringIO()
        canvas.savefig(buffer, format="svg", transparent=True)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    # Comments repeat the labels, and the metadata hold the date.
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"'DejaVu Sans'[^;\"<>]*", PAGE_FONT, svg)
    return re.sub(r"\n\s*", "\n", svg), alt


def _data_uri(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode("ascii")


def label(value: Any, default: str = "") -> str:
    """A text from the data, made safe and short; matplotlib drops labels that begin with `_`."""
    text = clean_line(str(value) if isinstance(value, str | int | float) else default, MAX_LABEL)
    return f" {text}" if text.startswith("_") else text


def log_axis(axes: Axes, which: str) -> None:
    """Make the x or y axis logarithmic, its ticks plain numbers: formulas are never parsed here."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.15g}"))
    axis.set_minor_formatter(NullFormatter())


def mapping(value: Any, limit: int = MAX_SERIES) -> dict[str, Any]:
    """A non-empty JSON object, cut to `limit` entries; FigureDataError otherwise."""
    if not isinstance(value, Mapping) or not value:
        raise FigureDataError("an object with entries is needed")
    return dict(list(value.items())[:limit])


def sequence(value: Any, limit: int = MAX_POINTS) -> list[Any]:
    """A non-empty JSON list, thinned evenly to `limit` items with both ends kept."""
    if isinstance(value, str | bytes) or not isinstance(value, Sequence) or not value:
        raise FigureDataError("a list with items is needed")
    if len(value) <= limit:
        return list(value)
    last = len(value) - 1
    return [value[round(place * last / (limit - 1))] for place in range(limit)]


def number(value: Any) -> float:
    """A finite number clipped to a drawable size; NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        value = float(value)
    except OverflowError:
        return math.nan
    return min(max(value, -_LARGEST), _LARGEST) if math.isfinite(value) else math.nan


def finite(values: Sequence[float]) -> list[float]:
    """The finite ones; FigureDataError if there is none."""
    found = [value for value in values if math.isfinite(value)]
    if not found:
        raise FigureDataError("no finite number")
    return found
