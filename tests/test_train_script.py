"""Homework 3's train.py, killed by SIGKILL at random moments and resumed, ends as if it never was."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from autograder.batch.mutants import reference_files
from autograder.course.assignment import load_assignment
from autograder.course.overlay import build_overlay

ROOT = Path(__file__).parents[1]
STEPS = 40
OPTIONS = [
    "--corpus", "corpus", "--steps", str(STEPS), "--rows", "2", "--accumulate", "2", "--width", "32",
    "--layers", "2", "--heads", "4", "--kv-heads", "2", "--warmup", "5", "--threads", "1",
    "--save-every", "3", "--resume",
]  # fmt: skip


def start(folder: Path, out: str) -> subprocess.Popen:
    """train.py in `folder`, its output discarded."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    return subprocess.Popen(
        [sys.executable, "train.py", *OPTIONS, "--out", out], cwd=folder, env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def records(folder: Path, out: str) -> list[dict]:
    """The log without times; half a line at its end is left out."""
    path = folder / out / "log.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [{k: v for k, v in json.loads(x).items() if k != "seconds"} for x in lines]


def killed_at(folder: Path, out: str, lines: int, delay: float) -> bool:
    """Start, wait until the log has `lines` lines and `delay` seconds more, kill. True if it died."""
    run = start(folder, out)
    deadline = time.monotonic() + 120
    while len(records(folder, out)) < lines and run.poll() is None:
        assert time.monotonic() < deadline, "train.py logs nothing"
        time.sleep(0.002)
    time.sleep(delay)
    run.send_signal(signal.SIGKILL)
    _, errors = run.communicate()
    assert run.returncode in (0, -signal.SIGKILL), errors.decode()[-2000:]
    return run.returncode == -signal.SIGKILL


def test_a_killed_training_run_ends_in_the_same_bits(tmp_path):
    """Twice killed at random steps, resumed each time: log, curve and weights equal in every bit."""
    homework = load_assignment(ROOT / "hw3_transformer")
    folder = build_overlay(homework, reference_files(homework), tmp_path / "overlay")
    for script in ("train.py", "prepare_corpus.py"):
        shutil.copy(homework.root / script, folder)
    source = tmp_path / "texts"
    source.mkdir()
    for place in range(40):
        words = [f"word{(place * 7 + i * i) % 97}" for i in range(60)]
        (source / f"{place}.txt").write_text(" ".join(words) + ".\n", encoding="utf-8")
    subprocess.run(
        [sys.executable, "prepare_corpus.py", "corpus", str(source), "--bytes", "--row-length", "64"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    seed = random.randrange(2**32)
    draw = random.Random(seed)
    stops = sorted(draw.sample(range(4, STEPS - 4), 2))
    deaths = [killed_at(folder, "broken", stop, draw.uniform(0, 0.02)) for stop in stops]
    for out in ("broken", "straight"):
        run = start(folder, out)
        _, errors = run.communicate(timeout=240)
        assert run.returncode == 0, errors.decode()[-2000:]
    assert any(deaths), f"the run was never killed before its end (seed {seed})"
    straight, broken = records(folder, "straight"), records(folder, "broken")
    losses = [record["loss"] for record in straight if "loss" in record]
    assert len(losses) == STEPS and losses[-1] < losses[0], losses
    assert broken == straight, f"the logs differ (seed {seed}, killed at lines {stops})"
    states = [
        torch.load(folder / out / "run.pt", weights_only=True) for out in ("straight", "broken")
    ]
    assert states[0]["losses"] == states[1]["losses"] == losses
    for name, weight in states[0]["model"].items():
        assert torch.equal(weight, states[1]["model"][name]), name
