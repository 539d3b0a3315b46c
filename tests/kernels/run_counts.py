"""Counts of all cases with one compiler, as JSON: `python run_counts.py COMPILER OPTIMISATION [TIMES]`.

A process of its own, since one process holds one build of the emulator.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from autograder import kernels
from count_cases import CASES, arrays


def counts(compiler: str, optimisation: str) -> dict[str, dict[str, object]]:
    """name of the case -> its counts and diagnostics."""
    device = kernels.Device("emulator", "full", compiler=compiler, optimisation=optimisation)
    module = device.load(Path(__file__).parent / "cuda" / "counts.cu")
    found: dict[str, dict[str, object]] = {}
    for case in CASES:
        rng = np.random.default_rng(0)
        passed = [
            device.empty(a[2], a[1]) if isinstance(a, tuple)
            else device.array(a) if isinstance(a, np.ndarray) else a
            for a in arrays(case, rng)
        ]  # fmt: skip
        module.launch(case.function, *passed)
        report = device.report()
        found[case.name] = {
            "counts": report["launches"][0]["counts"],
            "diagnostics": [entry["message"] for entry in report["diagnostics"]],
        }
    return found


if __name__ == "__main__":
    times = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    print(json.dumps([counts(sys.argv[1], sys.argv[2]) for _ in range(times)]))
