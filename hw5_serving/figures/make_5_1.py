"""Draws the figure of task 5.1: `python figures/make_5_1.py`. The pool after each event, as this
homework's block manager leaves it; in a student's folder it is the student's own."""

from __future__ import annotations

from typing import Any

from own_code import FOLDER

# isort: split
from autograder.testing import drawing
from autograder.testing.drawing import (
    BLUE,
    GREEN,
    LINE,
    ORANGE,
    PURPLE,
    RED,
    SOFT,
    canvas,
    cell,
    save,
    write,
)
from serving.block_manager import BlockManager
from serving.sequence import Sequence

COLOURS = {"A": BLUE, "B": ORANGE, "C": GREEN, "D": PURPLE, "E": RED}
SIZE, BLOCKS, WIDTH, HEIGHT = 4, 8, 0.92, 0.36
SYSTEM = list(range(8))
A, B, C, E = ([100 * place + token for token in range(16)] for place in range(1, 5))
# (what is said, text, its tokens now; none: it is over)
EVENTS: list[tuple[str, str, list[int]]] = [
    ("A comes:\n8 + 3 tokens", "A", [*SYSTEM, *A[:3]]),
    ("B comes:\n8 + 2 tokens", "B", [*SYSTEM, *B[:2]]),
    ("A has\n13 tokens", "A", [*SYSTEM, *A[:5]]),
    ("A ends", "A", []),
    ("C comes:\n12 other", "C", C[:12]),
    ("B ends", "B", []),
    ("D: A's first\n13, 3 more", "D", [*SYSTEM, *A[:8]]),
    ("C ends", "C", []),
    ("E comes:\n12 other", "E", E[:12]),
]


def run() -> list[tuple[dict[str, list[int]], dict[int, list[int]], list[int]]]:
    """(tables, tokens in each block, cached blocks from longest unused on) after each event."""
    manager = BlockManager(BLOCKS, SIZE)
    texts: dict[str, Sequence] = {}
    inside: dict[int, list[int]] = {}
    states = []
    for number, (_, name, tokens) in enumerate(EVENTS):
        if not tokens:
            manager.free(texts.pop(name))
        else:
            text = texts.setdefault(name, Sequence(number, tokens))
            text.token_ids = list(tokens)
            manager.allocate(text, len(tokens))
            text.num_computed_tokens = len(tokens)
            manager.register(text)
            for place, block in enumerate(text.block_table):
                inside[block] = tokens[place * SIZE : (place + 1) * SIZE]
        tables = {name: list(text.block_table) for name, text in texts.items()}
        cached = [block for block in manager.free_blocks if manager.hashes[block]]
        states.append((tables, dict(inside), cached))
        print(EVENTS[number][0].replace("\n", " "), tables, "cached", cached)
    return states


def label(tokens: list[int]) -> str:
    """Whose tokens a block has, and which of its own blocks they are."""
    owner = "system" if tokens[0] < 100 else "ABCE"[tokens[0] // 100 - 1]
    text = f"{owner} {tokens[0] % 100 // SIZE}"
    return text if len(tokens) == SIZE else f"{text}: {len(tokens)}/{SIZE}"


def column(axes: Any, x: float, y: float, state: Any) -> None:
    """The pool at one time: a block that two hold has a band in the second one's colour."""
    tables, inside, cached = state
    for block in range(BLOCKS):
        top = y + block * HEIGHT
        holders = [name for name, table in tables.items() if block in table]
        box = {"width": WIDTH - 0.06, "height": HEIGHT - 0.05, "fontsize": 7}
        if block in cached:
            turn = cached.index(block) + 1
            cell(axes, x, top, f"{label(inside[block])}  ({turn})", LINE, color=SOFT, **box)
        elif not holders:
            cell(axes, x, top, filled=False, **box)
        else:
            first = WIDTH - 0.06 - 0.17 * (len(holders) - 1)
            cell(axes, x, top, label(inside[block]), COLOURS[holders[0]], **{**box, "width": first})
            for place, name in enumerate(holders[1:]):
                band = {"width": 0.17, "height": HEIGHT - 0.05}
                cell(axes, x + first + 0.17 * place, top, "", COLOURS[name], **band)


def main() -> None:
    """Nine events from left to right."""
    drawing.use(FOLDER)
    figure, axes = canvas(9.2, 4.1)
    for place, ((said, name, _), state) in enumerate(zip(EVENTS, run(), strict=True)):
        x = 0.72 + place * WIDTH
        write(axes, x + 0.42, 0.28, said, ha="center", fontsize=7.5, color=COLOURS[name])
        column(axes, x, 0.58, state)
    for block in range(BLOCKS):
        write(axes, 0.12, 0.58 + block * HEIGHT + 0.16, f"block {block}", fontsize=7.5, color=SOFT)
    y = 0.58 + BLOCKS * HEIGHT + 0.3
    for place, (name, colour) in enumerate(COLOURS.items()):
        cell(axes, 0.72 + place * 0.75, y, name, colour, width=0.34, height=0.26, fontsize=7.5)
    write(axes, 0.72 + 4 * 0.75 + 0.44, y + 0.13, "who holds it", fontsize=8)
    cell(axes, 5.55, y, "(1)", LINE, width=0.4, height=0.26, fontsize=7, color=SOFT)
    write(axes, 6.05, y + 0.13, "cached: evicted in this order", fontsize=8)
    cell(axes, 8.0, y, filled=False, width=0.34, height=0.26)
    write(axes, 8.42, y + 0.13, "empty", fontsize=8)
    save(figure, "5_1_blocks")


if __name__ == "__main__":
    main()
