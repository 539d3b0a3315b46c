"""Draws the figure of task 5.10: `python figures/make_5_10.py`. Recall against the share of distances
that a search computes, for several ef; an inverted file on the same vectors beside it. Measured on
this homework's code; in a student's folder it is the student's own."""

from __future__ import annotations

from typing import Any

from own_code import FOLDER

# isort: split
import numpy as np
import store_cases as cases
from drivers_store import inverted_lists, probed

from autograder.testing import drawing
from autograder.testing.drawing import charts, save
from serving.hnsw import HNSW


class Counting(HNSW):
    """Counts the distances that are computed."""

    counted = 0

    def distances(self, vector: np.ndarray, nodes: Any) -> np.ndarray:
        self.counted += len(nodes)
        return super().distances(vector, nodes)


def main() -> None:
    """A panel for each set: the graph, and lists read by nearest centroid."""
    drawing.use(FOLDER)
    figure, panels = charts(3, width=9, height=2.9, sharey=True)
    sets = ((cases.clustered, 16), (cases.heavy_tailed, 16), (cases.uniform, 8))
    for panel, (make, dims) in zip(panels, sets, strict=True):
        vectors, queries = make(np.random.default_rng(0), 3000, dims, 60)
        truth, index = cases.true_nearest(queries, vectors), Counting(dims, 8, 40)
        for vector in vectors:
            index.insert(vector)
        shares, found = [], []
        for ef in (10, 12, 16, 24, 32, 64, 128):
            index.counted = 0
            answers = [index.search(query, 10, ef)[0] for query in queries]
            shares.append(100 * index.counted / len(queries) / len(vectors))
            found.append(cases.recall(answers, truth))
        name = f"{make.__name__.replace('_', ' ')}, {dims} dims"
        print(name, [f"{a:.1f}%: {b:.3f}" for a, b in zip(shares, found, strict=True)])
        panel.plot(shares, found, marker="o", markersize=3, label="small world, ef 10 … 128")
        lists, shares, found = inverted_lists(vectors, 64, 3000), [], []
        for probes in (1, 2, 4, 8, 16):
            taken = probed(queries, lists["centroids"], probes)
            rows = cases.scanned(lists["order"], lists["offsets"], taken)
            shares.append(100 * (float(np.mean([len(r) for r in rows])) + 64) / len(vectors))
            hits = [len(np.intersect1d(r, t)) for r, t in zip(rows, truth, strict=True)]
            found.append(sum(hits) / truth.size)
        panel.plot(shares, found, marker="s", markersize=3, label="64 lists, 1 … 16 read")
        panel.axvline(5, color="gray", linewidth=0.8, linestyle=":")
        panel.set(xscale="log", xlabel="distances computed, %", title=name)
        panel.set_xticks([3, 5, 10, 30], labels=["3", "5", "10", "30"], minor=False)
        panel.minorticks_off()
    panels[0].set_ylabel("recall@10")
    panels[0].legend(loc="lower right", fontsize=7)
    save(figure, "5_10_recall", sheet=False)


if __name__ == "__main__":
    main()
