"""Draws the figures of tasks 4.7 to 4.9: `python figures/make_4_7_to_4_9.py`, of measured_4_*.json."""

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


def draw(task: str, name: str) -> None:
    """A task's runs: losses by step, and bytes a rank sends in a step."""
    measured = json.loads((FOLDER / f"measured_{task}.json").read_text(encoding="utf-8"))
    figure, (left, right) = charts(2, height=2.6)
    colours = (INK, BLUE, ORANGE, GREEN, PURPLE, RED)
    for place, (method, run) in enumerate(measured.items()):
        losses, colour = run["losses"], colours[place]
        steps = range(0, 8 * len(losses), 8)
        left.plot(
            steps, losses, color=colour, linestyle="--" if method == "dense" else "-", label=method
        )
        right.barh(method, run["bytes"] / 1000, color=colour, height=0.6)
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
    save(figure, f"{task}_{name}", sheet=False)


def main() -> None:
    """Draw all three."""
    drawing.use(FOLDER)
    for task, name in (("4_7", "top_k"), ("4_8", "power_sgd"), ("4_9", "int8_local")):
        draw(task, name)


if __name__ == "__main__":
    main()
