"""Figures of tasks 2.5 to 2.12: walks over rows, tiles of attention, packed words, a block."""

from __future__ import annotations

from typing import Any

from autograder.testing.drawing import (
    BLUE,
    GREEN,
    LINE,
    MONO,
    ORANGE,
    PALE,
    PURPLE,
    SOFT,
    arrow,
    canvas,
    cell,
    heading,
    save,
    write,
)
from matplotlib.axes import Axes
from pieces import box, table, value_row

Found = dict[str, Any]


def _walk(
    axes: Axes, x: float, y: float, words: str, colour: str, width: float = 1.95,
    back: bool = False, writes: bool = False,
) -> None:  # fmt: skip
    """One pass over a row in memory: an arrow along it, and what is learned."""
    for place in range(12):
        cell(axes, x + place * width / 12, y, "", GREEN if writes else LINE, width=width / 12,
             height=0.2)  # fmt: skip
    start, end = (x + width, x) if back else (x, x + width)
    arrow(axes, (start, y + 0.3), (end, y + 0.3), colour)
    write(axes, x, y + 0.46, words, size=8.5, color=colour)


def softmax(found: Found) -> None:
    """2.5: how often each version reads a row."""
    figure, axes = canvas(8, 3.6)
    versions = (
        ("1 three passes", (("read: max", BLUE, False), ("read: sum of exp(x − max)", BLUE, False),
                            ("read and write: the result", GREEN, True))),
        ("2 online", (("read: max and sum together", BLUE, False),
                      ("read and write: the result", GREEN, True))),
        ("3 on chip", (("read into registers, 8 a thread", PURPLE, False),
                       ("write the result from them", GREEN, True))),
    )  # fmt: skip
    for place, (title, steps) in enumerate(versions):
        x = 0.25 + place * 2.6
        heading(axes, x, 0.2, title)
        for depth, (words, colour, writes) in enumerate(steps):
            _walk(axes, x, 0.4 + depth * 0.68, words, colour, writes=writes)
    write(axes, 5.45, 1.85, "max and sum over registers, shuffles", size=8.5, color=SOFT)
    write(axes, 5.45, 2.03, "and one barrier each: no memory", size=8.5, color=SOFT)
    rows = []
    for label, name in (("three passes, 16 rows of 1,024", "softmax three_pass"),
                        ("online, 16 rows of 1,024", "softmax online"),
                        ("on chip, 16 rows of 1,024", "softmax best"),
                        ("2 rows of 16,384: too long, online", "softmax long")):  # fmt: skip
        one = found[name]
        rows.append((label, one["global_load_sectors"], one["global_store_sectors"],
                     one["barriers"]))  # fmt: skip
    table(axes, 0.25, 2.5, ("counted", "load sectors", "store sectors", "barriers"), rows,
          (3.2, 1.2, 1.2, 1.0))  # fmt: skip
    save(figure, "2_5_softmax")


