"""Benchmarks of homework 3's data path: memory against the size of the corpus, and its speed.

Each reading runs in a process of its own, which imports numpy and the reference only; its peak
memory is the kernel's figure, asked for after it ended.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from autograder.batch.bench import Row, benchmark, own_or_reference
from autograder.batch.run import environment
from autograder.course.assignment import load_assignment
from autograder.course.overlay import build_overlay
from autograder.sandbox.host import REPOSITORY

HOMEWORK = "hw3_transformer"
SMALL_MB, LARGE_MB = 20, 2_200
MB = 1 << 20

_WRITE = """
import sys
import numpy as np
from language_model.stream_format import CorpusWriter
rng = np.random.default_rng(0)
left = int(sys.argv[2]) << 20
with CorpusWriter(sys.argv[1], 50_000, shard_bytes=64 << 20, durable=False) as writer:
    text = rng.integers(0, 50_000, 1 << 20)
    while left > 0:
        length = int(rng.lognormal(7.5, 1.0)) + 1
        start = int(rng.integers(0, len(text) - length)) if length < len(text) else 0
        writer.add([text[start : start + length]])
        left -= 2 * length
"""
_READ = """
import sys
from language_model.stream import Corpus, TokenStream
corpus = Corpus(sys.argv[1])
stream = TokenStream(corpus, 64, seed=3)
tokens = 0
for _ in range(stream.steps_per_epoch):
    tokens += sum(len(document) for sample in next(stream) for document in sample)
assert tokens == corpus.manifest.tokens, "an epoch is not the whole corpus"
print(len(corpus), tokens)
print(open("/proc/self/status").read())
"""
_TOUCH = """
import sys
import numpy as np
from language_model.stream_format import read_manifest
folder, tokens = sys.argv[1], 0
for shard in read_manifest(folder).shards:
    tokens += len(np.array(np.memmap(folder + "/" + shard.files["tokens"].name, "<u2", "r")))
print(tokens)
"""


@benchmark("corpus_memory", "corpus_memory_growth_mb", "corpus_memory_read_mb_per_s")
def corpus_memory(work: Path) -> Iterator[Row]:
    """Peak memory of reading all of a corpus of 2.2 GB, in shuffled order, against one of 20 MB."""
    name, growth, speed = "corpus_memory", "corpus_memory_growth_mb", "corpus_memory_read_mb_per_s"
    if shutil.disk_usage(work).free < 2 * LARGE_MB * MB:
        yield Row(name, None, "x", "lower", note=f"needs {2 * LARGE_MB >> 10} GB of disk")
        return
    assignment = load_assignment(REPOSITORY / HOMEWORK)
    overlay = build_overlay(assignment, own_or_reference(assignment), work / "overlay")
    peaks, seconds, size = {}, {}, {}
    for megabytes in (SMALL_MB, LARGE_MB):
        folder = work / f"corpus-{megabytes}"
        _run(overlay, _WRITE, folder, megabytes)
        size[megabytes] = sum(path.stat().st_size for path in folder.iterdir())
        _run(overlay, _TOUCH, folder)  # so that the clock does not time the disk
        started = time.perf_counter()
        found = _run(overlay, _READ, folder)
        seconds[megabytes] = time.perf_counter() - started
        peak = re.search(r"VmHWM:\s+(\d+) kB", found)
        peaks[megabytes] = int(peak[1]) * 1024 if peak else 0
        shutil.rmtree(folder)
    if not all(peaks.values()):
        yield Row(name, None, "x", "lower", note="needs Linux's /proc")
        return
    small, large = peaks[SMALL_MB], peaks[LARGE_MB]
    about = f"{size[LARGE_MB] / 1e9:.2f} GB read with {large / MB:.0f} MB, "
    about += f"{SMALL_MB} MB with {small / MB:.0f}"
    yield Row(name, large / small, "x", "lower", f"a corpus of {SMALL_MB} MB", 1.5, about)
    yield Row(growth, max(large - small, 0) / MB, "MB", "lower", f"a corpus of {SMALL_MB} MB", 64)
    rate = (size[LARGE_MB] - size[SMALL_MB]) / MB / (seconds[LARGE_MB] - seconds[SMALL_MB])
    yield Row(speed, rate, "MB/s", "higher", note="shuffled documents, mean 6 kB, one thread")


def _run(overlay: Path, code: str, *arguments: object) -> str:
    """What the code prints, run by a fresh interpreter that finds the homework's package."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True,
        env={**environment(), "PYTHONPATH": str(overlay), "OMP_NUM_THREADS": "1",
             "PATH": os.environ.get("PATH", "")},
        check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-2000:])
    return done.stdout
