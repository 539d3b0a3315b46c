"""Draws the figure of task 4.5: `python figures/make_4_5.py`. Bytes were measured: measured_4_5.json."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
sys.path.append(str(FOLDER.parents[1]))

from autograder.testing import drawing  # noqa: E402
from autograder.testing.drawing import (  # noqa: E402
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SOFT,
    arrow,
    canvas,
    cell,
    heading,
    node,
    save,
    write,
)


def half(axes: Any, y: float, rank: int, colour: str) -> None:
    """One rank's part of an MLP, along the line y."""
    write(axes, 0.1, y, f"rank {rank}", color=SOFT)
    stops = [0.95, 1.5, 2.35, 3.2, 4.1, 4.95]
    cell(axes, stops[0] - 0.18, y - 0.15, "x", GREEN)
    node(axes, stops[1], y, "f", PURPLE, width=0.42)
    # Gate and up are tall and give this rank's inner columns; down is wide and reads them.
    for shift in (-0.17, 0.17):
        cell(axes, stops[2] - 0.2 + shift - 0.1, y - 0.36, "", "#9aa4af", width=0.3, height=0.72)
        cell(
            axes,
            stops[2] - 0.2 + shift - 0.1,
            y - 0.36 + 0.36 * rank,
            "",
            colour,
            width=0.3,
            height=0.36,
        )
    cell(axes, stops[3] - 0.2, y - 0.15, f"h{rank}", colour, width=0.4)
    cell(axes, stops[4] - 0.36, y - 0.15, "", "#9aa4af", width=0.72)
    cell(axes, stops[4] - 0.36 + 0.36 * rank, y - 0.15, "", colour)
    node(axes, stops[5], y, "g", PURPLE, width=0.42)
    for a, b in ((1.15, 1.29), (1.71, 1.86), (2.55, 2.98), (3.42, 3.72), (4.48, 4.74)):
        arrow(axes, (a, y), (b, y))


def main() -> None:
    """Two ranks' parts of an MLP, and the bytes of a step."""
    drawing.use(FOLDER)
    measured = json.loads((FOLDER / "measured_4_5.json").read_text(encoding="utf-8"))
    figure, axes = canvas(8.6, 3.0)
    heading(axes, 0.1, 0.2, "An MLP on two ranks")
    for rank, colour in enumerate((BLUE, ORANGE)):
        half(axes, 1.05 + rank, rank, colour)
    for x, text in ((2.05, "gate, up: rows"), (4.1, "down: columns")):
        write(axes, x, 0.53, text, ha="center", color=SOFT, size=8)
    for x, text in ((1.5, "sums\nbackward"), (4.95, "sums\nforward")):
        arrow(axes, (x, 1.28), (x, 1.82), PURPLE, arrowstyle="<|-|>")
        write(axes, x, 2.62, text, ha="center", color=PURPLE, size=8)
    chart = figure.add_axes((0.735, 0.2, 0.245, 0.62))
    sent, world = measured["sent"]["4"], 4
    gathered = measured["tokens"] * measured["vocab_size"] * 4 * (world - 1) // world
    bars = {
        "loss, logits\ngathered": (gathered, "#9aa4af"), "loss, three\nnumbers": (sent["loss"], GREEN),
        "ffn": (sent["ffn 0"], BLUE), "attention": (sent["attention 0"], BLUE),
        "embedding": (sent["embedding"], BLUE),
    }  # fmt: skip
    values = [value / 1e3 for value, _ in bars.values()]
    chart.barh(list(bars), values, color=[colour for _, colour in bars.values()], height=0.62)
    for place, value in enumerate(values):
        chart.annotate(f"{value:,.1f}", (value, place), xytext=(3, 0), textcoords="offset points",
                       va="center", fontsize=7.5)  # fmt: skip
    chart.set(xscale="log", xlim=(1, 2e4))
    chart.set_title("kB that one of 4 ranks sends, forward", fontsize=8.5, x=-0.4)
    chart.tick_params(labelsize=7.5)
    chart.tick_params(axis="y", length=0)
    save(figure, "4_5_tensor_parallel", sheet=False)


if __name__ == "__main__":
    main()
