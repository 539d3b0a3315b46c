"""Benchmarks of homework 3: decoding SmolLM2-135M against transformers, and the grading.

Both models live in one process of their own, with the same number of threads, and decode in turn.
transformers is an optional peer (`pip install transformers accelerate`): without it, or without the
real weights, the rows say so. To measure beside another installation of it:
`/its/venv/bin/python -m autograder bench --only decode --json FILE`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from autograder.batch.bench import Row, benchmark, own_or_reference
from autograder.batch.grade import Grading, grade_files
from autograder.course import data
from autograder.course.assignment import load_assignment
from autograder.course.intake import Submission
from autograder.course.overlay import build_overlay
from autograder.sandbox.host import REPOSITORY

HOMEWORK = "hw3_transformer"
PEER = "transformers generate"
PROMPT, NEW_TOKENS, ROUNDS = 16, 32, 5
TARGETS = {1: 1.0, 16: 1.4}
# Logits of two right implementations differ by less; a nearer tie may fall either way.
TIE = 1e-2


class NotComparable(Exception):
    """The two did not write the same text; the message is the row's note."""


@benchmark(*(f"decode_b{rows}_vs_transformers" for rows in TARGETS))
def decoding(work: Path) -> Iterator[Row]:
    """Greedy decoding of the same prompts, ours on the KV cache, in turn with transformers."""
    names = {rows: f"decode_b{rows}_vs_transformers" for rows in TARGETS}
    path = data.find("smollm2")
    missing = ""
    if importlib.util.find_spec("transformers") is None:
        missing = "not installed: transformers"
    elif path is None:
        missing = data.needs(["smollm2"])
    if missing:
        for rows, name in names.items():
            yield Row(name, None, "x", "higher", PEER, TARGETS[rows], missing)
        return
    assignment = load_assignment(REPOSITORY / HOMEWORK)
    overlay = build_overlay(assignment, own_or_reference(assignment), work / "overlay")
    for rows, name in names.items():
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(overlay), str(path), str(rows)],
            cwd=REPOSITORY, capture_output=True, text=True, env=_environment(),
        )  # fmt: skip
        if done.returncode:
            note = (done.stderr.strip().splitlines() or ["ended without a word"])[-1][:120]
            yield Row(name, None, "x", "higher", PEER, TARGETS[rows], note)
            continue
        found = json.loads(done.stdout.splitlines()[-1])
        ratio = statistics.median(theirs / ours for ours, theirs in found["seconds"])
        ours, theirs = (
            rows * NEW_TOKENS / min(pair[place] for pair in found["seconds"]) for place in (0, 1)
        )
        note = f"{ours:.0f} and {theirs:.0f} tokens/s, {found['threads']} threads, float32"
        yield Row(name, ratio, "x", "higher", PEER, TARGETS[rows], note)


@benchmark(f"grade_seconds_{HOMEWORK}")
def grading(work: Path) -> Iterator[Row]:
    """A full grading of the reference."""
    assignment = load_assignment(REPOSITORY / HOMEWORK)
    graded = grade_files(assignment, Submission(own_or_reference(assignment), []), None, Grading())
    report = graded.report
    name = f"grade_seconds_{HOMEWORK}"
    if report is None:
        yield Row(name, None, "s", "lower", "", 90, graded.refused[:120])
        return
    note = f"{report.score:g} of {report.maximum:g} points"
    yield Row(name, report.seconds, "s", "lower", "", 90, note)


def _environment() -> dict[str, str]:
    """This one, with the repository to import from and nothing to fetch."""
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false"}  # fmt: skip


def _pairs(overlay: str, path: str, rows: int) -> dict[str, Any]:
    """In a process of its own: seconds of ours and of theirs in each round, texts compared."""
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM

    sys.path.insert(0, overlay)
    from language_model.generation import generate  # type: ignore[import-not-found]
    from language_model.gguf_loader import load_gguf  # type: ignore[import-not-found]

    ours = load_gguf(path)
    file = Path(path)
    theirs = AutoModelForCausalLM.from_pretrained(
        str(file.parent), gguf_file=file.name, dtype=torch.float32
    ).eval()
    # Both write to the end: a stop token is one like any other.
    theirs.generation_config.eos_token_id, theirs.generation_config.pad_token_id = None, 0
    with np.load(REPOSITORY / HOMEWORK / "tests" / "golden" / "smollm2.npz") as golden:
        text = golden["following"]
    seconds = []
    for place in range(ROUNDS + 1):
        starts = [(11 * place + 5 * row) % (len(text) - PROMPT) for row in range(rows)]
        ids = torch.tensor(np.stack([text[start : start + PROMPT] for start in starts]))
        own, got = _timed(lambda ids=ids: generate(ours, ids.tolist(), NEW_TOKENS))
        other, answer = _timed(lambda ids=ids: theirs.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=NEW_TOKENS
        ))  # fmt: skip
        _compare(theirs, ids, got, answer[:, PROMPT:].tolist())
        if place:  # the first pair warms up
            seconds.append((own, other))
    return {"seconds": seconds, "threads": torch.get_num_threads()}


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    value = call()
    return time.perf_counter() - started, value


def _compare(model: Any, ids: Any, ours: list[list[int]], theirs: list[list[int]]) -> None:
    """Each row's tokens are equal up to a near tie; raises NotComparable."""
    import torch

    for row, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        if len(one) != len(other):
            raise NotComparable(f"{len(one)} and {len(other)} tokens in row {row}")
        pairs = enumerate(zip(one, other, strict=True))
        place = next((i for i, (a, b) in pairs if a != b), None)
        if place is None:
            continue
        context = torch.tensor([[*ids[row].tolist(), *one[:place]]])
        with torch.no_grad():
            logits = model(context).logits[0, -1]
        gap = float(logits[other[place]] - logits[one[place]])
        if abs(gap) > TIE:
            raise NotComparable(f"row {row} differs at token {place}, {gap:.3g} apart")


if __name__ == "__main__":
    print(json.dumps(_pairs(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
