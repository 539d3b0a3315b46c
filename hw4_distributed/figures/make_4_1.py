"""Draws the figure of task 4.1: `python figures/make_4_1.py`. The steps are the ring's own rule."""

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
    SOFT,
    arrow,
    canvas,
    cell,
    heading,
    save,
    write,
)

SIZE = 4
State = list[list[set[int]]]  # [rank][chunk]: whose parts are in what this rank holds of it


def steps() -> list[tuple[str, State, list[int]]]:
    """(title, state, chunk that each rank sends next) from start to end; -1: nothing more to send."""
    state: State = [[{rank} for _ in range(SIZE)] for rank in range(SIZE)]
    found = []
    for step in range(2 * (SIZE - 1)):
        scatter = step < SIZE - 1
        shift = -1 - step if scatter else SIZE - 1 - step
        sends = [(rank + shift) % SIZE for rank in range(SIZE)]
        found.append((_title(step), [[set(c) for c in row] for row in state], sends))
        moving = [set(state[rank][sends[rank]]) for rank in range(SIZE)]
        for rank, chunk in enumerate(sends):
            state[(rank + 1) % SIZE][chunk] |= moving[rank]
    found.append((_title(2 * (SIZE - 1)), state, [-1] * SIZE))
    return found


def _title(step: int) -> str:
    if step == 0:
        return "before"
    half = "scatter" if step < SIZE else "gather"
    return f"{half}, after step {(step - 1) % (SIZE - 1) + 1}"


def main() -> None:
    """Seven states; in each, the chunk that every rank sends to the next is outlined in blue."""
    drawing.use(FOLDER)
    figure, axes = canvas(8.0, 4.3)
    for place, (title, state, sends) in enumerate(steps()):
        left, top = 0.35 + 1.93 * (place % 4), 0.45 + 2.1 * (place // 4)
        heading(axes, left, top - 0.15, title)
        for rank, row in enumerate(state):
            write(axes, left - 0.08, top + 0.15 + 0.34 * rank, str(rank), ha="right", color=SOFT)
            for chunk, inside in enumerate(row):
                whole = len(inside) == SIZE
                sent = sends[rank] == chunk
                colour = GREEN if whole else BLUE if sent else LINE
                text = "all" if whole else "".join(map(str, sorted(inside)))
                at = (left + 0.4 * chunk, top + 0.34 * rank)
                cell(axes, *at, text, colour, width=0.38, height=0.3, fontsize=8,
                     weight="bold" if sent else "normal")  # fmt: skip
                if sent:
                    arrow(axes, (at[0] + 0.19, at[1] + 0.31), (at[0] + 0.19, at[1] + 0.36), BLUE,
                          mutation_scale=6)  # fmt: skip
    left, top = 0.35 + 1.93 * 3, 2.55
    for line, text in enumerate((
        "Rows: ranks; columns: chunks.", "A cell names the ranks whose",
        "parts are in it. Bold with an", "arrow: goes to the next rank", "(3 sends to 0). Each",
        "rank sends one chunk a step.",
    )):  # fmt: skip
        write(axes, left - 0.1, top + 0.22 * line, text, fontsize=8.5, color=SOFT)
    save(figure, "4_1_ring")


if __name__ == "__main__":
    main()
