"""Benchmarks of homework 5: perplexity of SmolLM2-135M after int8, AWQ and pruning, all 30 layers.

The graded tests measure the whole model in int8, but AWQ on single layers and Wanda on ten: the full
measures take too long for every submission. Codes, scales and masks come from the homework's code
(in a student's copy the student's), perplexity from tests/real_cases.py, on prose_public; what AWQ
and Wanda look at is prose_calibration. Embedding and norms stay in floats, but for AWQ's folding.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from autograder.batch.bench import Row, benchmark, own_or_reference
from autograder.course import data
from autograder.course.assignment import load_assignment
from autograder.course.overlay import build_overlay
from autograder.sandbox.host import REPOSITORY

HOMEWORK = "hw5_serving"
TIMEOUT = 1800
TOKENS = 448  # of the text that perplexity is measured on
INT8, AWQ = (8, 192, False), (4, 64, False)  # bits, group, symmetric
AWQ_STEPS, AWQ_EVERY, SPARSITY = 5, 2, 0.5  # the search sees every second token: 30 layers are many


@benchmark("int8_perplexity_ratio")
def int8(work: Path) -> Iterator[Row]:
    """Every matrix of the layers in 8 bits, asymmetric groups of 192, over float32."""
    yield _row(work, "int8_perplexity_ratio", "int8", "float32", "float32", 1.01)


@benchmark("awq_vs_rtn_perplexity")
def awq(work: Path) -> Iterator[Row]:
    """4 bits, asymmetric groups of 64: with AWQ's scales, over rounding to nearest."""
    yield _row(work, "awq_vs_rtn_perplexity", "awq", "nearest", "round to nearest", 1.0)


@benchmark("wanda_vs_magnitude_perplexity")
def wanda(work: Path) -> Iterator[Row]:
    """Half of each row gone, by Wanda's scores, over half of each row by size."""
    yield _row(work, "wanda_vs_magnitude_perplexity", "wanda", "magnitude", "magnitude", 0.3)


def _row(work: Path, name: str, ours: str, theirs: str, peer: str, target: float) -> Row:
    """The ratio of two variants' perplexities; without the weights no value."""
    found = _measured(work, ours)
    if isinstance(found, str):
        return Row(name, None, "x", "lower", peer, target, found)
    note = f"{TOKENS} tokens: " + ", ".join(f"{key} {value:.2f}" for key, value in found.items())
    return Row(name, found[ours] / found[theirs], "x", "lower", peer, target, note)


def _measured(work: Path, kind: str) -> dict[str, float] | str:
    """Perplexities by variant, from a process of its own, or why there are none."""
    path = data.find("smollm2")
    if path is None:
        return data.needs(["smollm2"])
    assignment = load_assignment(REPOSITORY / HOMEWORK)
    overlay = build_overlay(assignment, own_or_reference(assignment), work / f"overlay-{kind}")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(overlay), str(path), kind], cwd=REPOSITORY,
            capture_output=True, text=True, timeout=TIMEOUT, env=environment,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"no end within {TIMEOUT} s"
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["ended without a word"])[-1][:120]
    return json.loads(done.stdout.splitlines()[-1])


def _variants(kind: str) -> dict[str, Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]]:
    """By name: a layer's weights, and what its matrices read of the calibration text, to weights."""
    from drivers_layer import pruned_layer, rounded_layer, scaled_layer
    from real_cases import MATRICES, READERS, arrays, dequantized, flat

    def put_back(weights: dict[str, Any], parts: dict[str, Any], bits: int, group: int) -> Any:
        return {name: dequantized(parts[name], weights[name].shape, bits, group) for name in parts}

    def nearest(how: tuple[int, int, bool]) -> Callable[..., dict[str, Any]]:
        return lambda weights, seen: (
            weights | put_back(weights, rounded_layer(arrays(weights), *how), *how[:2])
        )

    def scaled(weights: dict[str, Any], seen: dict[str, Any]) -> dict[str, Any]:
        names = (*MATRICES, "input_norm", "post_norm")
        rows = {source: inputs[::AWQ_EVERY] for source, inputs in flat(seen).items()}
        got = scaled_layer(arrays(weights, names), rows, *AWQ, steps=AWQ_STEPS)
        norms = {n: weights[n].new_tensor(norm) for n, norm in got["norms"].items()}
        return weights | norms | put_back(weights, got["parts"], *AWQ[:2])

    def pruned(weights: dict[str, Any], seen: dict[str, Any]) -> dict[str, Any]:
        masks = pruned_layer(arrays(weights), flat(seen), READERS, SPARSITY)
        return weights | {n: weights[n] * weights[n].new_tensor(masks[n]) for n in masks}

    def by_size(weights: dict[str, Any], seen: dict[str, Any]) -> dict[str, Any]:
        same = {source: inputs.new_ones(1, inputs.shape[-1]) for source, inputs in seen.items()}
        return pruned(weights, same)

    plain = {"float32": lambda weights, seen: weights}
    return plain | {
        "int8": {"int8": nearest(INT8)},
        "awq": {"nearest": nearest(AWQ), "awq": scaled},
        "wanda": {"magnitude": by_size, "wanda": pruned},
    }[kind]  # fmt: skip


def _measure(overlay: str, path: str, kind: str) -> dict[str, float]:
    """Perplexity of each variant, layer by layer, the calibration text beside them."""
    tests = REPOSITORY / HOMEWORK / "tests"
    sys.path[:0] = [overlay, str(tests)]
    import numpy as np
    from real_cases import open_model
    from real_measures import calibration

    model, variants = open_model(Path(path)), _variants(kind)
    ids = np.load(tests / "golden" / "prose_public.npy")[None, :TOKENS]
    streams = dict.fromkeys(variants, model.embedded(ids))
    reading = model.embedded(calibration())
    for number in range(model.sizes.layers):
        weights, seen = model.layer(number), {}
        reading = model.run_layer(weights, reading, seen)
        streams = {
            name: model.run_layer(change(weights, seen), streams[name])
            for name, change in variants.items()
        }
    return {name: model.perplexity(stream, ids) for name, stream in streams.items()}


if __name__ == "__main__":
    print(json.dumps(_measure(*sys.argv[1:])))
