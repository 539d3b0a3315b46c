"""Draws the figure of task 3.4: `python figures/make_3_4.py`. The mask is computed, not drawn."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

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
    row,
    save,
    write,
)

DOCUMENTS = (5, 5, 5, 8, 8, 2, 2, 2, -1)
COLOURS = {5: BLUE, 8: ORANGE, 2: GREEN, -1: LINE}
HEADS, KV_HEADS = 9, 3


def main() -> None:
    """Left: who sees whom in a packed row. Right: which key head a query head reads."""
    drawing.use(FOLDER)
    figure, axes = canvas(8, 3.45)
    names = np.array(DOCUMENTS)
    count = len(names)
    allowed = (names[:, None] == names) & np.tril(np.ones((count, count), bool)) & (names >= 0)
    size = 0.27
    heading(axes, 0.25, 0.2, "One row, three documents and padding")
    write(axes, 0.25, 0.52, "document", color=SOFT, size=8.5)
    write(axes, 0.25, 0.78, "position", color=SOFT, size=8.5)
    colours = [COLOURS[name] for name in DOCUMENTS]
    places = [sum(n == name for n in DOCUMENTS[:at]) for at, name in enumerate(DOCUMENTS)]
    row(axes, 1.05, 0.39, names, colours, width=size, height=0.25, size=8)
    row(axes, 1.05, 0.65, places, colours, width=size, height=0.25, size=8)
    for query, key in np.ndindex(count, count):
        seen = bool(allowed[query, key])
        cell(axes, 1.05 + key * size, 0.98 + query * 0.235, "", colours[query] if seen else LINE,
             width=size, height=0.235, filled=seen)  # fmt: skip
    write(axes, 0.92, 2.04, "queries", color=SOFT, size=8.5, ha="right")
    write(axes, 1.05, 3.26, "keys; filled: allowed; padding sees nothing", color=SOFT,
          size=8.5)  # fmt: skip
    left, step = 4.1, 0.4
    heading(axes, left, 0.2, f"{HEADS} query heads share {KV_HEADS} key-value heads")
    palette = (BLUE, ORANGE, PURPLE)
    group = HEADS // KV_HEADS
    for head in range(HEADS):
        cell(axes, left + head * step, 0.5, f"q{head}", palette[head // group], width=step)
    for head in range(KV_HEADS):
        middle = left + (head * group + group / 2) * step
        cell(axes, middle - step / 2, 1.35, f"k{head}", palette[head], width=step)
        for member in range(group):
            arrow(axes, (left + (head * group + member + 0.5) * step, 0.82), (middle, 1.33),
                  palette[head])  # fmt: skip
    lines = (
        "head h reads key head h // 3, its neighbours with it",
        "as one product for each key head, nothing repeated:",
        "(batch, 3, 3 · queries, 64) @ (batch, 3, 64, keys)",
        "SmolLM2, 8,192 positions, float32: the cache holds",
        f"{30 * 2 * 3 * 64 * 8192 * 4 / 2**20:.0f} MB for 3 heads; with 9 it would be "
        f"{30 * 2 * 9 * 64 * 8192 * 4 / 2**20:,.0f} MB",
    )
    for place, text in enumerate(lines):
        write(axes, left, 1.98 + 0.26 * place + (0.1 if place > 2 else 0), text,
              color=SOFT if place != 2 else drawing.INK, size=9)  # fmt: skip
    save(figure, "3_4_attention")


if __name__ == "__main__":
    main()
