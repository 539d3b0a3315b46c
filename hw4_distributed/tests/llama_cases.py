"""One process's Llama on the trusted side, written anew: what 4.5 and 4.6 are compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

# How far roundings carry. A sum of n products as computed is the exact one of factors that are off by
# at most n roundings each (its backward error), so a run with roundings is, to first order, an exact
# run with weights off by a few u, whatever the order of the sums. So the weights are moved by ±u32 =
# 2^-24 of themselves, at random, in float64, four times, and what that moves a tensor by (the largest
# element) is its sensitivity. With n ≤ 32 products a sum and 2 for all that is no product, the bound
# is 64 times that, scaled by u. That all four moves cancel to less than 1/64 of their usual size has
# a probability below (1/64)^4 = 6e-8 even where one number decides; a run's own errors would have to
# be as large as the bound besides.
FACTOR, MOVES = 64.0, 4
U = {"float64": 2.0**-53, "float32": 2.0**-24}


def sizes(**changed: Any) -> dict[str, Any]:
    """A small model's ModelConfig: nothing in it divides evenly by 3 or 4 unless asked for."""
    config = {
        "vocab_size": 29, "hidden_size": 20, "num_layers": 2, "num_heads": 5,
        "intermediate_size": 22, "max_positions": 16, "rope_theta": 100.0, "norm_eps": 1e-5,
        "tie_embeddings": False,
    }  # fmt: skip
    return {**config, **changed}


def random_state(rng: np.random.Generator, config: dict[str, Any]) -> dict[str, np.ndarray]:
    """Weights by name, float64 arrays that float32 holds exactly; no head where it is tied."""
    hidden, inner, vocab = (config[k] for k in ("hidden_size", "intermediate_size", "vocab_size"))
    shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (vocab, hidden)}
    for i in range(config["num_layers"]):
        block = f"blocks.{i}."
        shapes[block + "attention_norm.weight"] = shapes[block + "ffn_norm.weight"] = (hidden,)
        for name in ("query", "key", "value", "output"):
            shapes[f"{block}attention.{name}.weight"] = (hidden, hidden)
        shapes[block + "ffn.gate.weight"] = shapes[block + "ffn.up.weight"] = (inner, hidden)
        shapes[block + "ffn.down.weight"] = (hidden, inner)
    shapes["norm.weight"] = (hidden,)
    if not config["tie_embeddings"]:
        shapes["head.weight"] = (vocab, hidden)
    state = {}
    for name, shape in shapes.items():
        if len(shape) == 1:
            drawn = rng.uniform(0.5, 1.5, shape)
        else:
            drawn = rng.standard_normal(shape) / np.sqrt(shape[1])
        state[name] = drawn.astype(np.float32).astype(np.float64)
    return state


def random_batch(rng: np.random.Generator, config: dict[str, Any], rows: int, time: int) -> dict:
    """{"ids", "targets"}: (rows, time) int64; the first and the last id of all occur."""
    drawn = rng.integers(0, config["vocab_size"], (2, rows, time))
    drawn[:, 0, 0], drawn[:, -1, -1] = 0, config["vocab_size"] - 1
    return {"ids": drawn[0], "targets": drawn[1]}


def _normed(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + eps) * weight


