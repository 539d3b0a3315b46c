"""Draws the figure of task 4.10: `python figures/make_4_10.py`. The steps are the ring's rule; the
experts are chosen by this homework's `route`. In a student's folder it is the student's own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
HOMEWORK = FOLDER.parent
sys.path += [str(HOMEWORK), str(HOMEWORK.parent)]

import distributed_training  # noqa: E402

SOLUTION = HOMEWORK / "solution" / "distributed_training"
if SOLUTION.is_dir():
    distributed_training.__path__.insert(0, str(SOLUTION))

import torch  # noqa: E402

from autograder.testing import drawing  # noqa: E402
from autograder.testing.drawing import (  # noqa: E402
    BLUE,
    GREEN,
    LINE,
    SOFT,
    canvas,
    cell,
    heading,
    save,
    write,
)
from distributed_training.experts import route  # noqa: E402

SIZE, TOKENS, EXPERTS, TOP_K = 4, 8, 8, 2


def ring(axes: Any, left: float, top: float) -> None:
    """Whose keys and values each rank has at each step; grey: hidden, passed on."""
    heading(axes, left, top - 0.3, "Ring attention, causal: whose chunk visits")
    for step in range(SIZE):
        write(axes, left + 0.85 + 0.62 * step, top - 0.08, f"step {step}", ha="center", color=SOFT)
    for rank in range(SIZE):
        y = top + 0.1 + 0.4 * rank
        write(axes, left + 0.4, y + 0.17, f"rank {rank}", ha="right", color=SOFT)
        for step in range(SIZE):
            source = (rank - step) % SIZE
            colour = BLUE if step == 0 else GREEN if source < rank else LINE
            cell(axes, left + 0.58 + 0.62 * step, y, str(source), colour, width=0.54, height=0.34)
        write(axes, left + 0.58 + 0.62 * SIZE + 0.05, y + 0.17, f"{rank + 1} computed", color=SOFT)
    write(axes, left, top + 1.95, "blue: own chunk; green: seen whole; grey: passed on only",
          color=SOFT)  # fmt: skip


def experts(axes: Any, left: float, top: float) -> None:
    """Rows from each rank's tokens to each rank's experts, by a random router."""
    torch.manual_seed(4)
    tokens, router = torch.randn(SIZE, TOKENS, 16), torch.randn(EXPERTS, 16)
    heading(
        axes, left, top - 0.3, f"{TOKENS} tokens a rank, top {TOP_K} of {EXPERTS} experts: rows"
    )
    moved = 0
    for rank in range(SIZE):
        chosen, _ = route(tokens[rank] @ router.T, TOP_K)
        counts = torch.bincount(chosen.reshape(-1) * SIZE // EXPERTS, minlength=SIZE).tolist()
        y = top + 0.1 + 0.4 * rank
        write(axes, left + 0.5, y + 0.17, f"from {rank}", ha="right", color=SOFT)
        for home, count in enumerate(counts):
            x = left + 0.65 + 0.62 * home
            if rank == 0:
                write(axes, x + 0.27, top - 0.08, f"to {home}", ha="center", color=SOFT)
            own = home == rank
            moved += 0 if own else count
            cell(axes, x, y, str(count), LINE if own else GREEN, width=0.54, height=0.34)
    write(axes, left, top + 1.95, f"{moved} of {SIZE * TOKENS * TOP_K} rows move, and come back", color=SOFT)  # fmt: skip


def main() -> None:
    """Both halves side by side."""
    drawing.use(FOLDER)
    figure, axes = canvas(8.4, 2.75)
    ring(axes, 0.2, 0.55)
    experts(axes, 4.9, 0.55)
    save(figure, "4_10_ring_and_experts")


if __name__ == "__main__":
    main()
