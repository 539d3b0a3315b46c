"""Figures of the head and of tasks 2.1 to 2.4: lanes, sectors, banks, tiles."""

from __future__ import annotations

from typing import Any

import matplotlib
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
    heading,
    save,
    write,
)
from matplotlib.axes import Axes
from pieces import bank_map, box, lanes, line_of, sectors, table, value_row

Found = dict[str, Any]


def counts(measured: Found) -> None:
    """The head: how to read sectors, passes and idle lanes."""
    transpose = measured["transpose"]
    figure, axes = canvas(8, 3.5)
    heading(axes, 0.25, 0.2, "Global memory: sectors of 32 bytes")
    write(axes, 0.25, 0.48, "one load, a lane a float: the 32 lanes of a warp", color=SOFT, size=8.5)
    lanes(axes, 0.25, 0.6, width=0.12, numbers=False)
    good, bad = line_of(transpose["naive"], "global_load"), line_of(transpose["naive"], "global_store")
    sectors(axes, 0.25, 1.02, good, width=0.44, gap=0.03, each_row=8)
    write(axes, 2.3, 1.12, "neighbours: 4 sectors", color=GREEN, size=8.5)
    write(axes, 2.3, 1.28, "all 128 bytes are used", color=SOFT, size=8)
    sectors(axes, 0.25, 1.6, bad, width=0.44, gap=0.03, each_row=8)
    write(axes, 0.25, 2.82, "256 bytes apart: 32 sectors, 1,024 bytes moved for 128", color=RED,
          size=8.5)  # fmt: skip
    write(axes, 0.25, 3.05, "the report: 32 a request where 4 would do", color=SOFT, size=8.5)
    heading(axes, 4.5, 0.2, "Shared memory: 32 banks")
    write(axes, 4.5, 0.48, "word i lies in bank i mod 32; words of one bank wait", color=SOFT,
          size=8.5)  # fmt: skip
    bank_map(axes, 4.5, 0.85, line_of(transpose["rows of 33"], "shared_load"))
    write(axes, 4.5, 1.16, "a column of rows of 33: one pass, degree 1", color=GREEN, size=8.5)
    bank_map(axes, 4.5, 2.95, line_of(transpose["rows of 32"], "shared_load"), height=0.045)
    write(axes, 4.75, 2.3, "a column of rows of 32:", color=RED, size=8.5)
    write(axes, 4.75, 2.48, "32 words in bank 0, 32 passes,", color=RED, size=8.5)
    write(axes, 4.75, 2.66, "degree 32", color=RED, size=8.5)
    save(figure, "0_counts")


def roofline(measured: Found, gpu: Any) -> None:
    """The head: the steps of the matrix product under the roofs of a GPU."""
    figure, axes = charts(1, height=3.0)
    peak = gpu.flops_per_second
    low, high = 0.1, 60.0
    for rate, name, style in (
        (gpu.dram_bytes_per_second, "DRAM", "-"), (gpu.l2_bytes_per_second, "L2 cache", "--"),
    ):  # fmt: skip
        axes.plot([low, peak / rate], [low * rate / 1e9, peak / 1e9], color=SOFT, linestyle=style,
                  linewidth=1.2, label=f"{name}, {rate / 1e12:.2f} TB/s")  # fmt: skip
    axes.plot([peak / gpu.l2_bytes_per_second, high], [peak / 1e9] * 2, color=SOFT, linewidth=1.2)
    axes.annotate(f"fp32, {peak / 1e12:.1f} TFLOP/s", (high, peak / 1e9), (0, 4), ha="right",
                  textcoords="offset points", size=8.5, color=SOFT)  # fmt: skip
    for name, colour in (("naive", RED), ("tiled", ORANGE), ("register", BLUE)):
        found = measured["matmul"][f"{name} wide"]
        moved = 32 * (found["global_load_sectors"] + found["global_store_sectors"])
        x, y = found["flops"] / moved, found["flops"] / found["seconds"] / 1e9
        axes.plot([x], [y], "o", color=colour, markersize=8)
        axes.annotate(f"{name}: {x:.1f} FLOP a byte", (x, y), (9, -11), textcoords="offset points",
                      size=9, color=colour)  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="FLOP for each byte that the warps ask for",
             ylabel=f"GFLOP/s, modelled, {gpu.name}", xlim=(low, high), ylim=(150, 40000))  # fmt: skip
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda v, _: f"{v:,g}"))
    axes.legend(loc="lower right")
    save(figure, "0_roofline", sheet=False)