def normalization(found: Found) -> None:
    """2.6: sums along a row at once, sums down the columns in registers."""
    figure, axes = canvas(8, 3.55)
    heading(axes, 0.25, 0.2, "Backward: a block and its rows, one after the other")
    for row in range(4):
        y = 0.42 + row * 0.34
        write(axes, 0.25, y + 0.13, f"row {row}" if row < 3 else "row 15", size=8.5, color=SOFT)
        for column in range(8):
            cell(axes, 0.85 + column * 0.42, y, "", LINE, width=0.42, height=0.26)
        arrow(axes, (0.9, y + 0.13), (4.3, y + 0.13), BLUE)
    write(axes, 4.35, 0.55, "two sums of the row: shuffles and", size=8.5, color=BLUE)
    write(axes, 4.35, 0.73, "barriers, then grad_x of the row", size=8.5, color=BLUE)
    for column in range(8):
        x = 0.85 + (column + 0.5) * 0.42
        arrow(axes, (x, 0.45), (x, 1.9), ORANGE, linewidth=0.8)
        cell(axes, 0.85 + column * 0.42, 1.92, "", ORANGE, width=0.42, height=0.26)
    write(axes, 4.35, 1.35, "terms of gamma and beta: a thread has", size=8.5, color=ORANGE)
    write(axes, 4.35, 1.53, "these columns in all rows, and adds", size=8.5, color=ORANGE)
    write(axes, 4.35, 1.71, "in registers: no memory, no atomics", size=8.5, color=ORANGE)
    write(axes, 4.35, 2.05, "one row of sums a block; a second launch adds them up", size=8.5,
          color=SOFT)  # fmt: skip
    rows = []
    for label, name in (("forward, 64 rows of 1,024", "layernorm forward"),
                        ("backward, 64 rows of 1,024, both launches", "layernorm backward")):
        one = found[name]
        rows.append((label, one["global_load_sectors"], one["global_store_sectors"],
                     one.get("global_atomic_requests", 0), one["barriers"]))  # fmt: skip
    heads = ("counted, LayerNorm", "load sectors", "store sectors", "atomics", "barriers")
    table(axes, 0.25, 2.55, heads, rows, (3.1, 1.1, 1.1, 0.9, 0.9))
    write(axes, 0.25, 3.25, "x alone is 8,192 sectors. Each row also reads gamma and beta, which the "
          "L2 cache has.", size=8.5, color=SOFT)  # fmt: skip
    save(figure, "2_6_normalization")


def fused(found: Found) -> None:
    """2.7: bytes of each array, one operation a launch and fused."""
    figure, axes = canvas(8, 3.6)
    heading(axes, 0.25, 0.2, "Bias and GELU: bytes for each element")
    unfused = [("x in", BLUE), ("sum out", GREEN), ("sum in", BLUE), ("result out", GREEN)]
    for place, (name, colour) in enumerate(unfused):
        gap = 0.2 if place > 1 else 0
        cell(axes, 1.25 + place * 0.95 + gap, 0.4, name, colour, width=0.95, height=0.3, size=8.5)
    for place, (name, colour) in enumerate((unfused[0], unfused[3])):
        cell(axes, 1.25 + place * 0.95, 0.85, name, colour, width=0.95, height=0.3, size=8.5)
    for y, name, words in ((0.4, "two launches", "16 bytes"), (0.85, "fused", "8 bytes")):
        write(axes, 0.25, y + 0.15, name, size=8.5)
        write(axes, 5.4, y + 0.15, words, size=8.5, weight="bold")
    heading(axes, 0.25, 1.45, "AdamW: bytes for each parameter")
    arrays = ["parameter", "gradient", "moment 1", "moment 2", "parameter", "moment 1", "moment 2"]
    for place, name in enumerate(arrays):
        cell(axes, 1.25 + place * 0.75, 1.65, name, BLUE if place < 4 else GREEN, width=0.75,
             height=0.3, size=7.5)  # fmt: skip
    for place in range(20):
        cell(axes, 1.25 + place * 0.2625, 2.1, "", LINE, width=0.2625, height=0.3)
    write(axes, 0.25, 1.8, "fused", size=8.5)
    write(axes, 6.65, 1.8, "28 bytes", size=8.5, weight="bold")
    write(axes, 0.25, 2.25, "ten launches", size=8.5)
    write(axes, 6.65, 2.25, "about 80 bytes", size=8.5, weight="bold")
    rows = []
    for label, name in (("bias and GELU in two launches, 64 × 256", "bias_gelu unfused"),
                        ("fused", "bias_gelu fused"), ("AdamW, 4,096 parameters", "adamw")):
        one = found[name]
        rows.append((label, one["global_load_sectors"], one["global_store_sectors"]))
    table(axes, 0.25, 2.68, ("counted", "load sectors", "store sectors"), rows[:3], (3.4, 1.2, 1.2))
    save(figure, "2_7_fused")


