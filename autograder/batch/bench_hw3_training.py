"""Benchmark of homework 3's training step: tokens/s, share of the machine's peak, memory.

Our model and transformers' Llama of the same sizes and weights take the same steps in turn, in one
process, on one thread, by its CPU time, which holds on a busy machine; their losses have to agree.
The peak is the best of this machine's products of large matrices in the same process, one thread. transformers is an optional peer: without
it our own figures are there, and the ratios say that it is not installed. To measure beside another
installation of it: `/its/venv/bin/python -m autograder bench --only train_`.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autograder.batch.bench import Row, benchmark, own_or_reference
from autograder.course.assignment import load_assignment
from autograder.course.overlay import build_overlay
from autograder.sandbox.host import REPOSITORY

HOMEWORK = "hw3_transformer"
PEER = "transformers, the same model"
SIZES = {
    "vocab_size": 8192, "hidden_size": 256, "num_layers": 4, "num_heads": 4, "num_kv_heads": 2,
    "intermediate_size": 704, "max_positions": 256,
}  # fmt: skip
ROWS, TIME, ROUNDS = 4, 256, 3
# Two right float32 implementations differ by rounding only; four steps of AdamW spread it.
AGREE = 1e-3
NAMES = (
    "train_tokens_per_second", "train_tokens_vs_transformers", "train_model_flops_utilisation",
    "train_bf16_vs_fp32", "train_peak_memory_mb", "train_peak_memory_vs_transformers",
    "train_rematerialised_memory_ratio", "train_gemm_peak_gflops",
)  # fmt: skip


@benchmark(*NAMES)
def training(work: Path) -> Iterator[Row]:
    """One process for all; rows in the order of NAMES."""
    assignment = load_assignment(REPOSITORY / HOMEWORK)
    overlay = build_overlay(assignment, own_or_reference(assignment), work / "overlay")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", __name__, str(overlay)], cwd=REPOSITORY, capture_output=True,
        text=True, env=environment,
    )  # fmt: skip
    if done.returncode:
        note = (done.stderr.strip().splitlines() or ["ended without a word"])[-1][:120]
        for name in NAMES:
            yield Row(name, None, "", "higher", PEER, note=note)
        return
    yield from _rows(json.loads(done.stdout.splitlines()[-1]))


def _rows(found: dict[str, Any]) -> Iterator[Row]:
    """The table of what the process measured."""
    tokens, flops = ROWS * TIME, found["flops"]
    runs = found["runs"]
    ours, theirs = runs["ours"], runs.get("transformers")
    seconds = min(ours["seconds"])  # the best step, as the peak is of the best product
    absent = found["absent"]
    yield Row("train_tokens_per_second", tokens / seconds, "tokens/s", "higher", "", None,
              f"{found['parameters'] / 1e6:.0f} M parameters, one thread, float32, by CPU time")  # fmt: skip
    value, note = None, absent
    if theirs:
        value = _ratio(theirs, ours, "seconds")
        note = f"{tokens / seconds:.0f} and {tokens / min(theirs['seconds']):.0f} tokens/s"
    yield Row("train_tokens_vs_transformers", value, "x", "higher", PEER, 1.0, note)
    peak = found["peak"]
    used = flops / seconds / 1e9
    note = f"{used:.0f} of {peak['float32']:.0f} GFLOP/s"
    if theirs:
        other = flops / min(theirs["seconds"]) / 1e9 / peak["float32"]
        note += f"; transformers {100 * other:.0f}%"
    yield Row("train_model_flops_utilisation", 100 * used / peak["float32"], "%", "higher",
              "the machine's GEMM peak", None, note)  # fmt: skip
    half = runs["bf16"]
    share = flops / min(half["seconds"]) / 1e9 / peak["bfloat16"]
    yield Row("train_bf16_vs_fp32", _ratio(ours, half, "seconds"), "x", "higher", "float32", None,
              f"{100 * share:.0f}% of a bfloat16 peak of {peak['bfloat16']:.0f} GFLOP/s")  # fmt: skip
    memory = statistics.median(ours["megabytes"])
    yield Row("train_peak_memory_mb", memory, "MB", "lower", "", None,
              "more than before the step, gradients included")  # fmt: skip
    value, note = None, absent
    if theirs:
        value = memory / statistics.median(theirs["megabytes"])
        note = f"{memory:.0f} and {statistics.median(theirs['megabytes']):.0f} MB"
    yield Row("train_peak_memory_vs_transformers", value, "x", "lower", PEER, None, note)
    thin = statistics.median(runs["rematerialised"]["megabytes"])
    slower = _ratio(runs["rematerialised"], ours, "seconds")
    yield Row("train_rematerialised_memory_ratio", thin / memory, "x", "lower", "all kept", None,
              f"{thin:.0f} MB, a step takes {slower:.2f} times as long")  # fmt: skip
    yield Row("train_gemm_peak_gflops", peak["float32"], "GFLOP/s", "higher", "", None,
              "torch, 768 cubed, one thread, best of all rounds")  # fmt: skip


def _ratio(above: dict[str, list[float]], below: dict[str, list[float]], key: str) -> float:
    """Median of the ratios, round by round."""
    return statistics.median(a / b for a, b in zip(above[key], below[key], strict=True))


@dataclass
class _Runner:
    """A model that takes a step on ids (rows, time + 1) and says its loss."""

    step: Callable[[Any], float]


def _ours(weights: dict[str, Any], **options: Any) -> _Runner:
    """The homework's train_step."""
    import torch

    from language_model.config import ModelConfig  # type: ignore[import-not-found]
    from language_model.model import Llama  # type: ignore[import-not-found]
    from language_model.training import train_step  # type: ignore[import-not-found]
    from language_model.training_setup import (  # type: ignore[import-not-found]
        Batch,
        Settings,
        make_optimizer,
    )

    model = Llama(ModelConfig(**SIZES))
    model.load_state_dict({name: weight.clone() for name, weight in weights.items()})
    optimizer = make_optimizer(model, 0.1)
    settings = Settings(peak=0, warmup_steps=0, total_steps=1, chunk_rows=256, **options)

    def step(ids: Any) -> float:
        batch = Batch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())
        return train_step(model, optimizer, [batch], 1e-3, settings).loss

    torch.manual_seed(0)
    return _Runner(step)