def element_wise(found: Found) -> None:
    """2.1: four layouts, and the sectors of one request of each."""
    figure, axes = canvas(8, 3.0)
    write(axes, 2.0, 0.2, "the 32 lanes of a warp", color=SOFT, size=8.5)
    lanes(axes, 2.0, 0.32, width=0.178)
    layouts = (
        ("a row for all", "neighbouring floats", "x[i]"),
        ("contiguous", "neighbouring float4s", "x4[i]"),
        ("every second", "every second float", "x[2 · i]"),
        ("transposed", "a float of each row", "x[128 · i]"),
    )
    for place, (name, words, code) in enumerate(layouts):
        y = 0.85 + place * 0.53
        line = line_of(found[name], "global_load")
        write(axes, 0.25, y + 0.02, words, weight="bold")
        write(axes, 0.25, y + 0.2, code, family=MONO, size=8.5, color=SOFT)
        count = sectors(axes, 2.0, y, line, width=0.158, gap=0.02)
        asked = 32 * line["sample_size"]
        words = f"{count} sectors: {asked} bytes of {32 * count} used"
        write(axes, 2.0, y + 0.31, words, size=8.5, color=GREEN if asked == 32 * count else RED)
    save(figure, "2_1_elementwise")


def _step(axes: Axes, x: float, y: float, values: list[object], busy: list[int]) -> None:
    """Eight numbers; those of busy threads in the colour of their warp."""
    colours = [(BLUE, ORANGE)[place // 4] if place in busy else LINE for place in range(8)]
    value_row(axes, x, y, values, colours, 0.28)


def reduction(found: Found) -> None:
    """2.2: who adds to whom, for 8 threads in warps of 4, and counts of a row of 1,024."""
    figure, axes = canvas(8, 3.75)
    start: list[object] = [3, 1, 7, 0, 4, 1, 6, 3]
    # (title, steps of (values, busy places, pairs (from, to)))
    orders: list[tuple[str, list[tuple[list[object], list[int], list[tuple[int, int]]]]]] = [
        ("1 interleaved", [
            ([4, "", 7, "", 5, "", 9, ""], [0, 2, 4, 6], [(1, 0), (3, 2), (5, 4), (7, 6)]),
            ([11, "", "", "", 14, "", "", ""], [0, 4], [(2, 0), (6, 4)]),
            ([25, "", "", "", "", "", "", ""], [0], [(4, 0)]),
        ]),
        ("2 tree", [
            ([7, 2, 13, 3, "", "", "", ""], [0, 1, 2, 3], [(4, 0), (5, 1), (6, 2), (7, 3)]),
            ([20, 5, "", "", "", "", "", ""], [0, 1], [(2, 0), (3, 1)]),
            ([25, "", "", "", "", "", "", ""], [0], [(1, 0)]),
        ]),
        ("3 shuffle", [
            ([10, 1, "", "", 10, 4, "", ""], [0, 1, 4, 5], [(2, 0), (3, 1), (6, 4), (7, 5)]),
            ([11, "", "", "", 14, "", "", ""], [0, 4], [(1, 0), (5, 4)]),
            ([25, "", "", "", "", "", "", ""], [0], [(4, 0)]),
        ]),
    ]  # fmt: skip
    for place, (title, steps) in enumerate(orders):
        x = 0.25 + place * 2.6
        heading(axes, x, 0.2, title)
        _step(axes, x, 0.38, start, list(range(8)))
        for depth, (values, busy, pairs) in enumerate(steps):
            y = 0.38 + (depth + 1) * 0.52
            for source, target in pairs:
                arrow(axes, (x + (source + 0.5) * 0.28, y - 0.26), (x + (target + 0.5) * 0.28, y),
                      SOFT, mutation_scale=6, linewidth=0.7)  # fmt: skip
            _step(axes, x, y, values, busy)
        notes = ("both warps stay half busy", "the second warp is free at once",
                 "in registers; one barrier, before 25")  # fmt: skip
        write(axes, x, 2.4, notes[place], color=SOFT, size=8.5)
    heads = ("a row of 1,024 floats, 256 threads", "requests to shared", "barriers", "shuffles",
             "with idle lanes")  # fmt: skip
    rows = []
    for name in ("interleaved", "tree", "shuffle"):
        one = found[name]
        shared = one["shared_load_requests"] + one["shared_store_requests"]
        rows.append((name, shared, one["barriers"], one.get("shuffles", 0), one["partial_requests"]))
    table(axes, 0.25, 2.75, heads, rows, (2.6, 1.3, 1.0, 1.0, 1.2))
    save(figure, "2_2_reduction")


def transpose(found: Found) -> None:
    """2.3: naive and tiled, by sectors; the tile's column on the banks."""
    figure, axes = canvas(8, 4.1)
    for place, (title, name) in enumerate((("Naive", "naive"), ("Tiled", "rows of 33"))):
        x = 0.25 + place * 3.95
        heading(axes, x, 0.2, title)
        lanes(axes, x, 0.36, width=0.112, numbers=False)
        for y, access, words in ((0.68, "global_load", "reads"), (1.05, "global_store", "writes")):
            count = sectors(axes, x + 0.55, y, line_of(found[name], access), width=0.35, gap=0.02,
                            height=0.15, each_row=8)  # fmt: skip
            write(axes, x, y + 0.08, words, size=8.5)
            if count == 4:
                write(axes, x + 2.15, y + 0.08, "4 sectors", size=8.5, color=GREEN)
            else:
                write(axes, x + 0.55, y + 0.96, f"{count} sectors for 128 bytes", size=8.5, color=RED)
    write(axes, 4.2, 1.45, "between them the tile turns in shared memory:", size=8.5, color=SOFT)
    for x, name, colour in ((4.2, "rows of 32", RED), (4.2, "rows of 33", GREEN)):
        line = line_of(found[name], "shared_load")
        y = 2.75 if colour is RED else 3.55
        top = bank_map(axes, x, y, line, height=0.035 if colour is RED else 0.09)
        words = f"a column, {name}: degree {top}"
        write(axes, x + (0.2 if colour is RED else 0), y - (0.9 if colour is RED else 0.19), words,
              size=8.5, color=colour)  # fmt: skip
    heads = ("64 × 96 floats", "load sectors", "store sectors", "degree")
    rows = [
        (name, one["global_load_sectors"], one["global_store_sectors"],
         f"{one['worst_bank_degree']:.0f}" if one["worst_bank_degree"] else "–")
        for name, one in found.items()
    ]  # fmt: skip
    table(axes, 0.25, 2.75, heads, rows, (1.2, 0.95, 0.95, 0.6))
    save(figure, "2_3_transpose")


def _product(axes: Axes, x: float, y: float, tile: float, side: float, colour: str) -> None:
    """C with one tile, and the rows of A and columns of B that it needs."""
    gap, at = 0.12, side * 0.5
    for left, top in ((x, y), (x - side - gap, y), (x, y - side - gap)):
        box(axes, left, top, side, side, "#ffffff", LINE)
    box(axes, x + at, y + at, tile, tile, colour)
    box(axes, x - side - gap, y + at, side, tile, PALE[colour], colour)
    box(axes, x + at, y - side - gap, tile, side, PALE[colour], colour)
    for name, left, top in (("C", x, y), ("A", x - side - gap, y), ("B", x, y - side - gap)):
        write(axes, left + 0.05, top + 0.1, name, size=8.5, color=SOFT)


def matmul(found: Found) -> None:
    """2.4: what makes one tile of C, and the ladder's counts."""
    figure, axes = canvas(8, 4.35)
    side = 0.85
    panels = (
        ("1 naive", 0.035, RED, "a thread, one element:", "a row and a column for it alone"),
        ("2 tiled", 0.21, ORANGE, "a block, 32 × 32 elements:", "each value loaded serves 32"),
        ("3 register", 0.42, BLUE, "a block, 64 × 64 elements:", "each serves 64; a thread has 4 × 4"),
    )
    for place, (title, tile, colour, first, second) in enumerate(panels):
        x = 1.3 + place * 2.6
        heading(axes, x - side - 0.12, 0.2, title)
        _product(axes, x, 1.4, tile, side, colour)
        write(axes, x - side - 0.12, 2.44, first, size=8.5)
        write(axes, x - side - 0.12, 2.62, second, size=8.5, color=SOFT)
    x, y = 1.3 + 2 * 2.6 - side - 0.05, 0.42
    for row in range(4):
        for column in range(4):
            cell(axes, x + 0.16 + column * 0.13, y + 0.16 + row * 0.13, "", BLUE, width=0.13,
                 height=0.13)  # fmt: skip
        cell(axes, x, y + 0.16 + row * 0.13, "", PURPLE, width=0.13, height=0.13)
        cell(axes, x + 0.16 + row * 0.13, y, "", PURPLE, width=0.13, height=0.13)
    heads = ("128 × 128 × 128", "load requests", "load sectors", "shared bytes read", "barriers")
    rows = []
    for name in ("naive", "tiled", "register"):
        one = found[f"{name} 128"]
        rows.append((name, one["global_load_requests"], one["global_load_sectors"],
                     one.get("shared_load_bytes", "–"), one.get("barriers", 0)))  # fmt: skip
    table(axes, 0.25, 3.0, heads, rows, (1.5, 1.4, 1.4, 1.6, 1.2))
    write(axes, 0.25, 4.1, "A thread reads 4 numbers of A's tile and 4 of B's, and makes 16 "
          "multiply-adds of them: a quarter of the shared reads.", size=8.5, color=SOFT)  # fmt: skip
    save(figure, "2_4_matmul")