def embedding(found: Found) -> None:
    """2.8: which positions of a chunk are added up before one atomic."""
    figure, axes = canvas(8, 3.3)
    heading(axes, 0.25, 0.2, "A chunk of positions (8 here, 32 in the kernel)")
    ids = [5, 2, 5, 5, -1, 9, 5, 2]
    colours = {5: ORANGE, 2: BLUE, 9: GREEN, -1: LINE}
    write(axes, 0.25, 0.55, "ids", size=8.5, color=SOFT)
    value_row(axes, 1.05, 0.42, ids, [colours[i] for i in ids], 0.42)
    write(axes, 0.25, 0.97, "group", size=8.5, color=SOFT)
    for place, identity in enumerate(ids):
        leads = identity >= 0 and ids.index(identity) == place
        cell(axes, 1.05 + place * 0.42, 0.84, "leads" if leads else "", colours[identity], width=0.42,
             height=0.26, size=7.5, filled=leads)  # fmt: skip
    write(axes, 4.6, 0.55, "__match_any_sync gives each lane the", size=8.5, color=SOFT)
    write(axes, 4.6, 0.73, "mask of the lanes with its id; the first", size=8.5, color=SOFT)
    write(axes, 4.6, 0.91, "of each group leads; −1 is no row", size=8.5, color=SOFT)
    sums = (("1 + 3 + 4 + 7, in a register", ORANGE, 5), ("2 + 8", BLUE, 2), ("6", GREEN, 9))
    for place, (words, colour, row) in enumerate(sums):
        y = 1.4 + place * 0.34
        cell(axes, 1.05, y, words, colour, width=2.0, height=0.26, size=8.5)
        arrow(axes, (3.08, y + 0.13), (3.7, y + 0.13), colour)
        cell(axes, 3.72, y, f"grad[{row}]", colour, width=0.85, height=0.26, size=8.5, family=MONO)
    write(axes, 3.05, 1.27, "one atomicAdd a group", size=8.5, color=SOFT)
    write(axes, 4.75, 1.55, "3 additions to memory where an atomic", size=8.5, color=SOFT)
    write(axes, 4.75, 1.73, "for each position makes 7, four of them", size=8.5, color=SOFT)
    write(axes, 4.75, 1.91, "to one row, one after the other", size=8.5, color=SOFT)
    rows = [
        (label, found[name]["global_load_sectors"], found[name]["global_atomic_requests"])
        for label, name in (("an atomic for each position", "embedding atomic"),
                            ("grouped", "embedding grouped"))
    ]  # fmt: skip
    heads = ("128 positions of two ids, rows of 64", "load sectors", "atomic requests")
    table(axes, 0.25, 2.65, heads, rows, (3.4, 1.2, 1.3))
    save(figure, "2_8_embedding")


def cross_entropy(found: Found) -> None:
    """2.9: two walks over a row of logits, and how partial results meet."""
    figure, axes = canvas(8, 3.25)
    heading(axes, 0.25, 0.2, "One row of logits")
    for y, words, colour, back, writes in (
        (0.4, "first walk: each thread keeps (max, sum) of what it saw", BLUE, False, False),
        (1.12, "second walk, from the end: logit → gradient, in place", GREEN, True, True),
    ):
        _walk(axes, 0.25, y, words, colour, width=3.6, back=back, writes=writes)
    write(axes, 0.25, 1.85, "what the first walk read last is still in the L2 cache", size=8.5, color=SOFT)
    heading(axes, 4.5, 0.2, "(max, sum) of two parts, together")
    for y, one, other, both in (
        (0.42, "(2, 1)", "(1, 1.368)", "(2, 1 + 1.368 · e⁻¹) = (2, 1.503)"),
        (1.12, "(m, s)", "(n, t), n > m", "(n, s · exp(m − n) + t)"),
    ):
        cell(axes, 4.5, y, one, BLUE, width=0.9, height=0.26, size=8.5)
        cell(axes, 5.6, y, other, ORANGE, width=1.25, height=0.26, size=8.5)
        cell(axes, 4.5, y + 0.36, both, PURPLE, width=2.9, height=0.26, size=8.5)
    write(axes, 4.5, 1.85, "lanes by shuffles, warps after one barrier", size=8.5, color=SOFT)
    rows = [
        (label, found[name]["global_load_sectors"], found[name]["global_store_sectors"],
         found[name].get("barriers", 0))
        for label, name in (("1 naive: a thread a row, three reads", "cross_entropy naive"),
                            ("2 fused: a block a row, two reads", "cross_entropy fused"))
    ]  # fmt: skip
    heads = ("4 rows of 2,048 classes (1,024 sectors)", "load sectors", "store sectors", "barriers")
    table(axes, 0.25, 2.4, heads, rows, (3.4, 1.2, 1.2, 1.0))
    save(figure, "2_9_cross_entropy")


