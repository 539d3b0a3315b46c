"""What every figure of this homework begins with: its package on the path, the reference in the place
of the stubs where there is one. In a student's folder that is the student's own code."""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
HOMEWORK = FOLDER.parent
sys.path += [str(HOMEWORK), str(HOMEWORK.parent), str(HOMEWORK / "tests")]

import serving  # noqa: E402

SOLUTION = HOMEWORK / "solution" / "serving"
if SOLUTION.is_dir():
    serving.__path__.insert(0, str(SOLUTION))
