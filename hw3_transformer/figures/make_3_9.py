"""Draws the figure of task 3.9: `python figures/make_3_9.py`, from measured_3_9.json beside it.

With --measure `align.py dpo` runs first, on the fetched weights and ratings, with the code of this
homework (the reference, where there is one): a quarter of an hour of one core.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
sys.path[1:1] = [str(FOLDER.parents[1])]
MEASURED = FOLDER / "measured_3_9.json"


def run_align(*arguments: str) -> list[dict[str, Any]]:
    """What a run of align.py logs."""
    home = FOLDER.parent
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "language_model"
        shutil.copytree(home / "language_model", package)
        if (home / "solution").is_dir():
            shutil.copytree(home / "solution" / "language_model", package, dirs_exist_ok=True)
        sys.path[1:1] = [folder, str(home)]
        import align

        from language_model.experiment import read_log

        align.main([*arguments, "--out", folder], standalone_mode=False)
        return read_log(Path(folder) / "log.jsonl")


def compact(records: list[dict[str, Any]]) -> dict[str, Any]:
    """The columns of a log, and its last line, rounded."""
    steps = [record for record in records if "loss" in record]
    columns = {n: [round(r[n], 3) for r in steps] for n in ("loss", "chosen", "rejected")}
    last = {n: round(v, 3) for n, v in records[-1].items() if n in ("accuracy", "margin", "base")}
    return {**columns, "held out": last}


def preference(found: dict[str, Any]) -> None:
    """One base, two policies; the slope of the loss; the rewards of a real run."""
    import numpy as np

    from autograder.testing import drawing as d

    figure, (left, middle, right) = d.charts(3, 8.6, 3.0, width_ratios=(1.25, 0.85, 1.1))
    left.set(xlim=(0, 3.5), ylim=(3.0, 0))
    left.axis("off")
    d.heading(left, 0.05, 0.15, "one base, two policies")
    d.node(left, 1.75, 2.7, "base, frozen, once", d.BLUE, width=2.0)
    d.node(left, 0.85, 1.85, "adapter on", d.ORANGE, width=1.35)
    d.node(left, 2.65, 1.85, "off, no dropout", d.LINE, width=1.55)
    d.node(left, 0.85, 1.15, "log π", d.ORANGE, width=0.9)
    d.node(left, 2.65, 1.15, "log π_ref", d.LINE, width=1.1)
    d.node(left, 1.75, 0.5, "reward = β (log π − log π_ref)", d.GREEN, width=2.9)
    for start, end in (
        ((1.5, 2.45), (1.0, 2.1)), ((2.0, 2.45), (2.5, 2.1)), ((0.85, 1.6), (0.85, 1.4)),
        ((2.65, 1.6), (2.65, 1.4)), ((0.95, 0.9), (1.3, 0.75)), ((2.55, 0.9), (2.2, 0.75)),
    ):  # fmt: skip
        d.arrow(left, start, end)
    z = np.linspace(-5, 5, 101)
    middle.plot(z, np.log1p(np.exp(-z)), color=d.BLUE)
    middle.plot([0], [np.log(2)], "o", color=d.RED, markersize=5)
    middle.annotate("step 0:\nlog 2, slope −½", (0, np.log(2)), (0.5, 2.2), fontsize=8,
                    arrowprops={"arrowstyle": "-", "color": d.SOFT})  # fmt: skip
    middle.set(title="−log σ(z)", xlabel="z = chosen − rejected")
    x = np.arange(1, len(found["loss"]) + 1)
    for name, colour in (("chosen", d.GREEN), ("rejected", d.RED)):
        y = np.array(found[name])
        right.plot(x, y, color=colour, alpha=0.25, linewidth=0.8)
        window = 8
        mean = np.convolve(y, np.ones(window) / window, "valid")
        right.plot(x[window - 1 :], mean, color=colour, label=name)
    share = found["held out"]["accuracy"]
    right.set(title=f"rewards; held out: {share:.0%} in order", xlabel="step")
    right.axhline(0, color=d.LINE, linewidth=0.8)
    right.legend(loc="lower left", fontsize=8.5)
    d.save(figure, "3_9_preference")


def main() -> None:
    """Measure if asked, then draw."""
    from autograder.testing.drawing import use

    use(FOLDER)
    if "--measure" in sys.argv[1:]:
        MEASURED.write_text(json.dumps(compact(run_align("dpo"))) + "\n", encoding="utf-8")
    preference(json.loads(MEASURED.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
