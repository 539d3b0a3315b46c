"""Draws the figures of task 3.10: `python figures/make_3_10.py`, from measured_3_10.json beside it.

With --measure `align.py grpo` runs first, from five seeds, with the code of this homework (the
reference, where there is one): a minute.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
sys.path[1:1] = [str(FOLDER.parents[1])]
MEASURED = FOLDER / "measured_3_10.json"
SEEDS = 5


def measure() -> dict[str, Any]:
    """By seed, the mean reward and the mean deviation within a group at each step."""
    from make_3_9 import run_align

    runs = [run_align("grpo", "--seed", str(seed)) for seed in range(SEEDS)]
    return {
        name: [[round(record[name], 3) for record in run] for run in runs]
        for name in ("reward", "spread")
    }


def rollouts() -> None:
    """A prompt that runs once for its group; what each row keeps; what the advantage is."""
    from autograder.testing import drawing as d

    figure, axes = d.canvas(8.6, 3.3)
    d.heading(axes, 0.2, 0.2, "prefill once, share keys and values, sample a group")
    d.row(axes, 0.2, 1.45, ["9", "5"], d.BLUE)
    d.write(axes, 0.2, 1.95, "runs once", color=d.SOFT, fontsize=8.5)
    responses = (("6", "7", "0"), ("6", "1", "E"), ("3", "7", "2"), ("4", "E", "·"))
    scores = ("1", "⅓", "⅓", "0")
    advantages = ("+1.61", "−0.23", "−0.23", "−1.15")
    for place, tokens in enumerate(responses):
        y = 0.62 + place * 0.58
        d.arrow(axes, (1.0, 1.6), (1.75, y + 0.15))
        colours = [d.LINE if token == "·" else d.ORANGE for token in tokens]
        d.row(axes, 1.8, y, tokens, colours)
        masks = ["0", "0", *("0" if token == "·" else "1" for token in tokens)]
        d.row(axes, 3.45, y, masks, [d.GREEN if m == "1" else d.LINE for m in masks], width=0.26)
        d.write(axes, 5.3, y + 0.15, scores[place], ha="center")
        d.write(axes, 6.4, y + 0.15, advantages[place], ha="center")
        d.write(axes, 7.75, y + 0.15, ("1/3 each", "1/3 each", "1/3 each", "1/2 each")[place],
                ha="center")  # fmt: skip
    for x, text in ((2.35, "response"), (4.1, "mask"), (5.3, "reward"), (6.4, "advantage"),
                    (7.75, "a token counts")):  # fmt: skip
        d.write(axes, x, 0.47, text, ha="center", color=d.SOFT, fontsize=8.5)
    d.write(axes, 0.2, 3.1, "E is the stop token: it belongs to the response, and what follows it "
            "(·) is padding. log p is recorded as each token is drawn.", color=d.SOFT,
            fontsize=8.5)  # fmt: skip
    d.save(figure, "3_10_rollouts")


def learning(found: dict[str, Any]) -> None:
    """The clipped objective for both signs, and five runs of GRPO."""
    import numpy as np

    from autograder.testing import drawing as d

    figure, (left, middle, right) = d.charts(3, 8.6, 2.9)
    ratio = np.linspace(0.4, 1.6, 121)
    for sign, colour, name in ((1, d.GREEN, "A = +1"), (-1, d.RED, "A = −1")):
        gain = np.minimum(ratio * sign, np.clip(ratio, 0.8, 1.2) * sign)
        left.plot(ratio, gain, color=colour, label=name)
    left.axvspan(0.8, 1.2, color=d.PALE[d.BLUE], zorder=0)
    left.plot([1, 1], [1, -1], "o", color=d.INK, markersize=4)
    left.set(title="min(ρA, clip(ρ)A), clip 0.2", xlabel="ρ = π / π_old")
    left.legend(loc="center left", fontsize=8.5)
    steps = np.arange(1, len(found["reward"][0]) + 1)
    for rewards, spread in zip(found["reward"], found["spread"], strict=True):
        middle.plot(steps, rewards, color=d.BLUE, linewidth=0.9, alpha=0.7)
        right.plot(steps, spread, color=d.PURPLE, linewidth=0.9, alpha=0.7)
    middle.axhline(0.85, color=d.GREEN, linestyle="--", linewidth=1)
    middle.axhline(0.1, color=d.LINE, linestyle="--", linewidth=1)
    middle.text(95, 0.78, "asked", color=d.GREEN, fontsize=8.5)
    middle.text(105, 0.13, "chance", color=d.SOFT, fontsize=8.5)
    middle.set(title="mean reward, five seeds", xlabel="step", ylim=(0, 1.03))
    right.set(title="deviation within a group", xlabel="step", ylim=(0, None))
    d.save(figure, "3_10_learning")


def main() -> None:
    """Measure if asked, then draw."""
    from autograder.testing.drawing import use

    use(FOLDER)
    if "--measure" in sys.argv[1:]:
        MEASURED.write_text(json.dumps(measure()) + "\n", encoding="utf-8")
    rollouts()
    learning(json.loads(MEASURED.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