def _rotated(x: Tensor, theta: float) -> Tensor:
    """x: (batch, heads, time, width): halves as real and imaginary parts, turned."""
    time, width = x.shape[-2:]
    angles = torch.arange(time)[:, None] * theta ** (-torch.arange(0, width, 2) / width)
    turn = torch.complex(angles.cos().to(x.dtype), angles.sin().to(x.dtype))
    turned = torch.complex(x[..., : width // 2], x[..., width // 2 :]) * turn
    return torch.cat([turned.real, turned.imag], -1)


def _attention(config: dict[str, Any], w: dict[str, Tensor], x: Tensor, block: str) -> Tensor:
    batch, time, hidden = x.shape
    heads = config["num_heads"]
    q, k, v = (
        (x @ w[f"{block}attention.{name}.weight"].T).view(batch, time, heads, -1).transpose(1, 2)
        for name in ("query", "key", "value")
    )
    q, k = (_rotated(part, config["rope_theta"]) for part in (q, k))
    scores = q @ k.transpose(-1, -2) / (hidden // heads) ** 0.5
    future = torch.ones(time, time, dtype=torch.bool).triu(1)
    mixed = scores.masked_fill(future, -torch.inf).softmax(-1) @ v
    return (
        mixed.transpose(1, 2).reshape(batch, time, hidden) @ w[f"{block}attention.output.weight"].T
    )


def logits_of(config: dict[str, Any], w: dict[str, Tensor], ids: Tensor) -> Tensor:
    """(batch, time) -> (batch, time, vocab_size)."""
    eps, x = config["norm_eps"], w["embedding.weight"][ids]
    for i in range(config["num_layers"]):
        block = f"blocks.{i}."
        x = x + _attention(config, w, _normed(x, w[block + "attention_norm.weight"], eps), block)
        seen = _normed(x, w[block + "ffn_norm.weight"], eps)
        gate, up = (seen @ w[f"{block}ffn.{name}.weight"].T for name in ("gate", "up"))
        x = x + (gate * gate.sigmoid() * up) @ w[block + "ffn.down.weight"].T
    head = w["embedding.weight"] if config["tie_embeddings"] else w["head.weight"]
    return _normed(x, w["norm.weight"], eps) @ head.T


def _mean_loss(logits: Tensor, targets: Tensor) -> Tensor:
    flat = logits.flatten(0, -2)
    chosen = flat.gather(1, targets.flatten()[:, None])[:, 0]
    return (flat.logsumexp(1) - chosen).mean()


def _run(config: dict[str, Any], state: dict[str, np.ndarray], batches: list[dict[str, Any]],
         lr: float, frozen: list[str]) -> dict[str, Any]:  # fmt: skip
    w = {name: torch.tensor(value) for name, value in state.items()}
    for name in w:
        w[name].requires_grad_(name not in frozen)
    found = []
    for batch in batches:
        logits = logits_of(config, w, torch.tensor(batch["ids"]))
        loss = _mean_loss(logits, torch.tensor(batch["targets"]))
        loss.backward()
        gradients = {name: None if t.grad is None else t.grad.numpy().copy()
                     for name, t in w.items()}  # fmt: skip
        found.append({"logits": logits.detach().numpy(), "loss": loss.item(),
                      "gradients": gradients})  # fmt: skip
        with torch.no_grad():
            for t in w.values():
                if t.grad is not None:
                    t -= lr * t.grad
                    t.grad = None
    return {"steps": found, "state": {name: t.detach().numpy() for name, t in w.items()}}


def _bound(exact: np.ndarray, moved: list[np.ndarray], dtype: str) -> float:
    """What an element may be off: 64 moves, and never less than 16 roundings of the largest."""
    move = max(np.abs(other - exact).max(initial=0.0) for other in moved) / U["float32"]
    return U[dtype] * max(FACTOR * move, 16 * np.abs(exact).max(initial=0.0))


def one_process(
    config: dict[str, Any], state: dict[str, np.ndarray], batches: list[dict[str, Any]],
    dtype: str = "float64", lr: float = 0.0, frozen: list[str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What one process gets in float64, and the bounds for a divided run in `dtype`.

    "steps": by step {"logits", "loss", "gradients", "bounds": the same keys}; "state",
    "state_bounds". A loss moves by at most twice what its logits move by, and has fewer than 64
    roundings of its own.
    """
    exact = _run(config, state, batches, lr, frozen or [])
    signs = np.random.default_rng(0)
    moved = []
    for _ in range(MOVES):
        near = {
            n: v * (1 + U["float32"] * signs.choice([-1.0, 1.0], v.shape)) for n, v in state.items()
        }
        moved.append(_run(config, near, batches, lr, frozen or []))
    for place, step in enumerate(exact["steps"]):
        others = [other["steps"][place] for other in moved]
        logits = _bound(step["logits"], [other["logits"] for other in others], dtype)
        top = np.abs(step["logits"]).max()
        step["bounds"] = {
            "logits": logits,
            "loss": 2 * logits + 64 * U[dtype] * (top + abs(step["loss"])),
            "gradients": {
                name: None
                if g is None
                else _bound(g, [o["gradients"][name] for o in others], dtype)
                for name, g in step["gradients"].items()
            },
        }
    exact["state_bounds"] = {
        name: _bound(value, [other["state"][name] for other in moved], dtype)
        for name, value in exact["state"].items()
    }
    return exact


def assert_near(got: Any, wanted: Any, bound: Any, name: str, hint: str = "") -> None:
    """Every element within `bound`, one for all or one each; shapes equal; NaN is never near."""
    got, wanted = np.asarray(got), np.asarray(wanted)
    tail = f"\nhint: {hint}" if hint else ""
    assert got.shape == wanted.shape, f"{name} has shape {got.shape}, expected {wanted.shape}{tail}"
    off = ~(np.abs(got.astype(np.float64) - wanted) <= bound)
    if off.any():
        place = tuple(int(i) for i in np.argwhere(off)[0])
        raise AssertionError(
            f"{name}: {int(off.sum())} of {off.size} elements are off; at {place} expected "
            f"{wanted[place]:.9g} within {np.broadcast_to(bound, off.shape)[place]:.2g}, got {got[place]:.9g}{tail}"
        )
