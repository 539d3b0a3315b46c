"""Homework 4's reference over gloo's own transport, started as on a cluster: a check for staff."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from autograder.batch.bench_hw4 import no_loopback

HOMEWORK = Path(__file__).parents[1] / "hw4_distributed"
SCRIPT = HOMEWORK / "hidden" / "over_gloo.py"
CHECKS = 2 * 8  # each of the script's checks, started at once and in batches


@pytest.mark.skipif(not SCRIPT.is_file(), reason="a student's copy")
@pytest.mark.parametrize("size", [2, 3])
def test_everything_is_as_in_one_process(size):
    if reason := no_loopback():
        pytest.skip(reason)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone",
         "--nproc-per-node", str(size), str(SCRIPT)],
        cwd=HOMEWORK, capture_output=True, text=True, timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.count(": as one process") == CHECKS, done.stdout
