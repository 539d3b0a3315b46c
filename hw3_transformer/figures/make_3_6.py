"""Draws the figures of task 3.6: `python figures/make_3_6.py`, from measured_3_6.json."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).resolve().parent
sys.path.append(str(FOLDER.parents[1]))

from autograder.testing import drawing  # noqa: E402
from autograder.testing.drawing import (  # noqa: E402
    BLUE,
    GREEN,
    LINE,
    ORANGE,
    SOFT,
    arrow,
    canvas,
    charts,
    heading,
    row,
    save,
    write,
)

PROMPTS = [["The", "cat", "sat", "on", "a"], ["So", "it", "is"]]
NEW = ["mat", "said"]
SLOTS, WIDTH = 7, 0.5


def slots(axes: Any, x: float, y: float, title: str, rows: list[list[tuple[str, str]]]) -> None:
    """A cache of two rows: (text, colour) of each slot."""
    heading(axes, x, y, title)
    for place, cells in enumerate(rows):
        filled = cells + [("", LINE)] * (SLOTS - len(cells))
        top = y + 0.2 + place * 0.42
        row(axes, x, top, [text for text, _ in filled], [c for _, c in filled], width=WIDTH,
            fontsize=7.5)  # fmt: skip


def cache() -> None:
    """Padded prefill, truncation, and the next step in each row's own slot."""
    figure, axes = canvas(8.4, 3.9)
    padded = [[(t, BLUE) for t in prompt] for prompt in PROMPTS]
    padded[1] += [("pad", ORANGE)] * 2
    slots(axes, 0.3, 0.25, "1  prefill, padded on the right: lengths 5, 5", padded)
    cut = [padded[0], padded[1][:3] + [("·", LINE)] * 2]
    slots(axes, 4.5, 0.25, "2  truncate([5, 3]): padding is forgotten", cut)
    step = [
        [*padded[0], (NEW[0], GREEN)],
        [*padded[1][:3], (NEW[1], GREEN), ("·", LINE), ("·", LINE)],
    ]
    slots(axes, 0.3, 1.6, "3  a step writes slot 5 and slot 3", step)
    heading(axes, 4.5, 1.6, "mask(1): what that step may see, used = 6")
    for place, length in enumerate((6, 4)):
        cells = ["1"] * length + ["0"] * (6 - length)
        row(axes, 4.5, 1.8 + place * 0.42, cells, [GREEN if c == "1" else LINE for c in cells],
            width=WIDTH, fontsize=8)  # fmt: skip
    arrow(axes, (3.9, 0.87), (4.4, 0.87))
    arrow(axes, (3.9, 2.22), (4.4, 2.22))
    slots(
        axes,
        0.3,
        2.95,
        "4  row 1 has met its stop token: select([0])",
        [[*step[0], ("and", GREEN)]],
    )
    write(axes, 4.5, 3.3, "Positions for RoPE are the lengths: 5 and 3 in step 3,\n"
          "not 5 and 5, and never 0.", color=SOFT)  # fmt: skip
    save(figure, "3_6_cache")


def sampling(found: dict[str, Any]) -> None:
    """Left: a step's cost by length. Right: what temperature and top-p leave."""
    figure, (left, right) = charts(2, width=8.4, height=3.1)
    lengths = [int(n) for n in found["milliseconds"]]
    cached, again = zip(*found["milliseconds"].values(), strict=True)
    left.loglog(lengths, again, color=ORANGE, marker="o", label="run the text again")
    left.loglog(lengths, cached, color=BLUE, marker="o", label="on the cache")
    left.set_xticks(lengths, [str(n) for n in lengths])
    left.minorticks_off()
    left.set(xlabel="tokens so far", ylabel="CPU ms for the next token",
             title="SmolLM2-135M, one thread")  # fmt: skip
    left.legend(loc="upper left")
    tokens = [repr(t)[1:-1] for t in found["tokens"]]
    places = np.arange(len(tokens))
    for temperature, colour, shift in (
        ("0.5", GREEN, -0.27),
        ("1.0", BLUE, 0.0),
        ("1.5", ORANGE, 0.27),
    ):
        kept = found["kept at 0.9"][temperature]
        label = f"temperature {temperature}: top-p 0.9 keeps {kept:,}"
        values = found["probabilities"][temperature]
        right.bar(places + shift, values, 0.27, color=colour, label=label)
    right.set_yticks([1e-3, 1e-2, 1e-1, 1])
    right.set_xticks(places, tokens, rotation=60, ha="right", fontsize=7.5)
    right.set(ylabel="probability", yscale="log", ylim=(3e-4, 60), title=f"“{found['prompt']} …”")
    right.legend(loc="upper right", fontsize=8)
    save(figure, "3_6_sampling", sheet=False)


def main() -> None:
    """Write both beside this script."""
    drawing.use(FOLDER)
    cache()
    sampling(json.loads((FOLDER / "measured_3_6.json").read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