def attention(found: Found) -> None:
    """2.10: tiles of queries walk over the keys they see."""
    figure, axes = canvas(8, 3.55)
    heading(axes, 0.25, 0.2, "256 tokens, tiles of 64")
    side, left, top = 0.53, 1.45, 0.62
    write(axes, left, 0.45, "tiles of keys and values", size=8.5, color=SOFT)
    for i in range(4):
        y = top + i * (side + 0.06)
        write(axes, 0.25, y + side / 2, f"queries {i * 64}–{i * 64 + 63}", size=8.5, color=SOFT)
        for j in range(4):
            x = left + j * (side + 0.06)
            if j > i:
                cell(axes, x, y, "skipped", LINE, width=side, height=side, size=7, filled=False,
                     color=SOFT)  # fmt: skip
                continue
            box(axes, x, y, side, side, PALE[BLUE], BLUE)
            if i == j:  # the upper right half is masked
                axes.fill([x, x + side, x + side], [y, y, y + side], color="#ffffff")
                axes.plot([x, x + side], [y, y + side], color=BLUE, linewidth=1)
                box(axes, x, y, side, side, "none", BLUE)
        arrow(axes, (left - 0.02, y + side / 2), (left + (i + 1) * (side + 0.06) - 0.12, y + side / 2),
              ORANGE, linewidth=0.9)  # fmt: skip
        write(axes, left + 4 * (side + 0.06) + 0.05, y + side / 2, f"{64 * (i + 1)} rows of k and v",
              size=8.5)  # fmt: skip
    write(axes, left, 3.2, "64 + 128 + 192 + 256 = 640 rows each, of 1,024 without the mask", size=8.5,
          color=SOFT)  # fmt: skip
    heading(axes, 5.35, 0.2, "What a block holds")
    parts = (("q, 64 rows", BLUE), ("a tile of k, then of v", ORANGE), ("scores, 64 × 64", PURPLE),
             ("max and sum of each row", GREEN), ("output, in registers", GREEN))  # fmt: skip
    for place, (words, colour) in enumerate(parts):
        cell(axes, 5.35, 0.42 + place * 0.32, words, colour, width=2.3, height=0.26, size=8.5)
    heads = ("one head of 32", "loads", "stores")
    rows = [
        (name, found[f"attention {name}"]["global_load_sectors"],
         found[f"attention {name}"]["global_store_sectors"])
        for name in ("naive", "flash")
    ]  # fmt: skip
    table(axes, 5.35, 2.35, heads, rows, (0.9, 0.75, 0.65))
    write(axes, 5.35, 3.05, "in sectors; naive stores its scores", size=8.5, color=SOFT)
    save(figure, "2_10_attention")


