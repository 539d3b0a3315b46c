"""Draws the figure of task 3.3: `python figures/make_3_3.py`. The curves are rope_tables' formula."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parent
sys.path.append(str(FOLDER.parents[1]))

from autograder.testing import drawing  # noqa: E402
from autograder.testing.drawing import BLUE, GREEN, ORANGE, PURPLE, charts, save  # noqa: E402

HEAD_DIM, THETA = 64, 100_000.0  # SmolLM2-135M


def frequencies(theta: float) -> np.ndarray:
    """Radians a position, of each of the head's pairs."""
    return theta ** (-2.0 * np.arange(HEAD_DIM // 2) / HEAD_DIM)


def main() -> None:
    """Left: how fast pairs turn. Right: the score of two equal vectors by their distance."""
    drawing.use(FOLDER)
    figure, (left, right) = charts(2, height=2.9)
    places = np.linspace(0, 100, 1001)
    for pair, colour in zip((0, 4, 8, 16), (BLUE, ORANGE, GREEN, PURPLE), strict=True):
        speed = frequencies(THETA)[pair]
        left.plot(places, np.cos(places * speed), color=colour, linewidth=1.3,
                  label=f"pair {pair}: once in {2 * np.pi / speed:,.0f}")  # fmt: skip
    left.set(xlabel="position", ylabel="cos of the angle", ylim=(-1.1, 1.75),
             title=f"Pairs turn at their own speeds (theta {THETA:,.0f})")  # fmt: skip
    left.legend(ncols=2, loc="upper center", fontsize=8, handlelength=1.2)
    distances = np.arange(0, 513)
    for theta, colour in ((10_000.0, ORANGE), (THETA, BLUE)):
        score = np.cos(distances[:, None] * frequencies(theta)).mean(1)
        right.plot(distances, score, color=colour, linewidth=1.3, label=f"theta {theta:,.0f}")
    right.set(xlabel="distance of query and key", ylabel="score, of 1 at distance 0", ylim=(0, 1.05),
              title="Query and key of ones, by distance")  # fmt: skip
    right.legend(loc="upper right")
    save(figure, "3_3_rotation", sheet=False)


if __name__ == "__main__":
    main()