def _transformers(weights: dict[str, Any]) -> _Runner:
    """The same step written with transformers and torch, as its users write it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=SIZES["vocab_size"], hidden_size=SIZES["hidden_size"],
        num_hidden_layers=SIZES["num_layers"], num_attention_heads=SIZES["num_heads"],
        num_key_value_heads=SIZES["num_kv_heads"], intermediate_size=SIZES["intermediate_size"],
        max_position_embeddings=SIZES["max_positions"], rope_theta=10_000.0, rms_norm_eps=1e-5,
        tie_word_embeddings=True, attention_bias=False, use_cache=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config).train()
    names = {
        "attention_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
        "attention.query": "self_attn.q_proj", "attention.key": "self_attn.k_proj",
        "attention.value": "self_attn.v_proj", "attention.output": "self_attn.o_proj",
        "ffn.gate": "mlp.gate_proj", "ffn.up": "mlp.up_proj", "ffn.down": "mlp.down_proj",
    }  # fmt: skip
    state = {"model.embed_tokens.weight": weights["embedding.weight"],
             "model.norm.weight": weights["norm.weight"]}  # fmt: skip
    for layer in range(SIZES["num_layers"]):
        for own, other in names.items():
            state[f"model.layers.{layer}.{other}.weight"] = weights[f"blocks.{layer}.{own}.weight"]
    state["lm_head.weight"] = weights["embedding.weight"]
    model.load_state_dict({name: weight.clone() for name, weight in state.items()})
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    norms = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": norms, "weight_decay": 0.0}],
        lr=1e-3, betas=(0.9, 0.95),
    )  # fmt: skip

    def step(ids: Any) -> float:
        optimizer.zero_grad(set_to_none=True)
        logits = model(input_ids=ids[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return _Runner(step)


def _measured(overlay: str) -> dict[str, Any]:
    """In a process of its own: seconds and megabytes of every step of each, and the peak."""
    import torch

    sys.path.insert(0, overlay)
    from language_model.config import ModelConfig  # type: ignore[import-not-found]
    from language_model.model import Llama  # type: ignore[import-not-found]

    torch.set_num_threads(1)
    first = Llama(ModelConfig(**SIZES)).initialize(0)
    weights = {name: weight.detach() for name, weight in first.named_parameters()}
    runners = {"ours": _ours(weights), "bf16": _ours(weights, bf16=True),
               "rematerialised": _ours(weights, rematerialize=True)}  # fmt: skip
    absent = "" if importlib.util.find_spec("transformers") else "not installed: transformers"
    if not absent:
        runners["transformers"] = _transformers(weights)
    found: dict[str, Any] = {
        name: {"seconds": [], "megabytes": [], "losses": []} for name in runners
    }
    peak = {"float32": 0.0, "bfloat16": 0.0}
    generator = torch.Generator().manual_seed(1)
    for place in range(ROUNDS + 1):
        ids = torch.randint(0, SIZES["vocab_size"], (ROWS, TIME + 1), generator=generator)
        for kind in peak:
            peak[kind] = max(peak[kind], _gemm(getattr(torch, kind)))
        for name, runner in runners.items():
            seconds, megabytes, loss = _one(runner, ids)
            found[name]["losses"].append(loss)
            if place:  # the first round warms up
                found[name]["seconds"].append(seconds)
                found[name]["megabytes"].append(megabytes)
    for name in ("transformers", "rematerialised"):
        for one, other in zip(found["ours"]["losses"], found.get(name, found["ours"])["losses"],
                              strict=True):  # fmt: skip
            if abs(one - other) > AGREE:
                raise ValueError(f"not the same training: losses {one} and {other} of {name}")
    parameters = sum(weight.numel() for weight in weights.values())
    # 6 a weight and token (the tied matrix as the head), 12 · layers · width · time for attention.
    attention = 12 * SIZES["num_layers"] * SIZES["hidden_size"] * TIME
    return {"runs": found, "peak": peak, "parameters": parameters, "absent": absent,
            "flops": (6 * parameters + attention) * ROWS * TIME}  # fmt: skip


def _one(runner: _Runner, ids: Any) -> tuple[float, float, float]:
    """Seconds, the most resident memory over that before, in MB (nan off Linux), and the loss."""
    status = Path("/proc/self/status")
    before = float("nan")
    _give_back()
    if status.exists():
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew
        before = _kilobytes(status, "VmRSS")
    started = time.process_time()
    loss = runner.step(ids)
    seconds = time.process_time() - started
    after = _kilobytes(status, "VmHWM") if status.exists() else float("nan")
    return seconds, (after - before) / 1e3, loss


def _give_back() -> None:
    """Let the allocator return what nobody holds, or the next step's memory would seem free."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _kilobytes(status: Path, field: str) -> float:
    line = next(x for x in status.read_text().splitlines() if x.startswith(field))
    return float(line.split()[1])


def _gemm(kind: Any) -> float:
    """GFLOP/s of the best of many products of 768 by 768, short enough for a busy machine."""
    import torch

    n = 768
    a, b = torch.randn(n, n).to(kind), torch.randn(n, n).to(kind)
    best = float("inf")
    for _ in range(20):
        started = time.process_time()
        torch.mm(a, b)
        best = min(best, time.process_time() - started)
    return 2 * n**3 / best / 1e9


if __name__ == "__main__":
    print(json.dumps(_measured(sys.argv[1])))
