"""Draws the figure of task 4.3: `python figures/make_4_3.py`. The times were measured: measured_4_3.json."""

from __future__ import annotations

import json
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.append(str(FOLDER.parents[1]))

from autograder.testing import drawing  # noqa: E402
from autograder.testing.drawing import BLUE, INK, ORANGE, PALE, SOFT, charts, save  # noqa: E402


def main() -> None:
    """Two lanes, backward and buckets, with and without overlap."""
    drawing.use(FOLDER)
    measured = json.loads((FOLDER / "measured_4_3.json").read_text(encoding="utf-8"))
    figure, both = charts(2, height=2.2, sharex=True, sharey=True)
    for axes, (name, run) in zip(both, measured.items(), strict=True):
        before = 0.0
        for layer, came in run["came"]:
            _bar(axes, 1, before, came, BLUE, f"{layer}")
            before = came
        _bar(axes, 1, before, run["backward"], BLUE, "")
        for index, start, end in run["travelled"]:
            _bar(axes, 0, start, end, ORANGE, f"{int(index)}")
        axes.axvline(1000 * run["end"], color=SOFT, linewidth=1, linestyle="--")
        axes.set(xlabel="milliseconds", title=f"{name.capitalize()}: {1000 * run['end']:.0f} ms",
                 ylim=(-0.6, 1.6))  # fmt: skip
        axes.set_yticks([1, 0], ["backward\n(layer)", "sending\n(bucket)"])
    save(figure, "4_3_overlap", sheet=False)


def _bar(axes, lane: int, start: float, end: float, colour: str, text: str) -> None:
    axes.barh(lane, 1000 * (end - start), left=1000 * start, height=0.7, color=PALE[colour],
              edgecolor=colour)  # fmt: skip
    axes.text(500 * (start + end), lane, text, ha="center", va="center", fontsize=8, color=INK)


if __name__ == "__main__":
    main()
