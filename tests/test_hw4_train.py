"""Homework 4's train.py over gloo: every mode's curve is that of one process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

HOMEWORK = Path(__file__).parents[1] / "hw4_distributed"
RUNNER = """
import runpy, sys
sys.path.insert(0, {root!r})
import distributed_training
distributed_training.__path__.insert(0, {root!r} + "/solution/distributed_training")
runpy.run_path({root!r} + "/train.py", run_name="__main__")
"""
TINY = ["--steps", "4", "--batch", "4", "--time", "16", "--width", "16", "--layers", "2", "--heads",
        "2", "--microbatches", "2", "--backend", "gloo"]  # fmt: skip
# Sums of at most 256 float32 products, in another order: a gradient differs by about
# 256 · 2⁻²⁴ = 1.5e-5 of its size. AdamW's step is lr · m / (√v + eps): a gradient that is off by d
# moves a weight by at most lr · d / eps. With lr = 3e-3, eps = 1e-4 and gradients of 0.1 at most
# that is 4.6e-5 a weight and step; the loss moves by that times the gradient's 1-norm (< 10).
# Over 3 updates: 1.4e-3.
BOUND = 1.4e-3


def trained(folder: Path, mode: str, size: int, *more: str) -> list[dict]:
    """The log of a run on `size` ranks."""
    runner = folder / "runner.py"
    runner.write_text(RUNNER.format(root=str(HOMEWORK)), encoding="utf-8")
    log = folder / f"{mode}-{'-'.join(more)}.jsonl"
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size)]
    done = subprocess.run(
        [sys.executable, *(start if size > 1 else []), str(runner), "--mode", mode, *TINY, *more,
         "--out", str(log)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """One process's curve."""
    try:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
    except OSError as error:
        pytest.skip(f"gloo needs a loopback socket: {error}")
    lines = trained(tmp_path_factory.mktemp("single"), "single", 1)
    assert lines[-1]["bytes"] == 0
    return [line["loss"] for line in lines]


@pytest.mark.parametrize("mode", ["dp", "zero1", "zero2", "zero3", "tp", "pp", "dp_pp", "dp_tp"])
def test_a_mode_reaches_the_curve_of_one_process(single, mode, tmp_path):
    """Loss by loss within the bound of another order of sums."""
    lines = trained(tmp_path, mode, 4 if mode in ("dp_pp", "dp_tp") else 2)
    losses = [line["loss"] for line in lines]
    differences = [abs(a - b) for a, b in zip(losses, single, strict=True)]
    print(mode, max(differences), lines[-1]["bytes"])
    assert max(differences) <= BOUND, f"{mode}: {losses}, one process: {single}"
    assert lines[-1]["bytes"] > 0
