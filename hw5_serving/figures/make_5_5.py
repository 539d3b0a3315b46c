"""Draws the figure of task 5.5: `python figures/make_5_5.py`. What rounding loses on a real matrix by
the size of groups, and what codes, scales and zeros take. In a student's folder on their own code."""

from __future__ import annotations

from real_layer import LAYER, calibrated

from autograder.testing.drawing import charts, save
from serving.quantize import quantize

GROUPS = (16, 32, 64, 96, 192, 288, 576)
KINDS = (
    (8, False, "8 bits, asymmetric"), (4, True, "4 bits, symmetric"),
    (4, False, "4 bits, asymmetric"), (3, False, "3 bits, asymmetric"),
)  # fmt: skip


def main() -> None:
    """Two panels: error and bytes by group."""
    block = calibrated()
    weight, inputs = block.weights["q_proj"], block.seen["input"].flatten(0, 1)
    norm = (inputs @ weight.T).square().sum().sqrt()
    figure, (left, right) = charts(2, width=8, height=3)
    for bits, symmetric, name in KINDS:
        lost, held = [], []
        for group in GROUPS:
            made = quantize(weight, bits, group, symmetric)
            gap = inputs @ (made.dequantize() - weight).T
            lost.append(float(gap.square().sum().sqrt() / norm))
            held.append(made.nbytes / weight.nbytes)
        print(name, [f"{g}: {e:.4f}, {b:.4f}" for g, e, b in zip(GROUPS, lost, held, strict=True)])
        left.plot(GROUPS, lost, marker="o", markersize=3, label=name)
        if bits != 3:  # two codes a byte as well
            right.plot(GROUPS, held, marker="o", markersize=3, label=name)
    left.set(xscale="log", yscale="log", xlabel="weights that share a scale",
             title=f"error of q_proj's output, layer {LAYER}")  # fmt: skip
    right.axhline(0.26, color="gray", linewidth=0.8, linestyle=":")
    right.axhline(0.15, color="gray", linewidth=0.8, linestyle=":")
    right.set(xscale="log", xlabel="weights that share a scale", ylim=(0, 0.36),
              title="bytes, of float32's")  # fmt: skip
    for axes in (left, right):
        axes.set_xticks(GROUPS, [str(g) if g != 288 else "" for g in GROUPS])
        axes.minorticks_off()
    left.legend(fontsize=7, loc="center right", bbox_to_anchor=(1.0, 0.43))
    right.legend(fontsize=7, loc="lower right")
    save(figure, "5_5_groups", sheet=False)


if __name__ == "__main__":
    main()
