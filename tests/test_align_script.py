"""Homework 3's align.py: a resumed run logs what one that never stopped does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from autograder.batch.mutants import reference_files
from autograder.course.assignment import load_assignment
from autograder.course.overlay import build_overlay

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The reference's package with align.py beside it."""
    homework = load_assignment(ROOT / "hw3_transformer")
    made = build_overlay(
        homework, reference_files(homework), tmp_path_factory.mktemp("align") / "x"
    )
    shutil.copy(homework.root / "align.py", made)
    return made


def align(folder: Path, *arguments: str, fails: bool = False) -> str:
    """What a run says."""
    done = subprocess.run(
        [sys.executable, "align.py", *arguments], cwd=folder, capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "LLM_SYSTEMS_DATA": str(folder / "no data")},
    )  # fmt: skip
    assert (done.returncode != 0) is fails, done.stderr[-2000:]
    return done.stdout + done.stderr


def steps(folder: Path, out: str) -> list[dict]:
    """The logged steps, without times."""
    lines = (folder / out / "log.jsonl").read_text(encoding="utf-8").splitlines()
    found = [{k: v for k, v in json.loads(x).items() if k != "seconds"} for x in lines]
    return [record for record in found if "loss" in record]


@pytest.mark.parametrize(
    "command", [["dpo", "--tiny", "--pairs", "60", "--held-out", "20"], ["grpo", "--prompts", "4"]],
    ids=["dpo", "grpo"],
)  # fmt: skip
def test_a_resumed_run_is_the_one_that_never_stopped(folder, command):
    """25 steps at once, and 25 in two runs of which the first logged more than it saved."""
    kind = command[0]
    align(folder, *command, "--steps", "25", "--out", f"{kind}-whole")
    align(folder, *command, "--steps", "14", "--out", f"{kind}-parts")
    log = folder / f"{kind}-parts" / "log.jsonl"
    with log.open("a", encoding="utf-8") as file:  # as a kill leaves it
        file.write('{"step": 15, "loss": 9.0}\n{"step": 16, "lo')
    align(folder, *command, "--steps", "25", "--resume", "--out", f"{kind}-parts")
    whole, parts = (steps(folder, f"{kind}-{name}") for name in ("whole", "parts"))
    assert len(whole) == 25 and parts == whole
    assert list((folder / f"{kind}-parts").glob("*.svg"))
    said = align(folder, *command, "--seed", "5", "--resume", "--out", f"{kind}-parts", fails=True)
    assert "seed was 0" in said, said
    if kind == "dpo":
        assert whole[0]["loss"] == pytest.approx(0.6931, abs=1e-3)
        assert whole[-1]["chosen"] - whole[-1]["rejected"] > 0.5
