"""Benchmarks of homework 5: decoding with packed weights, serving beside transformers, cache slots.

Ours and the peer live in one process, with the same number of threads, and take turns, so that a
busy machine slows both. transformers is an optional peer (`pip install transformers accelerate`):
without it, or without the real weights, the rows say so. To measure beside another installation:
`/its/venv/bin/python -m autograder bench --only serve --json FILE`.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autograder.batch.bench import Row, benchmark, own_or_reference
from autograder.course import data
from autograder.course.assignment import load_assignment
from autograder.course.overlay import build_overlay
from autograder.sandbox.host import REPOSITORY

HOMEWORK = "hw5_serving"
PEER = "transformers generate, static batches"
FLOATS = "the same engine, float32 weights in torch"
# Requests side by side -> requests in all. The aim is set for 16; the other sizes inform.
REQUESTS = {1: 10, 4: 20, 16: 48, 64: 192}
SERVING_TARGETS = {16: 2.0}
QUANTISED_TARGET, SLOTS_TARGET = 2.5, 0.98
BITS, GROUP = 4, 64
PAIRS, CONTEXT = 24, 64
TIE = 1e-2  # two right implementations' logits differ by less; a nearer tie may fall either way


def serving_name(rows: int) -> str:
    """The row of this many requests side by side."""
    return f"serve_b{rows}_vs_transformers"


@dataclass(frozen=True)
class Request:
    """One of a load: a prompt, and how many tokens its answer has."""

    prompt: list[int]
    tokens: int


def eighty_twenty(
    ids: list[int], count: int, prompts: tuple[int, int], short: tuple[int, int],
    long: tuple[int, int],
) -> list[Request]:  # fmt: skip
    """`count` requests, a fifth of them with long answers, in random order; prompts cut from `ids`.

    Lengths are uniform in the ranges given, both ends included. The same at every call.
    """
    import numpy as np

    rng = np.random.default_rng(80_20)
    is_long = rng.permutation(count) < count // 5
    found = []
    for place in range(count):
        low, high = long if is_long[place] else short
        begin = int(rng.integers(len(ids) - prompts[1]))
        prompt = ids[begin : begin + int(rng.integers(prompts[0], prompts[1] + 1))]
        found.append(Request(prompt, int(rng.integers(low, high + 1))))
    return found


@benchmark("quantised_decode_b1_vs_fp32")
def quantised_decoding(work: Path) -> Iterator[Row]:
    """A whole decode step with every matrix packed, the embedding too, in turn with float32."""
    found = _measured(work, "quantised")
    row = ("quantised_decode_b1_vs_fp32", "x", "higher", FLOATS, QUANTISED_TARGET)
    if isinstance(found, str):
        yield _row(row, None, found)
        return
    parts = []
    for threads, pairs in found["seconds"].items():
        slow, fast = (1e3 * statistics.median(each) for each in zip(*pairs, strict=True))
        parts.append(
            f"{threads} threads: {_ratio(pairs):.2f}x, {slow:.0f} and {fast:.0f} ms a token"
        )
    most = max(found["seconds"], key=int)
    note = (f"{BITS} bits, groups of {GROUP}, {found['megabytes']:.0f} MB; {'; '.join(parts)}; "
            f"load {found['load']:.1f}")  # fmt: skip
    yield _row(row, _ratio(found["seconds"][most]), note)


def serving(work: Path, rows: int) -> Iterator[Row]:
    """Tokens a second on the same 80/20 load: continuous batching, and static batches."""
    row = (serving_name(rows), "x", "higher", PEER, SERVING_TARGETS.get(rows))
    if importlib.util.find_spec("transformers") is None:
        yield _row(row, None, "not installed: transformers")
        return
    found = _measured(work, "serve", str(rows))
    if isinstance(found, str):
        yield _row(row, None, found)
        return
    ours, theirs = (found["tokens"] / found[name] for name in ("ours", "theirs"))
    note = (f"{ours:.0f} and {theirs:.0f} tokens/s, {found['requests']} requests, "
            f"{found['steps']} steps, {found['threads']} threads, float32, "
            f"load {found['load']:.1f}")  # fmt: skip
    yield _row(row, found["theirs"] / found["ours"], note)


for _rows in REQUESTS:  # each by itself, so that --only runs no other size
    benchmark(serving_name(_rows))(functools.partial(serving, rows=_rows))


@benchmark("kv_slots_used")
def cache_slots(work: Path) -> Iterator[Row]:
    """Of the slots in blocks that requests hold, those that hold a token: the mean over all steps."""
    found = _measured(work, "slots")
    row = ("kv_slots_used", "of slots held", "higher", "", SLOTS_TARGET)
    if isinstance(found, str):
        yield _row(row, None, found)
        return
    note = (f"80/20 load of {found['requests']} requests, texts of {found['mean']:.0f} tokens, "
            f"blocks of 16, {found['steps']} steps, {found['preempted']} preemptions")  # fmt: skip
    yield _row(row, found["used"], note)


def _row(row: tuple[str, str, str, str, float | None], value: float | None, note: str) -> Row:
    name, unit, better, peer, target = row
    return Row(name, value, unit, better, peer, target, note)


def _ratio(pairs: list[list[float]]) -> float:
    return statistics.median(floats / packed for floats, packed in pairs)


def _measured(work: Path, kind: str, *arguments: str) -> dict[str, Any] | str:
    """What a process over the reference found, or why it found nothing."""
    path = data.find("smollm2")
    if path is None:
        return data.needs(["smollm2"])
    overlay = work / "overlay"
    if not overlay.exists():
        assignment = load_assignment(REPOSITORY / HOMEWORK)
        build_overlay(assignment, own_or_reference(assignment), overlay)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1",
                   "TOKENIZERS_PARALLELISM": "false"}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", __name__, kind, str(overlay), str(path), *arguments],
        cwd=REPOSITORY, capture_output=True, text=True, env=environment,
    )  # fmt: skip
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["ended without a word"])[-1][:160]
    return json.loads(done.stdout.splitlines()[-1])


def _texts(path: str) -> list[int]:
    """Token ids of the language reference that comes with Python: prompts are cut from it."""
    import pydoc_data.topics as reference

    from serving.tokenizer import Tokenizer  # type: ignore[import-not-found]

    return Tokenizer.from_gguf(path).encode("\n".join(list(reference.topics.values())[:12]))


def _quantised(path: str) -> dict[str, Any]:
    """Seconds of a step with floats and with packed weights, in turn, by number of threads."""
    import torch

    from serving.config import EngineConfig  # type: ignore[import-not-found]
    from serving.engine import Engine  # type: ignore[import-not-found]
    from serving.gguf_loader import load_gguf  # type: ignore[import-not-found]
    from serving.packed_linear import quantise_model  # type: ignore[import-not-found]
    from serving.sequence import SamplingParams  # type: ignore[import-not-found]

    load = os.getloadavg()[0]
    models = [load_gguf(path), load_gguf(path)]
    held = quantise_model(models[1], BITS, GROUP)
    _check_packed(models[1])
    prompt = _texts(path)[:CONTEXT]
    most = torch.get_num_threads()
    seconds: dict[int, list[tuple[float, float]]] = {}
    for threads in dict.fromkeys((most, 1)):
        torch.set_num_threads(threads)
        engines = [Engine(model, EngineConfig(num_blocks=16)) for model in models]
        for engine in engines:
            engine.submit(prompt, SamplingParams(max_new_tokens=PAIRS + 8))
            engine.step()  # the prompt
        for place in range(PAIRS + 3):
            pair = []
            for engine in engines:
                started = time.perf_counter()
                engine.step()
                pair.append(time.perf_counter() - started)
            if place >= 3:  # those before compile the kernels and warm up
                seconds.setdefault(threads, []).append((pair[0], pair[1]))
    return {"seconds": seconds, "megabytes": held / 1e6, "load": load}


def _check_packed(model: Any) -> None:
    """Every packed layer gives what its floats give, for one row and for many; else ValueError."""
    import torch

    from serving.packed_linear import PackedLinear  # type: ignore[import-not-found]

    for name, layer in model.named_modules():
        if not isinstance(layer, PackedLinear):
            continue
        x = torch.randn(8, layer.in_features, generator=torch.Generator().manual_seed(1))
        expected = x @ layer.weight.dequantize().T
        # Sums of `in_features` products: rounded in another order, by at most that many half ulps.
        bound = layer.in_features * 2.0**-24 * float(expected.abs().max()) * 4
        for rows in (1, 8):
            if not torch.allclose(layer(x[:rows]), expected[:rows], rtol=0, atol=bound):
                raise ValueError(f"{name} does not multiply by its own weights")


def _serve(path: str, rows: int) -> dict[str, Any]:
    """Seconds for one load, ours and theirs, a batch of theirs and as many tokens of ours in turn."""
    import torch
    from transformers import AutoModelForCausalLM

    from serving.config import EngineConfig  # type: ignore[import-not-found]
    from serving.engine import Engine  # type: ignore[import-not-found]
    from serving.gguf_loader import load_gguf  # type: ignore[import-not-found]
    from serving.sequence import SamplingParams  # type: ignore[import-not-found]

    load = os.getloadavg()[0]
    file = Path(path)
    theirs = AutoModelForCausalLM.from_pretrained(
        str(file.parent), gguf_file=file.name, dtype=torch.float32
    ).eval()
    # Both write to the end: a stop token is one like any other.
    theirs.generation_config.eos_token_id, theirs.generation_config.pad_token_id = None, 0
    requests = eighty_twenty(_texts(path), REQUESTS[rows], (16, 48), (8, 24), (96, 128))
    config = EngineConfig(num_blocks=11 * rows, token_budget=max(64, 4 * rows), max_sequences=rows)
    ours = load_gguf(path)
    Engine(ours, config).generate([requests[0].prompt] * min(rows, 4))
    _static(theirs, [Request(requests[0].prompt, 4)])
    engine = Engine(ours, config)
    numbers = [engine.submit(r.prompt, SamplingParams(max_new_tokens=r.tokens)) for r in requests]
    wanted = sum(request.tokens for request in requests)
    answers: dict[int, list[int]] = {}
    got: list[list[int]] = []
    seconds, made = [0.0, 0.0], 0
    for begin in range(0, len(requests), rows):
        started = time.perf_counter()
        got += _static(theirs, requests[begin : begin + rows])
        seconds[1] += time.perf_counter() - started
        started = time.perf_counter()
        while engine.busy and (
            len(got) == len(requests) or made < wanted * len(got) / len(requests)
        ):
            answers.update((done.request_id, done.answer) for done in engine.step())
            made += sum(map(len, engine.new_tokens.values()))
        seconds[0] += time.perf_counter() - started
    for request, number, other in zip(requests, numbers, got, strict=True):
        _compare(theirs, request, answers[number], other)
    return {"ours": seconds[0], "theirs": seconds[1], "tokens": wanted, "load": load,
            "requests": len(requests), "steps": len(engine.history),
            "threads": torch.get_num_threads()}  # fmt: skip


def _static(model: Any, batch: list[Request]) -> list[list[int]]:
    """transformers' answers: the batch runs until its longest answer is written."""
    import torch

    wide = max(len(request.prompt) for request in batch)
    ids = torch.zeros(len(batch), wide, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, request in enumerate(batch):  # padded on the left, as generate wants it
        ids[row, wide - len(request.prompt) :] = torch.tensor(request.prompt)
        mask[row, wide - len(request.prompt) :] = 1
    most = max(request.tokens for request in batch)
    out = model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=most)
    return [row[: r.tokens] for row, r in zip(out[:, wide:].tolist(), batch, strict=True)]


