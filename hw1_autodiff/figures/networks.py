"""Figures of graphs, modules, optimizers, memory and training: tasks 1.4 and 1.10 to 1.13."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
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
    charts,
    heading,
    node,
    save,
    write,
)


def tasks() -> None:
    """Which task needs which."""
    figure, axes = canvas(8, 4.0)
    heading(axes, 0.2, 0.2, "An arrow means: needs. 1.13 needs all of them but 1.12.")
    at = {"1.4": (0.95, 1.5), "1.10": (4.9, 0.95), "1.12": (4.9, 1.75), "1.13": (7.1, 2.1)}
    names = {
        "1.4": "1.4 backward", "1.10": "1.10 modules", "1.12": "1.12 checkpointing",
        "1.13": "1.13 training",
    }  # fmt: skip
    middle = [("1.6", "1.6 reductions"), ("1.5", "1.5 elementwise"), ("1.7", "1.7 matmul"),
              ("1.8", "1.8 embedding"), ("1.9", "1.9 cross-entropy")]  # fmt: skip
    for place, (number, name) in enumerate(middle):
        at[number], names[number] = (2.9, 0.6 + place * 0.52), name
    bottom = [("1.1", "1.1 strides"), ("1.2", "1.2 kernels"), ("1.3", "1.3 matmul kernel"),
              ("1.11", "1.11 optimizers")]  # fmt: skip
    for place, (number, name) in enumerate(bottom):
        at[number], names[number] = (0.95 + place * 1.6, 3.45), name
    for number, _ in middle:
        arrow(axes, (1.65, 1.5), (2.15, at[number][1]), LINE)
    for first, last in (("1.6", "1.10"), ("1.5", "1.10"), ("1.7", "1.10"), ("1.5", "1.12"),
                        ("1.7", "1.12")):  # fmt: skip
        arrow(axes, (3.65, at[first][1]), (4.12, at[last][1]), LINE)
    arrow(axes, (5.68, 0.95), (6.85, 1.87), LINE)
    for number in ("1.8", "1.9"):
        arrow(axes, (3.65, at[number][1]), (6.36, 2.15), LINE)
    for number, _ in bottom:
        axes.plot([at[number][0]] * 2, [3.25, 3.08], color=LINE, linewidth=1.1)
    axes.plot([at["1.1"][0], 7.1], [3.08, 3.08], color=LINE, linewidth=1.1)
    arrow(axes, (7.1, 3.08), (7.1, 2.33), LINE)
    for number, (x, y) in at.items():
        colour = {"1.4": BLUE, "1.13": PURPLE}.get(number, GREEN if y > 3 else ORANGE)
        node(axes, x, y, names[number], colour, width=1.5, size=9)
    write(axes, 0.2, 3.85, "green: needs nothing, start with any of them", color=GREEN, size=8.5)
    save(figure, "tasks")


def backward() -> None:
    """1.4: two paths meet; order and gradients of (x·w + b)·(x·w)."""
    figure, axes = canvas(8, 3.0)
    heading(axes, 0.25, 0.2, "y = (x·w + b)·(x·w) at x = 2, w = 3, b = 1")
    boxes: list[tuple[str, str, float, float, str]] = [
        ("x = 2", "x.grad 39", 0.95, 1.0, GREEN), ("w = 3", "w.grad 26", 0.95, 2.0, GREEN),
        ("b = 1", "b.grad 6", 2.95, 0.75, GREEN), ("a = x·w = 6", "gradient 13", 2.95, 1.75, BLUE),
        ("s = a + b = 7", "gradient 6", 4.95, 1.0, BLUE),
        ("y = s·a = 42", "gradient 1", 6.95, 1.5, BLUE),
    ]  # fmt: skip
    edges: list[tuple[tuple[float, float], tuple[float, float], str, tuple[float, float]]] = [
        ((6.3, 1.42), (5.62, 1.12), "6", (5.95, 1.1)),
        ((6.3, 1.65), (3.62, 1.85), "7", (4.95, 1.62)),
        ((4.28, 0.95), (3.62, 0.8), "6", (3.95, 0.72)),
        ((4.28, 1.15), (3.62, 1.6), "6", (3.82, 1.25)),
        ((2.28, 1.65), (1.62, 1.1), "13·3", (1.98, 1.15)),
        ((2.28, 1.85), (1.62, 1.95), "13·2", (1.95, 2.1)),
    ]  # fmt: skip
    for start, end, text, (x, y) in edges:
        arrow(axes, start, end, ORANGE)
        write(axes, x, y, text, color=ORANGE, ha="center", weight="bold")
    order = {"y = s·a = 42": "1", "s = a + b = 7": "2", "a = x·w = 6": "3"}
    for name, gradient, x, y, colour in boxes:
        node(axes, x, y, f"{name}\n{gradient}", colour, width=1.35, height=0.55, size=9)
        if name in order:
            write(axes, x + 0.62, y - 0.36, f"visit {order[name]}", color=SOFT, size=8, ha="right")
    write(axes, 0.25, 2.5, "Two paths reach a: 7 directly and 6 through s. Only when both have "
          "arrived may a pass on 13.", size=9)  # fmt: skip
    write(axes, 0.25, 2.75, "So s must stand before a in the order; a walk by distance from y "
          "would take a too early, with 7.", color=SOFT, size=9)  # fmt: skip
    save(figure, "1_4_backward")


def modules() -> None:
    """1.10: a tree with a tied weight, and the names that come out."""
    figure, axes = canvas(8, 2.9)
    heading(axes, 0.25, 0.2, "Modules, and what they hold")
    node(axes, 2.6, 0.6, "Sequential", BLUE, width=1.3, height=0.4)
    for place, name in enumerate(("Linear", "GELU", "Linear")):
        x = 0.95 + place * 1.65
        arrow(axes, (2.6 + (x - 2.6) * 0.25, 0.82), (x, 1.1), SOFT)
        node(axes, x, 1.37, f"layers.{place}\n{name}", BLUE, width=1.2, height=0.5, size=9)
    for x, name, colour in ((0.6, "bias", GREEN), (2.6, "weight", ORANGE), (4.6, "bias", GREEN)):
        node(axes, x, 2.3, name, colour, width=0.95, height=0.4)
    arrow(axes, (0.8, 1.65), (0.6, 2.07), SOFT)
    arrow(axes, (4.4, 1.65), (4.6, 2.07), SOFT)
    arrow(axes, (1.2, 1.65), (2.3, 2.07), ORANGE)
    arrow(axes, (4.0, 1.65), (2.9, 2.07), ORANGE)
    write(axes, 2.6, 2.66, "one object, reached by two paths", color=ORANGE, size=8.5, ha="center")
    heading(axes, 5.6, 0.2, "named_parameters()")
    for place, (name, colour) in enumerate([("layers.0.weight", ORANGE), ("layers.0.bias", GREEN),
                                            ("layers.2.bias", GREEN)]):  # fmt: skip
        write(axes, 5.6, 0.6 + place * 0.28, name, family=MONO, color=colour)
    for place, text in enumerate(
        [
            "layers.2.weight is not listed:",
            "it is the object that was",
            "listed first. Its gradient is the",
            "sum from both uses.",
        ]
    ):
        write(axes, 5.6, 1.55 + place * 0.2, text, color=SOFT, size=8.5)
    save(figure, "1_10_modules")


def optimizers() -> None:
    """1.11: what bias correction does to the first steps, and the schedule."""
    figure, (left, right) = charts(2)
    t = np.arange(1, 61)
    plain = (1 - 0.9**t) / np.sqrt(1 - 0.999**t)
    left.plot(t, np.ones(len(t)), color=BLUE, label="with bias correction")
    left.plot(t, plain, color=ORANGE, label="without")
    left.set(title="Length of AdamW's step, constant gradient", xlabel="t",
             ylabel="step / learning rate", ylim=(0, 7.5))  # fmt: skip
    left.legend(loc="center right", bbox_to_anchor=(1, 0.36))
    peak, floor, warmup, total = 1.0, 0.1, 4, 12
    steps = np.arange(15)
    rates = [peak * (s + 1) / warmup if s < warmup else floor if s >= total else
             floor + (peak - floor) * (1 + math.cos(math.pi * (s - warmup) / (total - warmup))) / 2
             for s in steps]  # fmt: skip
    right.plot(steps, rates, color=LINE, zorder=1)
    right.scatter(steps, rates, color=GREEN, s=18)
    right.set(title="Schedule: peak 1, floor 0.1, warm-up 4 of 12", xlabel="step s",
              ylabel="learning rate", ylim=(0, 1.1))  # fmt: skip
    for step, text in ((0, "0.25: never 0"), (4, "s = w: the peak again"), (12, "s = n: floor")):
        right.annotate(text, (step, rates[step]), (-8 if step == 12 else 8, 5 if step else -2),
                       textcoords="offset points", size=8.5, color=SOFT)  # fmt: skip
    save(figure, "1_11_optimizers", sheet=False)


def checkpointing(lines: dict[str, list[list[float]]]) -> None:
    """1.12: live memory over forward and backward, plain and checkpointed."""
    figure, both = charts(2, sharey=True)
    for axes, (name, colour) in zip(both, (("plain", ORANGE), ("checkpointed", BLUE)), strict=True):
        live, peak = np.array(lines[name]).T
        axes.stairs(peak[1:], np.arange(len(peak)), fill=True, color=PALE[colour],
                    label="highest in between")  # fmt: skip
        axes.plot(np.arange(len(live)), live, color=colour, marker="o", markersize=3,
                  label="held")  # fmt: skip
        axes.axvline(8, color=LINE, linewidth=0.8, linestyle=":")
        axes.set(title=f"{name}: {live[8]:.0f} MB held after forward", xlim=(0, 16), ylim=(0, 225),
                 xlabel="eight blocks forward, then backward")  # fmt: skip
        axes.set_xticks([0, 4, 8, 12, 16])
        axes.legend(loc="upper left")
    both[0].set_ylabel("MB")
    save(figure, "1_12_checkpointing", sheet=False)


def training(found: dict[str, Any], bigram: float) -> None:
    """1.13: both loss curves."""
    figure, (left, right) = charts(2)
    digits, text = found["digits"], found["language model"]
    steps = (np.arange(len(digits["losses"])) + 1) * digits["every"]
    left.plot(steps, digits["losses"], color=BLUE)
    left.set(title="Digits: " + digits["result"].split(" of ")[0] + " of the held-out ones read",
             xlabel="step", ylabel="training loss, nats", ylim=(0, None))  # fmt: skip
    steps = (np.arange(len(text["losses"])) + 1) * text["every"]
    right.plot(steps, np.array(text["losses"]) / math.log(2), color=BLUE, label="training loss")
    held_out = float(text["result"].split()[0])
    right.axhline(bigram, color=ORANGE, linestyle="--", label=f"bigram, held out: {bigram:.3f}")
    right.axhline(held_out, color=GREEN, linestyle="--",
                  label=f"the model, held out: {held_out:.3f}")  # fmt: skip
    right.set(title="Byte language model", xlabel="step", ylabel="bits per byte", ylim=(1, 8))
    right.legend(loc="upper right")
    save(figure, "1_13_training", sheet=False)
