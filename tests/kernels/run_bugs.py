"""Diagnostics of each kernel of `cuda/bugs.cu`, as JSON: `python run_bugs.py COMPILER OPTIMISATION`."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from autograder import kernels

SOURCE = Path(__file__).parent / "cuda" / "bugs.cu"


def names() -> list[str]:
    """The kernels, in the order of the file."""
    return re.findall(r'extern "C" void run_(\w+)\(', SOURCE.read_text())


def diagnostics(compiler: str, optimisation: str) -> dict[str, dict[str, object]]:
    """kernel -> what was found, and the exception that the launch ended in."""
    device = kernels.Device(
        "emulator", "full", compiler=compiler, optimisation=optimisation, steps=3_000_000
    )
    module = device.load(SOURCE)
    found: dict[str, dict[str, object]] = {}
    for name in names():
        values = np.arange(300, dtype=np.float32)
        x, out = device.array(values), device.empty(256, np.float32)
        error = ""
        try:
            module.launch(f"run_{name}", x, out, 256)
        except kernels.KernelError as raised:
            error = str(raised)
        found[name] = {"diagnostics": device.report()["diagnostics"], "error": error}
    return found


if __name__ == "__main__":
    print(json.dumps(diagnostics(sys.argv[1], sys.argv[2])))
