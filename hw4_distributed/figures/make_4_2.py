"""Draws the figure of task 4.2: `python figures/make_4_2.py`. The numbers are the reference's, in measured_4_2.json."""

from __future__ import annotations

import json
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.append(str(FOLDER.parents[1]))

from autograder.testing import drawing  # noqa: E402
from autograder.testing.drawing import BLUE, GREEN, ORANGE, SOFT, charts, save  # noqa: E402


def main() -> None:
    """Left: seconds of an all-reduce by its bytes. Right: a step's seconds by the number of GPUs."""
    drawing.use(FOLDER)
    measured = json.loads((FOLDER / "measured_4_2.json").read_text(encoding="utf-8"))
    figure, (left, right) = charts(2, height=3.1)
    curves = measured["all-reduce of 128"]
    for name, colour in (("ring", BLUE), ("tree", ORANGE), ("two levels", GREEN)):
        left.loglog(curves["bytes"], curves[name], color=colour, linewidth=1.5, label=name)
    left.set(xlabel="bytes", ylabel="seconds", title="All-reduce over 16 nodes of 8")
    left.legend()
    plans = [plan for plan in measured["plans"] if plan["plan"]]
    gpus = [plan["gpus"] for plan in plans]
    right.loglog(gpus, [p["ideal"] for p in plans], color=SOFT, linestyle="--", label="arithmetic only")
    right.loglog(gpus, [p["seconds"] for p in plans], color=BLUE, marker="o", markersize=4,
                 label="best plan")  # fmt: skip
    for plan in plans:
        data, tensor, pipeline, _ = plan["plan"]
        right.annotate(f"{data}·{tensor}·{pipeline}", (plan["gpus"], plan["seconds"]), fontsize=7.5,
                       xytext=(5, 5), textcoords="offset points")  # fmt: skip
    right.set(xlabel="GPUs", ylabel="seconds a step", xlim=(24, 9000),
              title="64 billion parameters: data · tensor · pipeline")  # fmt: skip
    right.legend(loc="lower left")
    save(figure, "4_2_costs", sheet=False)


if __name__ == "__main__":
    main()
