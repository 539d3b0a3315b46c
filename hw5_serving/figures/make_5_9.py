"""Draws the figure of task 5.9: `python figures/make_5_9.py`. Recall against the share of vectors that
is read, and against how many are compared after product codes, measured on this homework's code. In
a student's folder it is the student's own."""

from __future__ import annotations

from own_code import FOLDER

# isort: split
import numpy as np
import store_cases as cases
from drivers_store import by_codes, inverted_lists, probed, quantized

from autograder.testing import drawing
from autograder.testing.drawing import charts, save


def main() -> None:
    """Two panels, a line for each of the three sets."""
    drawing.use(FOLDER)
    figure, (left, right) = charts(2, width=8, height=3)
    for make in (cases.clustered, cases.heavy_tailed, cases.uniform):
        vectors, queries = make(np.random.default_rng(0), 12_000, 96, 50)
        truth, name = cases.true_nearest(queries, vectors), make.__name__.replace("_", " ")
        index = inverted_lists(vectors, 128, 4096)
        read, found = [], []
        for probes in (1, 2, 3, 4, 8, 16, 32, 64, 128):
            lists = probed(queries, index["centroids"], probes)
            rows = cases.scanned(index["order"], index["offsets"], lists)
            read.append(100 * float(np.mean([len(r) for r in rows])) / len(vectors))
            hits = [len(np.intersect1d(r, t)) for r, t in zip(rows, truth, strict=True)]
            found.append(sum(hits) / truth.size)
        print(name, [f"{a:.1f}%: {b:.3f}" for a, b in zip(read, found, strict=True)])
        left.plot(read, found, marker="o", markersize=3, label=name)
        made, found = quantized(vectors, 16, 256, 4096), []
        for count in (counts := (10, 25, 50, 100, 200, 400)):
            rows = by_codes(made["codebooks"], made["codes"], queries, count)["rows"]
            hits = [len(np.intersect1d(r, t)) for r, t in zip(rows, truth, strict=True)]
            found.append(sum(hits) / truth.size)
        print(name, [f"{a}: {b:.3f}" for a, b in zip(counts, found, strict=True)])
        right.plot(counts, found, marker="o", markersize=3, label=name)
    left.axvline(5, color="gray", linewidth=0.8, linestyle=":")
    left.set(xscale="log", xlabel="vectors read, %", ylabel="recall@10", title="lists")
    right.set(xscale="log", xlabel="compared exactly, of 12,000", title="codes of 16 bytes for 384")
    left.legend(loc="lower right", fontsize=8)
    save(figure, "5_9_recall", sheet=False)


if __name__ == "__main__":
    main()
