"""Runs the entry points of `cuda/forms.cu`: `python run_forms.py COMPILER MODE` prints JSON."""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from autograder import kernels


class Pair(ctypes.Structure):
    _fields_ = [("a", ctypes.c_int), ("b", ctypes.c_double * 2)]


def main(compiler: str, mode: str) -> None:
    """name -> the first numbers of the result, and the diagnostics' messages."""
    device = kernels.Device("emulator", mode, compiler=compiler)
    module = device.load(Path(__file__).parent / "cuda" / "forms.cu")
    found = {}
    for name in module.build.entries:
        out = device.zeros(32, np.int32)
        if name == "nothing":
            module.launch(name)
        elif name == "structures":
            pair = Pair(1, (ctypes.c_double * 2)(2.0, 30.0))
            module.launch(name, out, 5, pair, -2, np.float16(4), pair)
        else:
            module.launch(name, out)
        messages = [entry["message"] for entry in device.report()["diagnostics"]]
        found[name] = [out.numpy().tolist()[:4], messages]
    print(json.dumps(found))


main(*sys.argv[1:])
