"""Draws the figure of task 3.5: `python figures/make_3_5.py`. The numbers are SmolLM2-135M's sizes."""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.append(str(FOLDER.parents[1]))

from autograder.testing import drawing  # noqa: E402
from autograder.testing.drawing import (  # noqa: E402
    BLUE,
    GREEN,
    LINE,
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

WIDTH, INNER, LAYERS, VOCABULARY, KV_WIDTH = 576, 1536, 30, 49_152, 192


def block() -> list[tuple[str, str]]:
    """The boxes of one block, bottom to top, with a colour each."""
    return [("attention_norm", LINE), ("attention", BLUE), ("ffn_norm", LINE), ("ffn", ORANGE)]


def main() -> None:
    """Left: a block with its two detours. Right: where the weights are; a file's row order."""
    drawing.use(FOLDER)
    figure, axes = canvas(8, 3.7)
    heading(axes, 0.25, 0.2, "ids to logits")
    line, side = 0.8, 2.1
    node(axes, line, 3.4, "embedding", GREEN, width=1.1, height=0.34)
    node(axes, line, 0.95, "norm", LINE, width=0.9, height=0.32)
    node(axes, line, 0.52, "head", GREEN, width=0.9, height=0.32)
    arrow(axes, (line, 3.22), (line, 1.12))
    arrow(axes, (line, 0.78), (line, 0.69))
    for (low, high), boxes in (((2.98, 2.2), block()[:2]), ((1.98, 1.25), block()[2:])):
        middle = (low + high) / 2
        node(axes, side, low - 0.14, boxes[0][0], boxes[0][1], width=1.4, height=0.3)
        node(axes, side, high + 0.14, boxes[1][0], boxes[1][1], width=1.4, height=0.3)
        arrow(axes, (line, low), (side - 0.7, low - 0.13))
        arrow(axes, (side, middle + 0.12), (side, middle - 0.1))
        arrow(axes, (side - 0.7, high + 0.13), (line + 0.06, high))
        write(axes, line - 0.08, high, "+", ha="right", size=12)
    write(axes, 2.95, 2.1, f"× {LAYERS}", color=SOFT, size=11)
    write(axes, 1.5, 0.52, "= embedding, where tied", color=SOFT, size=8.5)
    left = 3.95
    heading(axes, left, 0.2, "134.5 million weights")
    attention = LAYERS * (2 * WIDTH * WIDTH + 2 * WIDTH * KV_WIDTH)
    parts = (
        ("embedding", VOCABULARY * WIDTH, GREEN), ("attention", attention, BLUE),
        ("ffn", LAYERS * 3 * WIDTH * INNER, ORANGE),
    )  # fmt: skip
    norms = (2 * LAYERS + 1) * WIDTH
    total = sum(count for _, count, _ in parts) + norms
    assert round(total / 1e6, 1) == 134.5
    at = left
    for name, count, colour in parts:
        width = 3.8 * count / total
        cell(axes, at, 0.4, name, colour, width=width, size=8)
        write(axes, at + width / 2, 0.82, f"{count / 1e6:.1f}", ha="center", size=8.5, color=colour)
        at += width
    write(axes, left, 1.03, f"and {norms:,} in norms; untied, the head would add 28.3", color=SOFT,
          size=8.5)  # fmt: skip
    heading(axes, left, 1.4, "Query rows in the file and in the model")
    stored = [part * 4 + pair for pair in range(4) for part in range(2)]
    palette = (BLUE, ORANGE, GREEN, PURPLE)
    step = 0.47
    for place, row in enumerate(stored):
        cell(axes, left + place * step, 1.62, str(row), palette[row % 4], width=step)
        arrow(axes, (left + (place + 0.5) * step, 1.93), (left + (row + 0.5) * step, 2.56),
              palette[row % 4])  # fmt: skip
    for place in range(8):
        cell(axes, left + place * step, 2.58, str(place), palette[place % 4], width=step)
    texts = ("one head of 8 rows; rows of a colour turn together:", "side by side in the file, "
             "4 = head_dim/2 apart in the model", "reshape (heads, 4, 2, columns), swap, flatten")  # fmt: skip
    for place, text in enumerate(texts):
        write(axes, left, 3.05 + 0.2 * place, text, color=SOFT, size=8.5)
    save(figure, "3_5_model")


if __name__ == "__main__":
    main()
