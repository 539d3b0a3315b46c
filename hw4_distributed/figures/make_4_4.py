"""Draws the figure of task 4.4: `python figures/make_4_4.py`. The bytes were measured: measured_4_4.json."""

from __future__ import annotations

import json
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.append(str(FOLDER.parents[1]))

from autograder.testing import drawing  # noqa: E402
from autograder.testing.drawing import BLUE, GREEN, ORANGE, charts, save  # noqa: E402

NAMES = {"0": "data parallel", "1": "stage 1", "2": "stage 2", "3": "stage 3"}


def main() -> None:
    """What one of four ranks holds through a step, by kind, for each stage."""
    drawing.use(FOLDER)
    measured = json.loads((FOLDER / "measured_4_4.json").read_text(encoding="utf-8"))
    figure, four = charts(4, height=2.7, sharey=True)
    for axes, (stage, run) in zip(four, measured.items(), strict=True):
        megabytes = [[bytes_ / 1e6 for bytes_ in row[1:]] for row in run["seen"]]
        state, grads, parameters = ([row[kind] for row in megabytes] for kind in (2, 1, 0))
        axes.stackplot(
            range(len(megabytes)), state, parameters, grads, colors=(GREEN, BLUE, ORANGE), alpha=0.75,
            labels=("shards and moments", "parameters", "gradients"),
        )  # fmt: skip
        peak = max(map(sum, megabytes))
        axes.set(title=f"{NAMES[stage]}: {peak:.1f} MB", xlim=(0, len(megabytes) - 1))
        places = [where for where, *_ in run["seen"]]
        axes.set_xticks([1, 6.5, len(places) - 2], ["forward", "backward", "step"], fontsize=7.5)
        axes.tick_params(axis="x", length=0)
    four[0].set(ylabel="MB on one rank of four")
    figure.legend(*four[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    save(figure, "4_4_memory", sheet=False)


if __name__ == "__main__":
    main()
