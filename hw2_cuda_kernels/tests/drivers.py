"""The glue between tests and the student's kernels: plain functions, arrays in, arrays out.

Staff files: a submission can't replace them. The drivers of each file of kernels are in a
`drivers_<file>.py` beside this one; here they come together, so that a test names any of them as
`drivers.…`. They import the package inside their bodies, because this module is also loaded where
no student code may run.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from autograder import kernels

kernels.prepare()

# Task -> function that builds its file for the emulator: run once a submission, in a worker that
# may write the cache which later workers only read.
WARM_UP: dict[str, Any] = {}

_home: dict[str, str] = {}
for _path in sorted(Path(__file__).parent.glob("drivers_*.py")):
    for _name, _value in vars(importlib.import_module(_path.stem)).items():
        if _name.startswith("WARM_UP_"):
            WARM_UP.update(_value)
        elif getattr(_value, "__module__", "") == _path.stem and not _name.startswith("_"):
            if _name in _home:
                raise ImportError(f"{_name} is a driver in {_home[_name]} and in {_path.stem}")
            _home[_name] = _path.stem
            globals()[_name] = _value
