"""Counts that theory gives, exactly: with each compiler and optimisation, every time."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from count_cases import CASES  # noqa: E402

COMPILERS = [name for name in ("g++", "clang++") if shutil.which(name)]


@pytest.fixture(scope="module", params=[(c, o) for c in COMPILERS for o in ("-O1", "-O2", "-O3")],
                ids=lambda pair: f"{pair[0]}{pair[1]}")  # fmt: skip
def counted(request):
    """The counts of all cases, ten times, with one compiler at one level."""
    done = subprocess.run(
        [sys.executable, str(HERE / "run_counts.py"), *request.param, "10"],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_counts_are_those_of_theory(counted, case):
    """Each count equals the number derived by hand, ten times in a row."""
    for run in counted:
        found = run[case.name]["counts"]
        got = {name: found[name] for name in case.expected}
        assert got == case.expected, f"{case.name}: {case.why}"
        assert not run[case.name]["diagnostics"]
