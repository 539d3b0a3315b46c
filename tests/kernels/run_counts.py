"""Counts of all cases with one compiler, as JSON: `python run_counts.py COMPILER OPTIMISATION [TIMES]`.

A process of its own, since one process holds one build of the emulator.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from autograder import kernels
from count_cases import CASES, launch


def counts(compiler: str, optimisation: str) -> dict[str, dict[str, object]]:
    """name of the case -> its counts and diagnostics."""
    device = kernels.Device("emulator", "full", compiler=compiler, optimisation=optimisation)
    module = device.load(Path(__file__).parent / "cuda" / "counts.cu")
    found: dict[str, dict[str, object]] = {}
    for case in CASES:
        launch(case, module)
        report = device.report()
        found[case.name] = {
            "counts": report["launches"][0]["counts"],
            "diagnostics": [entry["message"] for entry in report["diagnostics"]],
        }
    return found


if __name__ == "__main__":
    times = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    print(json.dumps([counts(sys.argv[1], sys.argv[2]) for _ in range(times)]))
