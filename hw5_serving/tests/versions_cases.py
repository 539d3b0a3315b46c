"""Generators and oracles of task 5.11: adapters, states with checksums, a Llama in plain numpy."""

from __future__ import annotations

import hashlib
import struct
from typing import Any

import numpy as np

Array = np.ndarray
SIZES = {
    "vocab_size": 61, "hidden_size": 24, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2,
    "intermediate_size": 40, "max_positions": 256, "tied": False,
}  # fmt: skip


def drawn_adapters(
    rng: np.random.Generator, count: int, wide: int, tall: int, ranks: tuple[int, ...] = (1, 4, 8)
) -> list[dict[str, Any]]:
    """Adapters of layer "q" with ranks in turn, float32."""
    found = []
    for place in range(count):
        rank = ranks[place % len(ranks)]
        a = rng.standard_normal((rank, wide)) / wide**0.5
        b = rng.standard_normal((tall, rank)) / rank**0.5
        parts = {"q": [a.astype(np.float32), b.astype(np.float32)]}
        found.append({"parts": parts, "scale": float(rng.uniform(0.5, 3))})
    return found


def merged_answers(
    weight: Array, adapters: list[dict[str, Any]], x: Array, slots: Array, dtype: Any = np.float64
) -> Array:
    """Each slot's tokens through W + scale · B · A."""
    weight, x = weight.astype(dtype), x.astype(dtype)
    out = x @ weight.T
    for slot in np.unique(slots[slots >= 0]):
        parts = adapters[slot]["parts"]
        if "q" in parts:
            a, b = (part.astype(dtype) for part in parts["q"])
            whole = weight + adapters[slot]["scale"] * (b @ a)
            out[slots == slot] = x[slots == slot] @ whole.T
    return out


