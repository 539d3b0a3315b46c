"""Draws the figures of task 3.8: `python figures/make_3_8.py`, from measured_3_8.json beside it.

With --measure the numbers are measured anew first, by the language_model that lies in this folder:
tasks 3.3, 3.4, 3.5 and 3.8 must be done; two minutes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
sys.path[1:1] = [str(FOLDER.parents[1]), str(FOLDER.parent / "tests")]
MEASURED = FOLDER / "measured_3_8.json"
TARGETS = {"query,value": (1, 2, 4, 6), "output,down": (1, 2, 3, 6, 12)}


def measure_adapters() -> dict[str, Any]:
    """Drop in loss over that of full fine-tuning, by rank, for two choices of layers."""
    import numpy as np
    from drivers_lora import fine_tune_adapter
    from lora_cases import batch_order, folded, held_out_loss, small_base

    base = small_base()
    order = batch_order(
        np.random.default_rng(0), len(base.train), base.recipe["steps"], base.recipe["rows"]
    )
    found: dict[str, Any] = {}
    for targets, ranks in TARGETS.items():
        for rank in ranks:
            how = {"rank": rank, "alpha": 2.0 * rank, "targets": targets.split(",")}
            got = fine_tune_adapter(
                base.sizes.fields(), base.weights, base.train, order, rate=0.02, seed=0, **how
            )
            tuned = folded(base.weights, got["state"], rank, 2.0 * rank, np.float32)
            loss = held_out_loss(tuned, base.sizes, base.held_out)
            ratio = (base.loss - loss) / (base.loss - base.fine_tuned_loss)
            trained, total = got["counts"]
            found.setdefault(targets, []).append([rank, trained / total, ratio])
            print(targets, found[targets][-1], flush=True)
    return found


def measure_selection() -> dict[str, Any]:
    """Held-out loss on five pools: before, after all of it, the selected tenth, random tenths."""
    import numpy as np
    import selection_cases as cases
    from drivers_selection import select_from_pools

    rng = np.random.default_rng(0)
    pools = [cases.random_pool(rng) for _ in range(5)]
    sizes, weights, _ = cases.selection_base()
    picks = select_from_pools(
        sizes.fields(), weights, {}, 2, ["output", "down"], [pool.asked() for pool in pools],
        cases.CHOSEN, 256,
    )  # fmt: skip
    found: dict[str, Any] = {"whole": [], "selected": [], "random": [], "kinds": []}
    for place, (pool, picked) in enumerate(zip(pools, picks, strict=True)):
        _, whole, mine, *lots = cases.drops_of(pool, picked, rng, place, draws=3)
        found["whole"].append(whole)
        found["selected"].append(mine)
        found["random"].append(lots)
        found["kinds"].append(np.bincount(pool.kinds[picked], minlength=3).tolist())
    return found


def adapters(found: dict[str, Any]) -> None:
    """The two paths of an adapted layer; what an adapter of each size reaches."""
    from autograder.testing import drawing as d

    figure, (left, right) = d.charts(2, 8, 3.1, width_ratios=(1, 1.15))
    left.set(xlim=(0, 4), ylim=(3.0, 0))
    left.axis("off")
    d.heading(left, 0.1, 0.15, "one adapted layer, 96 wide, rank 3")
    d.node(left, 2, 2.75, "x", d.LINE, width=0.6)
    d.node(left, 1.05, 1.6, "W: 96 × 96\n9,216 frozen", d.BLUE, width=1.6, height=1.0)
    d.node(left, 3.0, 2.0, "A: 3 × 96", d.ORANGE, width=1.3)
    d.node(left, 3.0, 1.2, "B: 96 × 3", d.ORANGE, width=1.3)
    d.node(left, 2, 0.5, "W·x + (α/r)·B·A·x", d.LINE, width=2.1)
    for start, end in (
        ((1.8, 2.55), (1.2, 2.15)), ((2.2, 2.55), (2.9, 2.25)), ((3.0, 1.75), (3.0, 1.45)),
        ((1.1, 1.05), (1.6, 0.75)), ((2.95, 0.95), (2.5, 0.75)),
    ):  # fmt: skip
        d.arrow(left, start, end)
    d.write(left, 3.1, 1.6, "576 trained", color=d.SOFT, fontsize=8)
    for (targets, points), colour in zip(found.items(), (d.PURPLE, d.ORANGE), strict=True):
        shares, ratios = [100 * p[1] for p in points], [100 * p[2] for p in points]
        right.plot(shares, ratios, "o-", color=colour, label=targets.replace(",", " and "))
        for (rank, *_), x, y in zip(points, shares, ratios, strict=True):
            right.annotate(f"r={rank}", (x, y), (-3, 5), textcoords="offset points", fontsize=7.5,
                           ha="right", color=d.SOFT)  # fmt: skip
    right.axhline(90, color=d.GREEN, linewidth=1, linestyle="--")
    right.axvline(2, color=d.RED, linewidth=1, linestyle="--")
    right.set(xlabel="weights trained, %", ylabel="drop in loss, % of full fine-tuning's",
              ylim=(60, 103))  # fmt: skip
    right.set_title("asked: above green, left of red")
    right.legend(loc="lower right")
    d.save(figure, "3_8_adapters")


def selection(found: dict[str, Any]) -> None:
    """Five pools: what is learned from all, from the selected tenth, from random tenths."""
    import numpy as np

    from autograder.testing import drawing as d

    figure, (left, right) = d.charts(2, 8, 2.8, width_ratios=(1, 1.5))
    shares = np.array([[30, 40, 30], np.mean(found["kinds"], axis=0) / 15 * 100])
    start = np.zeros(2)
    names = (("good", d.GREEN), ("copies", d.ORANGE), ("wrong targets", d.RED))
    for (name, colour), share in zip(names, shares.T, strict=True):
        left.barh(["pool", "selected"], share, left=start, color=d.PALE[colour], edgecolor=colour,
                  label=name)  # fmt: skip
        start = start + share
    left.invert_yaxis()
    left.set(xlabel="% of the examples")
    left.set_title("what is in them")
    left.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.45, -0.22), fontsize=8,
                columnspacing=0.8)  # fmt: skip
    places = np.arange(5)
    for shift, (name, label, colour) in enumerate((
        ("whole", "whole pool, 150", d.LINE), ("selected", "selected, 15", d.GREEN),
        ("random", "random, 15 (mean of 3)", d.ORANGE),
    )):  # fmt: skip
        values = [np.mean(value) for value in found[name]]
        right.bar(places + (shift - 1) * 0.27, values, 0.25, color=d.PALE[colour],
                  edgecolor=colour, label=label)  # fmt: skip
    right.axhline(0, color=d.SOFT, linewidth=0.8)
    right.set(xlabel="pool", ylabel="drop in held-out loss, nats", xticks=places)
    right.set_title("what is learned from them")
    right.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.45, -0.22), fontsize=8,
                 columnspacing=0.8)  # fmt: skip
    d.save(figure, "3_8_selection")


def main() -> None:
    """Measure where asked, then draw."""
    if "--measure" in sys.argv:
        import torch

        torch.set_num_threads(1)
        found = {"adapters": measure_adapters(), "selection": measure_selection()}
        MEASURED.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    from autograder.testing import drawing

    drawing.use(FOLDER)
    found = json.loads(MEASURED.read_text(encoding="utf-8"))
    adapters(found["adapters"])
    selection(found["selection"])


if __name__ == "__main__":
    main()
