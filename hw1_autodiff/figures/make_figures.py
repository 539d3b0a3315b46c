"""Draws the handout's figures: `python figures/make_figures.py`, or `make figures` for all homeworks.

The files come out the same each time. What was measured is read from measured.json, which
measure.py wrote.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.append(str(FOLDER.parents[1]))

import arrays  # noqa: E402
import networks  # noqa: E402

from autograder.testing import drawing  # noqa: E402


def main() -> None:
    """Write every figure beside this script."""
    drawing.use(FOLDER)
    measured = json.loads((FOLDER / "measured.json").read_text(encoding="utf-8"))
    networks.tasks()
    arrays.strides()
    arrays.kernels()
    arrays.ladder(measured["matmul GFLOP/s"])
    arrays.packing()
    networks.backward()
    arrays.unbroadcast()
    arrays.softmax()
    arrays.matmul()
    arrays.embedding()
    arrays.cross_entropy(measured["buffers of a loss / logits"])
    networks.modules()
    networks.optimizers()
    networks.checkpointing(measured["live MB over eight blocks"])
    found = measured["training"]
    networks.training(found, float(found["language model"]["result"].split()[-1]))


if __name__ == "__main__":
    main()