def quantized(found: Found) -> None:
    """2.11: where the columns of a row lie in words, and what a lane multiplies."""
    figure, axes = canvas(8, 3.75)
    heading(axes, 0.25, 0.2, "int8: a word of a lane is four columns")
    lanes = (BLUE, ORANGE, GREEN, PURPLE)
    for lane in range(4):
        for byte in range(4):
            cell(axes, 0.25 + (lane * 4 + byte) * 0.3, 0.4, str(lane * 4 + byte), lanes[lane],
                 width=0.3, height=0.26, size=8)  # fmt: skip
    write(axes, 5.2, 0.53, "columns 0–15; a lane a colour", size=8.5, color=SOFT)
    heading(axes, 0.25, 1.0, "int4: byte j holds column j below, column j + 32 above")
    for lane in range(4):
        for byte in range(4):
            j = lane * 4 + byte
            x = 0.25 + j * 0.3
            cell(axes, x, 1.2, str(j + 32), lanes[lane], width=0.3, height=0.24, size=8)
            cell(axes, x, 1.44, str(j), lanes[lane], width=0.3, height=0.24, size=8)
    write(axes, 5.2, 1.32, "upper four bits", size=8.5, color=SOFT)
    write(axes, 5.2, 1.56, "lower four bits", size=8.5, color=SOFT)
    write(axes, 0.25, 1.98, "x", family=MONO)
    for half, start in enumerate((0, 32)):
        for place in range(16):
            cell(axes, 0.5 + half * 3.75 + place * 0.215, 1.85, str(start + place), lanes[place // 4],
                 width=0.215, height=0.26, size=6.5)  # fmt: skip
        write(axes, 0.5 + half * 3.75, 2.25, f"one float4 a lane: columns {start} on, neighbours",
              size=8.5, color=SOFT)  # fmt: skip
    heads = ("16 rows of 1,024 weights", "load requests", "load sectors", "of weights")
    rows = []
    for bits in (8, 4):
        one = found[f"gemv int{bits}"]
        rows.append((f"int{bits}", one["global_load_requests"], one["global_load_sectors"],
                     16 * 1024 * bits // 8 // 32))  # fmt: skip
    table(axes, 0.25, 2.65, heads, rows, (2.4, 1.2, 1.2, 1.0))
    write(axes, 0.25, 3.42, "Most sectors are of x, 4 kB that all warps of an SM find in its L1 cache; "
          "the weights come from DRAM, once.", size=8.5, color=SOFT)  # fmt: skip
    save(figure, "2_11_quantized")


def block(found: Found) -> None:
    """2.12: twelve launches, and what each reads and writes."""
    names = ("norm", "x · w_qkv", "split heads", "attention", "join heads", "· w_out", "+ x", "norm",
             "· w_up", "bias, GELU", "· w_down", "+ h, bias")  # fmt: skip
    figure, axes = canvas(8, 3.9)
    heading(axes, 0.25, 0.2, "64 tokens of 64, 2 heads, 256 hidden units: sectors of each launch")
    scale = 4.3 / max(one["read"] + one["written"] for one in found["launches"])
    for place, (name, one) in enumerate(zip(names, found["launches"], strict=True)):
        y = 0.42 + place * 0.25
        write(axes, 0.25, y + 0.1, f"{place + 1}", size=8.5, color=SOFT)
        write(axes, 0.55, y + 0.1, name, size=8.5)
        cell(axes, 1.7, y, "", BLUE, width=one["read"] * scale, height=0.19)
        cell(axes, 1.7 + one["read"] * scale, y, "", GREEN, width=one["written"] * scale, height=0.19)
        write(axes, 1.78 + (one["read"] + one["written"]) * scale, y + 0.1,
              f"{one['read']:,} + {one['written']:,}", size=8.5, color=SOFT)  # fmt: skip
    total = found["total"]
    cell(axes, 1.7, 3.5, "read", BLUE, width=0.55, height=0.22, size=8.5)
    cell(axes, 2.3, 3.5, "written", GREEN, width=0.7, height=0.22, size=8.5)
    read, written = total["global_load_sectors"], total["global_store_sectors"]
    write(axes, 3.15, 3.62, f"{read:,} + {written:,} sectors in {total['launches']} launches; weights, "
          "x and output are 7,168", size=8.5)  # fmt: skip
    save(figure, "2_12_block")
