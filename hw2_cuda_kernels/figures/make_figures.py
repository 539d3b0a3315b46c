"""Draws the handout's figures: `python figures/make_figures.py`, or `make figures` for all homeworks.

The files come out the same each time. The counts are read from measured.json, which measure.py
wrote from the emulator's reports.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.append(str(FOLDER.parents[1]))

import traffic  # noqa: E402
import walks  # noqa: E402

from autograder.kernels.model import GPUS  # noqa: E402
from autograder.testing import drawing  # noqa: E402


def main() -> None:
    """Write every figure beside this script."""
    drawing.use(FOLDER)
    measured = json.loads((FOLDER / "measured.json").read_text(encoding="utf-8"))
    rows, others = measured["rows"], measured["others"]
    traffic.counts(measured)
    traffic.roofline(measured, GPUS[measured["gpu"]])
    traffic.element_wise(measured["element-wise"])
    traffic.reduction(measured["reduction"])
    traffic.transpose(measured["transpose"])
    traffic.matmul(measured["matmul"])
    walks.softmax(rows)
    walks.normalization(rows)
    walks.fused(rows)
    walks.embedding(others)
    walks.cross_entropy(rows)
    walks.attention(others)
    walks.quantized(others)
    walks.block(others["block"])


if __name__ == "__main__":
    main()
