"""Homework 4's train.py over gloo: every mode's curve is that of one process, checkpoints go on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from autograder.batch.bench_hw4 import no_loopback

HOMEWORK = Path(__file__).parents[1] / "hw4_distributed"
# One start for all modes of a world: torch's import and the rendezvous cost seconds.
RUNNER = """
import runpy, sys
sys.path.insert(0, {root!r})
import distributed_training
distributed_training.__path__.insert(0, {root!r} + "/solution/distributed_training")
from distributed_training.torch_channel import TorchCommunicator
TorchCommunicator.close = lambda self: None
modes, rest = sys.argv[1].split(","), sys.argv[2:]
for mode in modes:
    rest_of_mode = [word.replace("MODE", mode) for word in rest]
    sys.argv = ["train.py", "--mode", mode, "--out", mode + ".jsonl", *rest_of_mode]
    runpy.run_path({root!r} + "/train.py", run_name="__main__")
"""
TINY = ["--steps", "4", "--batch", "4", "--time", "16", "--width", "16", "--layers", "2", "--heads",
        "2", "--microbatches", "2", "--backend", "gloo", "--eps", "0.1", "--lr", "0.03"]  # fmt: skip
# Sums of at most 256 float32 products, in another order: a gradient differs by about
# 256 · 2⁻²⁴ = 1.5e-5 of its size. AdamW's step is lr · m / (√v + eps): a gradient that is off by d
# moves a weight by at most lr · d / eps. With lr = 0.03, eps = 0.1 (so large that a step depends on
# the gradient's size, and a sum in place of a mean shows) and gradients of at most 0.1 that is
# 4.6e-7 a weight and step; the loss moves by that times the gradient's 1-norm (< 10). Over 3
# updates: 1.4e-5. A loss of 5.6 itself is rounded by some 2⁻²² in either run.
BOUND = 1.5e-5
WORLDS = {"single": 1, "dp": 2, "zero1": 2, "zero2": 2, "zero3": 2, "tp": 2, "pp": 2, "dp_pp": 4,
          "dp_tp": 4}  # fmt: skip


def start(folder: Path, modes: list[str], size: int, *more: str) -> None:
    """Run the modes one after another on `size` ranks; logs are in `folder`."""
    runner = folder / "runner.py"
    runner.write_text(RUNNER.format(root=str(HOMEWORK)), encoding="utf-8")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size)]
    done = subprocess.run(
        [sys.executable, *(launch if size > 1 else []), str(runner), ",".join(modes), *TINY, *more],
        cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """By mode, the lines of its log."""
    if reason := no_loopback():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("train")
    for size in (1, 2, 4):
        start(folder, [mode for mode, ranks in WORLDS.items() if ranks == size], size)
    return {mode: lines(folder / f"{mode}.jsonl") for mode in WORLDS}


def lines(path: Path) -> list[dict]:
    """A log's lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("mode", [mode for mode in WORLDS if mode != "single"])
def test_a_mode_reaches_the_curve_of_one_process(logs, mode):
    """Loss by loss within the bound of another order of sums."""
    losses, single = ([line["loss"] for line in logs[each]] for each in (mode, "single"))
    differences = [abs(a - b) for a, b in zip(losses, single, strict=True)]
    assert max(differences) <= BOUND, f"{mode}: {losses}, one process: {single}"
    assert logs[mode][-1]["bytes"] > 0 == logs["single"][-1]["bytes"]


@pytest.fixture(scope="module")
def resumed(logs, tmp_path_factory):
    """By mode, the log of a run that goes on after step 2 of zero3 on two ranks."""
    folder = tmp_path_factory.mktemp("resumed")
    start(folder, ["zero3"], 2, "--steps", "2", "--save", "begun")
    for mode in ("zero3", "zero2", "pp", "single"):
        shutil.copytree(folder / "begun", folder / f"save_{mode}")
    start(folder, ["zero3", "zero2", "pp"], 2, "--save", "save_MODE", "--resume")
    start(folder, ["single"], 1, "--save", "save_MODE", "--resume")
    return {mode: lines(folder / f"{mode}.jsonl") for mode in ("zero3", "zero2", "pp", "single")}


def test_a_run_that_goes_on_is_the_same_run(logs, resumed):
    """On as many ranks as before: the same bits, and the bytes are counted on."""
    assert resumed["zero3"] == logs["zero3"]


@pytest.mark.parametrize("mode", ["zero2", "pp", "single"])
def test_a_checkpoint_goes_on_in_another_mode(logs, resumed, mode):
    """Loss by loss within the bound; AdamW's means are taken over, or the second step is off."""
    wanted = [line["loss"] for line in logs["single"]][2:]
    got = [line["loss"] for line in resumed[mode]]
    assert [line["step"] for line in resumed[mode]] == [3, 4]
    differences = [abs(a - b) for a, b in zip(got, wanted, strict=True)]
    assert max(differences) <= BOUND, f"{mode}: {got}, one process: {wanted}"
