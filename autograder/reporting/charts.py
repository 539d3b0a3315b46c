"""Line and bar charts: the loss curve, the ladder of speeds, memory over time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from autograder.reporting.figures import (
    INK,
    MUTED,
    RULE,
    SERIES,
    STYLES,
    FigureDataError,
    finite,
    kind,
    label,
    log_axis,
    mapping,
    number,
    sequence,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_BARS = 24
_MEBIBYTE = 2.0**20
_LOG_FROM = 1_000.0
_LEGEND_ROW = 70  # characters that fit beside each other


@kind("loss_curve")
def loss_curve(axes: Axes, data: Mapping[str, Any]) -> str:
    """Lines over steps: {"series": {name: [y…]}, "xlabel", "ylabel", "reference": {label: y}}."""
    words = []
    everything: list[float] = []
    for place, (name, values) in enumerate(mapping(data.get("series")).items()):
        ys = [number(value) for value in sequence(values)]
        seen = finite(ys)
        scale = max(len(values) - 1, 1) / max(len(ys) - 1, 1)
        xs = [index * scale for index in range(len(ys))]
        _line(axes, xs, ys, place, label(name))
        everything += seen
        words.append(
            f"{label(name)} goes from {seen[0]:.3g} to {seen[-1]:.3g}, lowest {min(seen):.3g}"
        )
    for name, value in mapping(data.get("reference") or {"": None}).items():
        level = number(value)
        if math.isfinite(level):
            axes.axhline(level, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
            text = f"{label(name)} {level:.3g}"
            axes.annotate(
                text, (1, level), xycoords=("axes fraction", "data"), xytext=(0, 3),
                textcoords="offset points", ha="right", va="bottom", color=MUTED, fontsize=9,
            )  # fmt: skip
            everything.append(level)
            words.append(f"reference {text}")
    xlabel, ylabel = label(data.get("xlabel"), "step"), label(data.get("ylabel"), "loss")
    if min(everything) > 0 and max(everything) / min(everything) > _LOG_FROM:
        log_axis(axes, "y")
    _dress(axes, xlabel, ylabel)
    return f"Line chart of {ylabel} over {xlabel}: {'; '.join(words)}."


def _ladder_height(data: Mapping[str, Any]) -> float:
    bars = data.get("bars")
    count = min(len(bars), _MAX_BARS) if isinstance(bars, list) else 1
    return 0.75 + 0.34 * count


@kind("ladder", height=_ladder_height)
def ladder(axes: Axes, data: Mapping[str, Any]) -> str:
    """Horizontal bars, one per step, and a line for the peer.

    {"bars": [{"label", "value"}…], "unit", "peer_label", "peer_value"}
    """
    bars = []
    for bar in sequence(data.get("bars"), _MAX_BARS):
        value = number(bar.get("value")) if isinstance(bar, Mapping) else math.nan
        if math.isfinite(value):
            bars.append((label(bar.get("label")), max(value, 0.0)))
    finite([value for _, value in bars])
    unit = label(data.get("unit"))
    peer = number(data.get("peer_value"))
    places = range(len(bars))
    widths = [value for _, value in bars]
    axes.barh(places, widths, height=0.62, color=SERIES[0], linewidth=0)
    axes.set_yticks(places, [name for name, _ in bars])
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.invert_yaxis()
    largest = max([*widths, peer if math.isfinite(peer) else 0.0, 1e-12])
    axes.set_xlim(0, 1.18 * largest)
    for place, width in zip(places, widths, strict=True):
        axes.annotate(
            f"{width:.3g}", (width, place), xytext=(4, 0), textcoords="offset points", va="center",
            color=INK, fontsize=9, backgroundcolor="none",
        )  # fmt: skip
    words = [f"{name} {value:.3g}" for name, value in bars]
    if math.isfinite(peer):
        peer_text = f"{label(data.get('peer_label'), 'peer')} {peer:.3g}"
        axes.axvline(peer, color=SERIES[1], linewidth=1.4, linestyle=(0, (4, 2)))
        axes.annotate(
            peer_text, (peer, 1), xycoords=("data", "axes fraction"), xytext=(0, 4),
            textcoords="offset points", ha="center", va="bottom", color=SERIES[1], fontsize=9,
        )  # fmt: skip
        words.append(f"peer {peer_text}")
    _dress(axes, unit, "")
    axes.grid(False)
    axes.spines["left"].set_color(RULE)
    return f"Bar chart in {unit or 'relative speed'}: {'; '.join(words)}."


@kind("memory_timeline")
def memory_timeline(axes: Axes, data: Mapping[str, Any]) -> str:
    """Bytes over time as steps: {"series": {name: [[t, bytes]…]}, optional "xlabel"}."""
    words = []
    for place, (name, points) in enumerate(mapping(data.get("series")).items()):
        pairs = []
        for point in sequence(points):
            if not isinstance(point, list | tuple) or len(point) != 2:
                raise FigureDataError("a point is [time, bytes]")
            time, held = number(point[0]), number(point[1])
            if math.isfinite(time) and math.isfinite(held):
                pairs.append((time, held / _MEBIBYTE))
        finite([held for _, held in pairs])
        pairs.sort(key=lambda pair: pair[0])
        xs, ys = [time for time, _ in pairs], [held for _, held in pairs]
        peak = max(ys)
        _line(axes, xs, ys, place, f"{label(name)}, peak {peak:.3g} MiB", drawstyle="steps-post")
        words.append(f"{label(name)} peaks at {peak:.3g} MiB and ends at {ys[-1]:.3g} MiB")
    axes.set_ylim(bottom=0)
    _dress(axes, label(data.get("xlabel"), "time"), "MiB held")
    return f"Memory over time: {'; '.join(words)}."


def _line(axes: Axes, xs: list[float], ys: list[float], place: int, name: str, **more: Any) -> None:
    marker = "o" if len(ys) <= 2 else None
    axes.plot(
        xs, ys, label=name, color=SERIES[place], linestyle=STYLES[place], marker=marker, **more
    )


def _dress(axes: Axes, xlabel: str, ylabel: str) -> None:
    """Labels, a quiet grid, and a legend above the plot where there is a choice of lines."""
    axes.set_xlabel(xlabel)
    if ylabel:
        axes.set_title(ylabel, loc="left", fontsize=10, color=MUTED)
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    handles, names = axes.get_legend_handles_labels()
    if len(handles) > 1:
        columns = 2 if sum(map(len, names)) + 6 * len(names) <= _LEGEND_ROW else 1
        axes.figure.legend(
            handles, names, loc="outside upper left", ncols=columns, frameon=False, fontsize=9,
            labelcolor=INK, handlelength=2.4,
        )  # fmt: skip
