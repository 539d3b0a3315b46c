"""Figures of arrays in memory and of the gradients of operations: tasks 1.1 to 1.3, 1.5 to 1.9."""

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
    RED,
    SOFT,
    arrow,
    canvas,
    cell,
    charts,
    grid,
    heading,
    row,
    save,
    write,
)

ROWS = (BLUE, ORANGE, GREEN)


def strides() -> None:
    """1.1: four layouts over one memory strip."""
    figure, axes = canvas(8, 3.15)
    heading(axes, 0.25, 0.2, "One buffer of 12 elements")
    row(axes, 0.25, 0.42, range(12), [ROWS[i // 4] for i in range(12)], width=0.4)
    write(axes, 5.2, 0.57, "the number is the place in the buffer", color=SOFT)
    places: list[tuple[float, str, tuple[str, str], list[list[int]]]] = [
        (0.25, "x", ("shape (3, 4)", "strides (4, 1), offset 0"),
         [[i * 4 + j for j in range(4)] for i in range(3)]),
        (2.35, "permute(x, (1, 0))", ("shape (4, 3)", "strides (1, 4), offset 0"),
         [[i + j * 4 for j in range(3)] for i in range(4)]),
        (4.3, "x[1:, ::-2]", ("shape (2, 2)", "strides (4, −2), offset 7"),
         [[7 + i * 4 - j * 2 for j in range(2)] for i in range(2)]),
        (6.25, "x[:1] broadcast", ("shape (3, 4)", "strides (0, 1), offset 0"),
         [[j for j in range(4)] for i in range(3)]),
    ]  # fmt: skip
    for x, name, facts, values in places:
        write(axes, x, 1.1, name, family=MONO, weight="bold")
        write(axes, x, 1.33, facts[0], color=SOFT, size=8.5)
        write(axes, x, 1.52, facts[1], color=SOFT, size=8.5)
        grid(axes, x, 1.72, values, [[ROWS[v // 4] for v in line] for line in values])
    save(figure, "1_1_strides")


def kernels() -> None:
    """1.2: blocks shared by threads; a strided walk gathered first."""
    figure, axes = canvas(8, 3.05)
    heading(axes, 0.25, 0.2, "Contiguous: blocks of the array itself")
    owners = [BLUE, ORANGE, BLUE, ORANGE, BLUE]
    for place, colour in enumerate(owners):
        width = 1.2 if place < 4 else 0.6
        cell(axes, 0.25 + place * 1.2, 0.4, f"block {place}", colour, width=width, height=0.34)
    write(axes, 5.8, 0.57, "the last one is shorter", color=SOFT)
    write(axes, 0.25, 0.95, "thread 0", color=BLUE)
    write(axes, 1.0, 0.95, "thread 1", color=ORANGE)
    write(axes, 1.8, 0.95, "each block: read 8,192 elements in a row, compute, write", color=SOFT)
    heading(axes, 0.25, 1.42, "Strided: the elements of a block are gathered first")
    mine = {1: 0, 4: 1, 7: 2, 10: 3}
    for i in range(12):
        cell(axes, 0.25 + i * 0.4, 1.64, str(i), BLUE if i in mine else LINE, width=0.4)
    write(axes, 5.2, 1.79, "buffer; row 1 has offset 1, stride 3", color=SOFT)
    for i, j in mine.items():
        arrow(axes, (0.45 + i * 0.4, 1.95), (1.25 + j * 0.4, 2.38), BLUE)
    row(axes, 1.05, 2.4, [1, 4, 7, 10], BLUE, width=0.4)
    write(axes, 2.85, 2.55, "a small array of the thread's own, then as above", color=SOFT)
    write(axes, 0.25, 2.9, "position_of divides once a row; within the row one addition leads on.",
          color=SOFT)  # fmt: skip
    save(figure, "1_2_kernels")


def ladder(rates: dict[str, dict[str, float]]) -> None:
    """1.3: GFLOP/s of each rung at three sizes."""
    figure, axes = charts(1, height=2.7)
    labels = {"512": "512 × 512 × 512", "1024": "1024 × 1024 × 1024",
              "wide": "64 × 1024 × 4096\n(B of 16 MB)"}  # fmt: skip
    kinds = [("ikj", "given ikj kernel", LINE), ("blocked", "cache blocks", ORANGE),
             ("register", "register blocks", BLUE), ("BLAS", "numpy's BLAS", GREEN)]  # fmt: skip
    for place, (kind, name, colour) in enumerate(kinds):
        at = [size + (place - 1.5) * 0.2 for size in range(len(labels))]
        values = [rates[kind][size] for size in labels]
        bars = axes.bar(at, values, 0.18, label=name, color=PALE[colour], edgecolor=colour)
        axes.bar_label(bars, [f"{value:.0f}" for value in values], padding=1, size=8.5)
    axes.set_xticks(range(len(labels)), list(labels.values()))
    axes.set(ylabel="GFLOP/s, one thread", ylim=(0, 125))
    axes.legend(ncols=4, loc="upper center", handlelength=1.2)
    save(figure, "1_3_ladder", sheet=False)


def packing() -> None:
    """1.3: how panels of A and blocks of B are packed, and what the micro-kernel holds."""
    figure, axes = canvas(8, 3.0)
    heading(axes, 0.25, 0.2, "A, packed in panels")
    for panel, colour in enumerate((BLUE, ORANGE)):
        for r in range(3):
            for c in range(8):
                place = panel * 24 + c // 4 * 12 + r * 4 + c % 4
                shown = str(place) if place < 24 or place in (24, 36) else ""
                cell(axes, 0.25 + c * 0.27, 0.4 + panel * 0.95 + r * 0.27, shown, colour,
                     width=0.27, height=0.27, size=8)  # fmt: skip
    for place, text in enumerate(["3 × 4 blocks; the numbers are", "places in the packed array,"
                                  " read", "in exactly this order"]):  # fmt: skip
        write(axes, 0.25, 2.4 + place * 0.18, text, color=SOFT, size=8.5)
    write(axes, 2.62, 0.8, "×", size=13)
    heading(axes, 3.0, 0.2, "B, one packed block")
    for r in range(8):
        cell(axes, 3.0, 0.4 + r * 0.24, "", GREEN if r < 4 else LINE, width=1.9, height=0.24)
    write(axes, 3.95, 0.525, "4 rows at a time", size=8.5, ha="center")
    write(axes, 3.0, 2.5, "256 rows of 512 columns:", color=SOFT, size=8.5)
    write(axes, 3.0, 2.68, "half a megabyte, stays", color=SOFT, size=8.5)
    write(axes, 3.0, 2.86, "in the second-level cache", color=SOFT, size=8.5)
    write(axes, 5.08, 0.8, "=", size=13)
    heading(axes, 5.45, 0.2, "3 rows of sums")
    for r in range(3):
        cell(axes, 5.45, 0.4 + r * 0.27, "", PURPLE, width=2.2, height=0.27)
        cell(axes, 5.45, 0.4 + r * 0.27, "" if r else "8–16 j at once", PURPLE, width=1.05,
             height=0.27, size=8)  # fmt: skip
    arrow(axes, (6.55, 0.535), (7.55, 0.535), PURPLE)
    lines = ["For one step along j:", "12 elements of A in registers (all along)",
             "4 loads of B, 3 of sums, 3 stores", "12 multiply-adds"]  # fmt: skip
    for place, text in enumerate(lines):
        write(axes, 5.45, 1.5 + place * 0.2, text, color=SOFT, size=8.5)
    write(axes, 5.45, 2.4, "ikj: 2 loads, 1 store,", color=SOFT, size=8.5)
    write(axes, 5.45, 2.58, "1 multiply-add", color=SOFT, size=8.5)
    save(figure, "1_3_packing")


def unbroadcast() -> None:
    """1.5: a stretched element collects the gradient of all its copies."""
    figure, axes = canvas(8, 2.6)
    heading(axes, 0.25, 0.2, "Forward: a (2, 1) times b (3,)")
    grid(axes, 0.25, 0.85, [[1], [2]], [[BLUE], [ORANGE]], width=0.42)
    write(axes, 0.25, 1.62, "a", family=MONO)
    row(axes, 1.05, 0.45, [10, 20, 30], GREEN, width=0.42)
    write(axes, 2.4, 0.6, "b", family=MONO)
    grid(axes, 1.05, 0.85, [[10, 20, 30], [20, 40, 60]], [[BLUE] * 3, [ORANGE] * 3], width=0.42)
    arrow(axes, (0.7, 1.0), (1.02, 1.0), BLUE)
    arrow(axes, (0.7, 1.3), (1.02, 1.3), ORANGE)
    write(axes, 1.05, 1.62, "a is read in every column, b in every row", color=SOFT,
          size=8.5)  # fmt: skip
    heading(axes, 4.3, 0.2, "Backward: upstream G (2, 3)")
    grid(axes, 4.3, 0.85, [[1, 0, 2], [0, 1, 1]], width=0.42)
    write(axes, 4.3, 0.65, "G", family=MONO)
    grid(axes, 6.5, 0.85, [[70], [50]], [[BLUE], [ORANGE]], width=0.5)
    arrow(axes, (5.62, 1.0), (6.45, 1.0), BLUE)
    arrow(axes, (5.62, 1.3), (6.45, 1.3), ORANGE)
    write(axes, 6.5, 0.65, "da: G·b over axis 1", size=8.5)
    row(axes, 4.3, 1.85, [1, 2, 4], GREEN, width=0.42)
    for place in range(3):
        arrow(axes, (4.51 + place * 0.42, 1.48), (4.51 + place * 0.42, 1.82), GREEN)
    write(axes, 5.7, 2.0, "db: G·a over axis 0", size=8.5)
    write(axes, 0.25, 2.35, "70 = 1·10 + 0·20 + 2·30          4 = 2·1 + 1·2", color=SOFT, size=8.5)
    save(figure, "1_5_unbroadcast")


def softmax() -> None:
    """1.6: the shift by the maximum; ties share a gradient."""
    figure, axes = canvas(8, 2.75)
    heading(axes, 0.25, 0.2, "Softmax of large numbers")
    lines: list[tuple[str, list[Any], str]] = [
        ("x", [1000, 1001, 1002], LINE), ("exp(x)", ["inf", "inf", "inf"], RED),
        ("x − max", [-2, -1, 0], LINE), ("exp(x − max)", [0.135, 0.368, 1], GREEN),
        ("divided by 1.503", ["0.090", 0.245, 0.665], GREEN),
    ]  # fmt: skip
    for place, (name, values, colour) in enumerate(lines):
        y = 0.42 + place * 0.4
        write(axes, 0.25, y + 0.15, name)
        row(axes, 1.75, y, values, colour, width=0.7)
    write(axes, 3.95, 0.97, "inf / inf is nan", color=RED)
    write(axes, 0.25, 2.55, "The shift cancels: exp(x − m) / Σ exp(x − m) = exp(x) / Σ exp(x).",
          color=SOFT, size=8.5)  # fmt: skip
    heading(axes, 5.4, 0.2, "The maximum shares among ties")
    row(axes, 5.4, 0.42, [3, 1, 3], [BLUE, LINE, BLUE], width=0.5)
    write(axes, 7.0, 0.57, "max 3")
    row(axes, 5.4, 0.8, ["½", 0, "½"], [BLUE, LINE, BLUE], width=0.5)
    write(axes, 7.0, 0.95, "gradient", color=SOFT)
    write(axes, 5.4, 1.4, "over both axes together:", color=SOFT, size=8.5)
    winners = [[LINE, BLUE, LINE], [BLUE, LINE, BLUE]]
    grid(axes, 5.4, 1.55, [[2, 5, 1], [5, 0, 5]], winners, width=0.38)
    grid(axes, 6.7, 1.55, [[0, "⅓", 0], ["⅓", 0, "⅓"]], winners, width=0.38)
    save(figure, "1_6_softmax")


def matmul() -> None:
    """1.7: shapes of the two gradients, and one tall product for a layer."""
    figure, axes = canvas(8, 3.75)
    m, k, n = 0.6, 0.42, 0.95
    shapes = {"C": (n, m, GREEN), "G": (n, m, GREEN), "A": (k, m, BLUE), "dA": (k, m, BLUE),
              "Aᵀ": (m, k, BLUE), "B": (n, k, ORANGE), "dB": (n, k, ORANGE),
              "Bᵀ": (k, n, ORANGE)}  # fmt: skip
    sizes = {"C": "m × n", "G": "m × n", "A": "m × k", "dA": "m × k", "Aᵀ": "k × m",
             "B": "k × n", "dB": "k × n", "Bᵀ": "n × k"}  # fmt: skip
    for y, names in ((0.2, ("C", "A", "B")), (1.3, ("dA", "G", "Bᵀ")), (2.75, ("dB", "Aᵀ", "G"))):
        heading(axes, 0.25, y, f"{names[0]} = {names[1]} {names[2]}")
        x = 0.25
        for place, name in enumerate(names):
            width, height, colour = shapes[name]
            cell(axes, x, y + 0.16, name, colour, width=width, height=height)
            write(axes, x + width / 2, y + 0.28 + height, sizes[name], ha="center", size=8.5,
                  color=SOFT)  # fmt: skip
            if place < 2:
                write(axes, x + width + 0.22, y + 0.4, "=·"[place], ha="center", size=12)
            x += width + 0.44

    heading(axes, 4.5, 0.2, "A layer: (batch, time, k) times (k, n)")
    write(axes, 4.5, 0.5, "a product per batch, then a sum:", color=RED, size=8.5)
    for place in range(4):
        cell(axes, 4.5 + place * 0.75, 0.68, "k × n", RED, width=0.5, height=0.4, size=8)
        write(axes, 5.125 + place * 0.75, 0.88, "+" if place < 3 else "…", ha="center")
    write(axes, 4.5, 1.3, "batch · k · n numbers", color=SOFT, size=8.5)
    write(axes, 4.5, 1.75, "one product of two tall matrices:", color=GREEN, size=8.5)
    cell(axes, 4.5, 1.95, "k × n", GREEN, width=0.6, height=0.4, size=8)
    write(axes, 5.22, 2.15, "=", ha="center")
    cell(axes, 5.35, 1.95, "k × batch·time", LINE, width=1.2, height=0.4, size=8)
    cell(axes, 6.65, 1.95, "batch·time\n× n", LINE, width=0.8, height=1.1, size=8)
    write(axes, 4.5, 2.6, "the sum over the batch", color=SOFT, size=8.5)
    write(axes, 4.5, 2.78, "happens inside it: k · n numbers", color=SOFT, size=8.5)
    save(figure, "1_7_matmul")


def embedding() -> None:
    """1.8: only the touched rows have a gradient."""
    figure, axes = canvas(8, 2.75)
    heading(axes, 0.25, 0.2, "ids and upstream")
    for place, (number, colour) in enumerate([(5, ORANGE), (2, BLUE), (5, ORANGE)]):
        y = 0.42 + place * 0.34
        cell(axes, 0.25, y, str(number), colour)
        row(axes, 0.75, y, [[1, 2], [3, 4], [10, 20]][place], colour, width=0.45)
    heading(axes, 2.55, 0.2, "dense: the whole table")
    for number in range(8):
        colour = {2: BLUE, 5: ORANGE}.get(number, LINE)
        values = {2: [3, 4], 5: [11, 22]}.get(number, [0, 0])
        write(axes, 2.6, 0.54 + number * 0.26, str(number), color=SOFT, size=8.5)
        row(axes, 2.8, 0.42 + number * 0.26, values, colour, width=0.45, height=0.26)
    heading(axes, 4.95, 0.2, "row-sparse: rows and values")
    for place, (number, values, colour) in enumerate([(2, [3, 4], BLUE), (5, [11, 22], ORANGE)]):
        y = 0.42 + place * 0.34
        cell(axes, 4.95, y, str(number), colour)
        row(axes, 5.45, y, values, colour, width=0.45)
    write(axes, 6.5, 0.92, "1 + 10, 2 + 20", color=SOFT, size=8.5)
    write(axes, 4.95, 1.5, "the test: 32,768 × 1,024, two steps of 256 ids", color=SOFT, size=8.5)
    axes.barh([1.8, 2.15], [2.6, 2.6 * 2 / 128], 0.2, left=4.95, color=[PALE[LINE], ORANGE],
              edgecolor=[LINE, ORANGE])  # fmt: skip
    write(axes, 5.05, 1.81, "dense: 128 MB", size=8.5)
    write(axes, 5.15, 2.16, "values of 512 rows: 2 MB", size=8.5)
    axes.set(xlim=(0, 8), ylim=(2.75, 0))
    save(figure, "1_8_embedding")


def cross_entropy(buffers: dict[str, float]) -> None:
    """1.9: the life of the one buffer, and measured peaks."""
    figure, axes = canvas(8, 2.6)
    heading(axes, 0.25, 0.2, "Fused: one buffer, overwritten")
    steps = [("z", "given, never written", LINE), ("z − max", "", BLUE), ("exp", "", BLUE),
             ("softmax", "", PURPLE), ("gradient", "", PURPLE)]  # fmt: skip
    for place, (name, note, colour) in enumerate(steps):
        x = 0.25 + place * 1.5
        cell(axes, x, 0.42, name, colour, width=1.05, height=0.42)
        if place:
            arrow(axes, (x - 0.42, 0.63), (x - 0.03, 0.63))
        write(axes, x, 1.0, note, color=SOFT, size=8.5)
    write(axes, 1.75, 1.0, "forward: row sums and z[target] are read off", color=BLUE, size=8.5)
    write(axes, 4.75, 1.0, "backward: −1 at targets, times upstream", color=PURPLE, size=8.5)
    heading(axes, 0.25, 1.45, "Peak beside the logits, in arrays of their size (measured)")
    for place, (name, colour) in enumerate([("fused", GREEN), ("unfused", RED)]):
        y = 1.65 + place * 0.42
        write(axes, 0.25, y + 0.15, name)
        cell(axes, 1.15, y, "", colour, width=buffers[name] * 1.1, height=0.3)
        write(axes, 1.25 + buffers[name] * 1.1, y + 0.15, f"{buffers[name]:.2f}")
    write(axes, 2.95, 1.8, "the limit is 1.5", color=SOFT, size=8.5)
    save(figure, "1_9_cross_entropy")
