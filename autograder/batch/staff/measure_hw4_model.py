"""Measures what homework 4's α–β model and simulator predict, with the reference over gloo.

`python autograder/batch/staff/measure_hw4_model.py` writes measured_model.json beside the homework's
figures: two ranks on this machine, the ring's seconds by megabytes, the 1F1B step's by micro-batches,
and what was predicted for them.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

from autograder.batch.bench_hw4 import ranks  # noqa: E402

TARGET = ROOT / "hw4_distributed" / "figures" / "measured_model.json"


def main() -> None:
    """Both runs, one after the other."""
    found = {}
    for kind in ("ring", "pipeline"):
        with tempfile.TemporaryDirectory() as work:
            result = ranks(Path(work), kind)
        if isinstance(result, str):
            raise SystemExit(f"{kind}: {result}")
        found[kind] = {name: value for name, value in result.items() if name != "seconds"}
    TARGET.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(TARGET.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