def _compare(model: Any, request: Request, one: list[int], other: list[int]) -> None:
    """The answers are equal up to a near tie; else ValueError."""
    import torch

    if len(one) != request.tokens or len(other) != request.tokens:
        raise ValueError(f"{len(one)} and {len(other)} tokens, {request.tokens} were asked for")
    place = next((i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b), None)
    if place is None:
        return
    with torch.no_grad():
        logits = model(torch.tensor([[*request.prompt, *one[:place]]])).logits[0, -1]
    gap = float(logits[other[place]] - logits[one[place]])
    if abs(gap) > TIE:
        raise ValueError(f"the answers differ at token {place}, {gap:.3g} apart")


def _slots(path: str) -> dict[str, Any]:
    """Slots used, on a load of chat-like lengths. What the model computes has no part in it: a tiny
    one stands in, so that hundreds of steps take seconds."""
    import torch

    from serving.config import EngineConfig, LlamaSizes  # type: ignore[import-not-found]
    from serving.engine import Engine  # type: ignore[import-not-found]
    from serving.model import Llama  # type: ignore[import-not-found]
    from serving.sequence import SamplingParams  # type: ignore[import-not-found]

    torch.set_num_threads(1)
    torch.manual_seed(0)
    ids = [token % 64 for token in _texts(path)]
    requests = eighty_twenty(ids, 48, (256, 768), (16, 64), (200, 300))
    config = EngineConfig(num_blocks=360, token_budget=256, max_sequences=12)
    engine = Engine(Llama(LlamaSizes(64, 16, 1, 2, 1, 16)), config)
    for request in requests:
        engine.submit(request.prompt, SamplingParams(max_new_tokens=request.tokens))
    shares = []
    while engine.busy:
        engine.step()
        filled: dict[int, int] = {}  # block -> its slots that hold a token, whoever shares it
        for sequence in engine.scheduler.running:
            for place, block in enumerate(sequence.block_table):
                there = min(
                    sequence.num_computed_tokens - place * config.block_size, config.block_size
                )
                filled[block] = max(filled.get(block, 0), there)
        held = sum(count > 0 for count in engine.blocks.ref_counts)
        if held:
            shares.append(sum(filled.values()) / (held * config.block_size))
    return {"used": statistics.mean(shares), "requests": len(requests), "steps": len(shares),
            "mean": statistics.mean(len(r.prompt) + r.tokens / 2 for r in requests),
            "preempted": sum(len(step.preempted) for step in engine.history)}  # fmt: skip


if __name__ == "__main__":
    kind, overlay, path, *rest = sys.argv[1:]
    sys.path.insert(0, overlay)
    run = {"quantised": _quantised, "serve": _serve, "slots": _slots}[kind]
    print(json.dumps(run(path, *map(int, rest))))
