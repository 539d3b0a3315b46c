"""Draws the figures of task 3.2 from what the package beside this folder computes.

    python figures/make_3_2.py             # needs task 3.2 done

Nothing in them is made up: seeds are fixed, a few seconds of work, the same files each time.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).resolve().parent
sys.path[:0] = [str(FOLDER.parent), str(FOLDER.parents[1])]

import language_model  # noqa: E402

if (FOLDER.parent / "solution").is_dir():  # the staff's copy, where this package is all stubs
    language_model.__path__.insert(0, str(FOLDER.parent / "solution" / "language_model"))

from autograder.testing import drawing  # noqa: E402
from autograder.testing.drawing import (  # noqa: E402
    BLUE,
    GREEN,
    LINE,
    ORANGE,
    PALE,
    PURPLE,
    RED,
    SOFT,
    canvas,
    cell,
    charts,
    heading,
    save,
    write,
)

BANDS = ((64, 2, ORANGE), (21, 6, BLUE), (8, 16, PURPLE))


def measured_collisions(pairs: int = 300) -> tuple[np.ndarray, dict[tuple[int, int], np.ndarray]]:
    """Similarities, and for each banding the share of `pairs` pairs of sets that share a band."""
    from language_model import dedup

    rng = np.random.default_rng(0)
    grid = np.linspace(0.1, 0.98, 12)
    shares: dict[tuple[int, int], list[float]] = {(b, r): [] for b, r, _ in BANDS}
    exact = []
    for s in grid:
        common = round(200 * 2 * s / (1 + s))
        sets = []
        for _ in range(pairs):
            x = rng.integers(2**64, size=400 - common, dtype=np.uint64)
            sets += [np.sort(x[:200]), np.sort(np.r_[x[:common], x[200:]])]
        exact.append(common / (400 - common))
        matrix = dedup.minhash(sets, 128, seed=1)
        for bands, rows in shares:
            equal = (matrix[::2] == matrix[1::2])[:, : bands * rows]
            shares[bands, rows].append(
                float(equal.reshape(pairs, bands, rows).all(axis=2).any(axis=1).mean())
            )
    return np.array(exact), {key: np.array(values) for key, values in shares.items()}


def pair_counts() -> tuple[np.ndarray, np.ndarray]:
    """Of 500 texts and 300 near-copies: candidates and all pairs, counted by similarity."""
    sys.path.append(str(FOLDER.parent / "tests"))
    from data_cases import exact_pairs, near_duplicates
    from language_model import dedup

    texts = near_duplicates(np.random.default_rng(3), 500, 300)
    matrix = dedup.minhash([dedup.shingles(text) for text in texts], 128, seed=2)
    found = {(int(i), int(j)) for i, j in dedup.candidate_pairs(matrix, 21, 6)}
    similar = exact_pairs(texts, 0.0)
    edges = np.linspace(0, 1, 21)
    every = np.histogram(list(similar.values()), edges)[0]
    every[0] += len(texts) * (len(texts) - 1) // 2 - len(similar)  # those with nothing in common
    chosen = np.histogram([similar.get(pair, 0.0) for pair in found], edges)[0]
    return every, chosen


def dedup_figure() -> None:
    """The collision curve with measured points, and what it leaves of the pairs."""
    from language_model import dedup

    figure, (left, right) = charts(2, height=3.1)
    s = np.linspace(0, 1, 201)
    exact, shares = measured_collisions()
    places = ((0.14, 0.45, "left"), (0.59, 0.75, "right"), (0.79, 0.33, "right"))
    for (bands, rows, colour), (x, y, side) in zip(BANDS, places, strict=True):
        curve = dedup.collision_probability(s, bands, rows)
        left.plot(s, curve, color=colour, linewidth=1.4)
        left.text(x, y, f"{bands} bands of {rows}", color=colour, ha=side, fontsize=8.5)
        left.plot(exact, shares[bands, rows], "o", color=colour, markersize=3.5)
    left.axvline(0.8, color=SOFT, linewidth=0.8, linestyle=":")
    left.set(xlabel="Jaccard similarity s of two documents", ylabel="share that become candidates",
             title="1 − (1 − s^rows)^bands; points: 300 pairs each")  # fmt: skip
    every, chosen = pair_counts()
    middle = (np.arange(20) + 0.5) / 20
    right.bar(middle, np.maximum(every, 0.4), 0.044, color=PALE[LINE], edgecolor=LINE,
              label="all pairs")  # fmt: skip
    right.bar(middle, np.maximum(chosen, 0.4), 0.026, color=BLUE, label="candidates, 21 bands of 6")
    right.axvline(0.8, color=SOFT, linewidth=0.8, linestyle=":")
    right.set(yscale="log", ylim=(0.5, None), xlabel="Jaccard similarity",
              title=f"{every.sum():,} pairs, {chosen.sum():,} compared")  # fmt: skip
    right.legend(loc="upper right", fontsize=8.5)
    save(figure, "3_2_dedup", sheet=False)


def packed_rows() -> tuple[list[list[int]], Any]:
    """The worked example: documents of 5, 3, 7, 2 and 4 tokens in rows of 8."""
    from language_model import packing

    packer = packing.Packer(8, window=10)
    rows = []
    for letter, length in zip("abcde", (5, 3, 7, 2, 4), strict=True):
        rows += packer.add(np.arange(length) + 10 * (ord(letter) - ord("a") + 1))
    rows += packer.flush()
    return [[int(d[0]) // 10 - 1 for d in row] for row in rows], packing.collate(rows, 8)


def packing_figure() -> None:
    """The rows of the worked example, with targets, documents and positions of one of them."""
    figure, axes = canvas(8, 3.15)
    colours = (BLUE, ORANGE, GREEN, PURPLE, RED)
    members, batch = packed_rows()
    heading(axes, 0.2, 0.2, "Documents of 5, 3, 7, 2 and 4 tokens in rows of 8")
    for r, documents in enumerate(members):
        write(axes, 0.2, 0.6 + 0.36 * r, f"row {r}", color=SOFT, size=9)
        for t in range(8):
            number = int(batch.documents[r, t])
            name = "abcde"[documents[number]] if number >= 0 else ""
            colour = colours[documents[number]] if number >= 0 else LINE
            place = int(batch.positions[r, t])
            cell(axes, 0.85 + 0.4 * t, 0.45 + 0.36 * r, f"{name}{place}" if name else "·", colour,
                 width=0.4, filled=bool(name), size=8.5)  # fmt: skip
    shown = next(r for r, documents in enumerate(members) if len(documents) > 1)
    heading(axes, 0.2, 1.75, f"Row {shown}, as collate gives it")
    for k, name in enumerate(("ids", "targets", "documents", "positions")):
        write(axes, 0.2, 2.1 + 0.29 * k, name, size=9)
        for t in range(8):
            value = int(getattr(batch, name)[shown, t])
            number = int(batch.documents[shown, t])
            colour = colours[members[shown][number]] if number >= 0 else LINE
            colour = RED if value == -100 else colour
            cell(axes, 1.25 + 0.5 * t, 1.96 + 0.29 * k, str(value), colour, width=0.5, height=0.27,
                 size=8.5)  # fmt: skip
    note = ["c is the longest and opens row 0;", "nothing of one token is there to fill it.",
            "a opens row 1, b fills it exactly.", "", "red: nothing to predict here. b's first",
            "token is not a's to predict, and b's", "positions begin at 0 again."]  # fmt: skip
    for k, text in enumerate(note):
        write(axes, 5.45, 0.6 + 0.27 * k, text, size=9, color=SOFT)
    save(figure, "3_2_packing")


def stream_figure() -> None:
    """One epoch of 22 samples for one, two and three ranks."""
    from language_model import stream

    order = stream.Permutation(22, seed=1, epoch=0)(np.arange(22))
    figure, axes = canvas(8, 2.75)
    heading(axes, 0.2, 0.2, "22 samples, batch size 6, seed 1, epoch 0: one order, whoever reads")
    colours = (BLUE, ORANGE, GREEN)
    for line, (ranks, upto) in enumerate(((1, 22), (2, 22), (3, 22))):
        y = 0.62 + 0.5 * line
        write(axes, 0.2, y + 0.14, f"{ranks} rank{'s' * (ranks > 1)}", size=9)
        for t in range(upto):
            step, place = divmod(t, 6)
            size = min(6, 22 - 6 * step)
            shares = np.cumsum([size // ranks + (r < size % ranks) for r in range(ranks)])
            owner = int(np.searchsorted(shares, place, side="right"))
            cell(axes, 0.95 + 0.29 * t + 0.14 * step, y, str(order[t]), colours[owner], width=0.29,
                 height=0.28, size=8)  # fmt: skip
    for step in range(4):
        x = 0.95 + (0.29 * 6 + 0.14) * step
        write(axes, x, 0.47, f"step {step}", size=8.5, color=SOFT)
    write(axes, 0.2, 2.25, "blue: rank 0, orange: rank 1, green: rank 2. A run stopped after step 1 "
          "with three ranks goes on at step 2 with one,", size=9)  # fmt: skip
    write(axes, 0.2, 2.48, "or with two: the next batch is the same. The last batch has 4 samples; "
          "every rank takes part in it, if need be with none.", size=9, color=SOFT)  # fmt: skip
    save(figure, "3_2_stream")


def main() -> None:
    """Write every figure beside this script."""
    drawing.use(FOLDER)
    dedup_figure()
    packing_figure()
    stream_figure()


if __name__ == "__main__":
    main()
