"""Draws the figure of task 5.7: `python figures/make_5_7.py`. Input features are of unequal size; the
error by alpha for the three scales of a real layer. In a student's folder on their own code."""

from __future__ import annotations

from real_layer import LAYER, READERS, calibrated

from autograder.testing.drawing import charts, save
from serving.awq import candidate_scale, mean_magnitude, rounding_error

STEPS = 20
NAMES = {"input": "q, k, v", "post": "gate, up", "opened": "down"}


def main() -> None:
    """Two panels: sizes of features, sorted; error by alpha."""
    block = calibrated()
    figure, (left, right) = charts(2, width=8, height=3)
    for source, name in NAMES.items():
        inputs = block.seen[source].flatten(0, 1)
        weights = [block.weights[matrix] for matrix in READERS[source]]
        sizes = mean_magnitude(inputs)
        ranked = (sizes / sizes.median()).sort(descending=True).values
        left.plot([100 * i / len(ranked) for i in range(1, len(ranked) + 1)], ranked, label=name)
        errors = [rounding_error(inputs, weights, candidate_scale(sizes, step / STEPS), 4, 64, False)
                  for step in range(STEPS + 1)]  # fmt: skip
        shares = [error / errors[0] for error in errors]
        best = min(range(STEPS + 1), key=shares.__getitem__)
        right.plot([step / STEPS for step in range(STEPS + 1)], shares, label=name)
        right.plot(best / STEPS, shares[best], "o", color=right.lines[-1].get_color())
        print(f"{name}: largest {float(ranked[0]):.0f} medians; best alpha {best / STEPS}, "
              f"{shares[best]:.2f} of the error; alpha 1: {shares[-1]:.2f}")  # fmt: skip
    left.set(xscale="log", yscale="log", xlabel="features, % from the largest",
             title=f"mean |x| / its median, layer {LAYER}")  # fmt: skip
    right.axhline(1, color="gray", linewidth=0.8, linestyle=":")
    right.set(xlabel="alpha", ylim=(0, 2), title="error / that of alpha 0, 4 bits")
    left.legend(fontsize=8)
    save(figure, "5_7_scales", sheet=False)


if __name__ == "__main__":
    main()