def shapes_of(sizes: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a Llama's state."""
    hidden, inner = sizes["hidden_size"], sizes["intermediate_size"]
    head = hidden // sizes["num_heads"]
    narrow = head * sizes["num_kv_heads"]
    found: dict[str, tuple[int, ...]] = {"embedding.weight": (sizes["vocab_size"], hidden)}
    for layer in range(sizes["num_layers"]):
        own = {
            "input_norm": (hidden,), "post_norm": (hidden,), "q_proj": (hidden, hidden),
            "k_proj": (narrow, hidden), "v_proj": (narrow, hidden), "o_proj": (hidden, hidden),
            "gate_proj": (inner, hidden), "up_proj": (inner, hidden), "down_proj": (hidden, inner),
        }  # fmt: skip
        found |= {f"layers.{layer}.{name}.weight": shape for name, shape in own.items()}
    found["norm.weight"] = (hidden,)
    if not sizes["tied"]:
        found["lm_head.weight"] = (sizes["vocab_size"], hidden)
    return found


def drawn_state(rng: np.random.Generator, sizes: dict[str, Any] = SIZES) -> dict[str, Array]:
    """Random weights, float32; attention sharp and the head untied, so that texts don't settle."""
    state = {}
    for name, shape in shapes_of(sizes).items():
        if len(shape) == 1:
            state[name] = rng.uniform(0.7, 1.3, shape).astype(np.float32)
        else:
            gain = 2.0 if "q_proj" in name or "k_proj" in name else 1.2
            state[name] = (gain * rng.standard_normal(shape) / shape[1] ** 0.5).astype(np.float32)
    return state


def checksum_of(state: dict[str, Array], bfloat16: bool = False) -> str:
    """The checksum as the task's text describes it; bfloat16: of the upper halves of float32."""
    text = b""
    for name, given in sorted(state.items()):
        values, kind = np.array(given, order="C"), str(given.dtype)
        if bfloat16:
            values, kind = (values.view(np.uint32) >> 16).astype(np.uint16), "bfloat16"
        shape = "x".join(str(size) for size in given.shape)
        for part in (name, kind, shape, values.tobytes()):
            own = part if isinstance(part, bytes) else part.encode("utf-8")
            text += struct.pack("<Q", len(own)) + own
    return hashlib.sha256(text).hexdigest()


def merged_state(
    state: dict[str, Array], adapter: dict[str, Any] | None, dtype: Any = np.float64
) -> dict[str, Array]:
    """A state with scale · B · A added to the layers of an adapter."""
    merged = {name: values.astype(dtype) for name, values in state.items()}
    if adapter is not None:
        for layer, (a, b) in adapter["parts"].items():
            merged[f"{layer}.weight"] += adapter["scale"] * (b.astype(dtype) @ a.astype(dtype))
    return merged


def drawn_model_adapter(
    rng: np.random.Generator, layers: list[str], rank: int, sizes: dict[str, Any] = SIZES
) -> dict[str, Any]:
    """An adapter of some layers of the model, large enough to change what is said."""
    shapes, parts = shapes_of(sizes), {}
    for layer in layers:
        tall, wide = shapes[f"{layer}.weight"]
        a = rng.standard_normal((rank, wide)) / wide**0.5
        parts[layer] = [a.astype(np.float32), rng.standard_normal((tall, rank)).astype(np.float32)]
    return {"parts": parts, "scale": float(rng.uniform(0.5, 1.5)) / rank**0.5}


def greedy(
    state: dict[str, Array], prompt: list[int], count: int, sizes: dict[str, Any] = SIZES
) -> tuple[list[int], float]:
    """`count` greedy tokens after the prompt, and the least lead of a best logit over the second.

    Everything anew for each token, in float64: no cache, no batch, nothing of the homework's code.
    """
    weights = {name: values.astype(np.float64) for name, values in state.items()}
    text, lead = list(prompt), np.inf
    for _ in range(count):
        logits = _last_logits(weights, np.array(text), sizes)
        second, best = np.partition(logits, -2)[-2:]
        lead = min(lead, float(best - second))
        text.append(int(logits.argmax()))
    return text[len(prompt) :], lead


def _last_logits(weights: dict[str, Array], ids: Array, sizes: dict[str, Any]) -> Array:
    heads, kv_heads = sizes["num_heads"], sizes["num_kv_heads"]
    count, width = len(ids), sizes["hidden_size"] // heads
    rates = 10_000.0 ** (-np.arange(0, width, 2) / width)
    turn = np.exp(1j * np.arange(count)[:, None] * rates)[:, None]  # (tokens, 1, width / 2)
    hidden = weights["embedding.weight"][ids]
    past = np.tril(np.ones((count, count), dtype=bool))
    for layer in range(sizes["num_layers"]):
        own = {
            name.split(".")[2]: values
            for name, values in weights.items() if name.startswith(f"layers.{layer}.")
        }  # fmt: skip
        x = _normed(hidden, own["input_norm"])
        query = _turned((x @ own["q_proj"].T).reshape(count, heads, width), turn)
        key = _turned((x @ own["k_proj"].T).reshape(count, kv_heads, width), turn)
        value = (x @ own["v_proj"].T).reshape(count, kv_heads, width)
        key, value = (np.repeat(part, heads // kv_heads, 1) for part in (key, value))
        scores = np.where(past, np.einsum("qhd,khd->hqk", query, key) / width**0.5, -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", shares, value).reshape(count, -1)
        hidden = hidden + mixed @ own["o_proj"].T
        x = _normed(hidden, own["post_norm"])
        gate = x @ own["gate_proj"].T
        hidden = hidden + (gate / (1 + np.exp(-gate)) * (x @ own["up_proj"].T)) @ own["down_proj"].T
    head = weights.get("lm_head.weight", weights["embedding.weight"])
    return head @ _normed(hidden, weights["norm.weight"])[-1]


def _normed(x: Array, gain: Array) -> Array:
    return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + 1e-5) * gain


def _turned(x: Array, turn: Array) -> Array:
    half = x.shape[-1] // 2
    turned = (x[..., :half] + 1j * x[..., half:]) * turn
    return np.concatenate([turned.real, turned.imag], -1)
