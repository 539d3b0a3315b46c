"""Draws the figure of task 3.7: `python figures/make_3_7.py`, from measured_3_7.json.

That file holds the log of a run of train.py (its "command"), and the resident memory that a loss
over 4,096 rows and 16,384 tokens adds, forward and backward, by chunk_rows.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parent
sys.path.append(str(FOLDER.parents[1]))

from autograder.testing import drawing  # noqa: E402
from autograder.testing.drawing import BLUE, GREEN, ORANGE, SOFT, charts, save  # noqa: E402


def main() -> None:
    """A loss curve, memory by chunk, and how much one target weighs in uneven batches."""
    drawing.use(FOLDER)
    found = json.loads((FOLDER / "measured_3_7.json").read_text(encoding="utf-8"))
    figure, (curve, memory, share) = charts(3, width=9.6, height=2.9)
    losses = np.array(found["loss"])
    curve.plot(np.arange(1, len(losses) + 1), losses, color=BLUE, linewidth=0.6, alpha=0.4)
    mean = np.convolve(losses, np.ones(15) / 15, mode="valid")
    curve.plot(np.arange(15, len(losses) + 1), mean, color=BLUE, label="training")
    seen = found["held_out"]
    curve.plot([int(s) for s in seen], list(seen.values()), color=ORANGE, marker="o", markersize=4,
               label="held out")  # fmt: skip
    curve.set(xlabel="step", ylabel="nats a token", title="train.py on Shakespeare")
    curve.legend()
    bars = found["megabytes of a loss"]
    colours = [GREEN] * (len(bars) - 1) + [ORANGE]
    memory.barh(list(bars), list(bars.values()), color=colours)
    for place, value in enumerate(bars.values()):
        memory.text(value + 12, place, f"{value}", va="center", fontsize=8, color=SOFT)
    memory.set(xlabel="MB more at the peak", title="A loss by chunk_rows", xlim=(0, 930))
    counts = np.array([12, 4, 30])
    places = np.arange(3)
    right = 100 / counts.sum() * np.ones(3)
    wrong = 100 / (3 * counts)
    share.bar(places - 0.2, right, 0.4, color=GREEN, label="weighted by targets")
    share.bar(places + 0.2, wrong, 0.4, color=ORANGE, label="mean of the means")
    share.set_xticks(places, [f"batch of {n}" for n in counts])
    share.set(ylabel="% of the loss", title="What one target weighs", ylim=(0, 11))
    share.legend(loc="upper right", fontsize=8)
    save(figure, "3_7_training", sheet=False)


if __name__ == "__main__":
    main()
