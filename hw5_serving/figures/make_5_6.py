"""Draws the figure of task 5.6: `python figures/make_5_6.py`. GPTQ's error over that of rounding, by
how much text it saw: on that text, and on other text. In a student's folder on their own code."""

from __future__ import annotations

import numpy as np
from real_layer import GOLDEN, LAYER, block_of, other_text, real_model
from torch import Tensor

from autograder.testing.drawing import BLUE, ORANGE, charts, save
from serving.gptq import InputStatistics, gptq
from serving.quantize import quantize

COUNTS = (64, 128, 256, 512, 768)
DAMPING = (0.001, 0.01, 0.1, 1.0)


def ratios(
    weight: Tensor, seen: Tensor, other: Tensor, damping: float = 0.01
) -> tuple[float, float]:
    """q_proj in 3 bits, groups of 64: on what was seen, and on the other text."""
    statistics = InputStatistics(weight.shape[1])
    statistics.add(seen)
    made = gptq(weight, statistics.hessian, 3, 64, False, damping).dequantize()
    plain = quantize(weight, 3, 64, False).dequantize()
    found = []
    for inputs in (seen, other):
        ours, theirs = (float((inputs @ (w - weight).T).square().sum()) for w in (made, plain))
        found.append(ours / theirs)
    return found[0], found[1]


def main() -> None:
    """Two panels: by the number of tokens, by the damping."""
    names = ("calibration", "public")
    text = np.concatenate([np.load(GOLDEN / f"prose_{name}.npy") for name in names])
    ids = text[None, : max(COUNTS)]
    block = block_of(real_model(), ids, LAYER)
    weight, seen = block.weights["q_proj"], block.seen["input"][0]
    other = other_text(200).seen["input"][0]
    figure, (left, right) = charts(2, width=8, height=3, sharey=True)
    by_count = [ratios(weight, seen[:count], other) for count in COUNTS]
    by_damping = [ratios(weight, seen[:512], other, damping) for damping in DAMPING]
    print(dict(zip(COUNTS, by_count, strict=True)), dict(zip(DAMPING, by_damping, strict=True)))
    for axes, places, found in ((left, COUNTS, by_count), (right, DAMPING, by_damping)):
        for which, name, colour in ((1, "other text", ORANGE), (0, "the text it saw", BLUE)):
            axes.plot(places, [f[which] for f in found], marker="o", markersize=4, color=colour,
                      label=name)  # fmt: skip
        axes.axhline(1, color="gray", linewidth=0.8, linestyle=":")
        axes.set(xscale="log", ylim=(0, None))
        axes.minorticks_off()
        axes.set_xticks(places, [str(p) for p in places])
    left.set(xlabel="tokens of calibration, damping 0.01", title="GPTQ's error / rounding's")
    right.set(xlabel="damping, 512 tokens")
    left.legend(fontsize=8, loc="center left")
    save(figure, "5_6_calibration", sheet=False)


if __name__ == "__main__":
    main()
