"""Draws the figure of task 4.7: `python figures/make_4_7.py`, of runs in measured_4_7.json."""

from __future__ import annotations

import json
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.append(str(FOLDER.parents[1]))

from autograder.testing import drawing  # noqa: E402
from autograder.testing.drawing import (  # noqa: E402
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    RED,
    charts,
    save,
)


def main() -> None:
    """top-k, with and without error feedback: losses by step, and bytes a rank sends in a step."""
    drawing.use(FOLDER)
    measured = json.loads((FOLDER / "measured_4_7.json").read_text(encoding="utf-8"))
    figure, (left, right) = charts(2, height=2.6)
    colours = (INK, BLUE, ORANGE, GREEN, PURPLE, RED)
    for place, (name, run) in enumerate(measured.items()):
        losses, colour = run["losses"], colours[place]
        steps = range(0, 8 * len(losses), 8)
        left.plot(
            steps, losses, color=colour, linestyle="--" if name == "dense" else "-", label=name
        )
        right.barh(name, run["bytes"] / 1000, color=colour, height=0.6)
        times = measured["dense"]["bytes"] / run["bytes"]
        right.text(run["bytes"] / 1000, place, f" {times:.1f}×", va="center", fontsize=8)
    left.set_yscale("log")
    left.set_yticks([4, 8, 16, 32], ["4", "8", "16", "32"])
    left.minorticks_off()
    left.set(xlabel="step", ylabel="loss over all ranks' rows")
    left.legend(fontsize=7.5)
    right.set(xlabel="kB a rank sends in a step")
    right.set_xlim(0, 1.15 * measured["dense"]["bytes"] / 1000)
    right.invert_yaxis()
    save(figure, "4_7_top_k", sheet=False)


if __name__ == "__main__":
    main()
