"""What the tests of task 3.8 compare adapters with: closed forms, peft's numbers, the small base."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny_model import Sizes, Weights, random_weights, reference_logits, tensors
from torch.nn import functional as F

GOLDEN = Path(__file__).resolve().parent / "golden"
ALL = ["query", "key", "value", "output", "gate", "up", "down"]
SMALL = Sizes(
    vocab_size=37, hidden_size=32, num_layers=2, num_heads=4, num_kv_heads=2, intermediate_size=48
)


def shape_of(sizes: Sizes, target: str) -> tuple[int, int]:
    """(out_features, in_features) of a linear layer of a block, or of the head."""
    width, inner = sizes.hidden_size, sizes.intermediate_size
    narrow = sizes.num_kv_heads * sizes.head_dim
    return {
        "query": (width, width), "key": (narrow, width), "value": (narrow, width),
        "output": (width, width), "gate": (inner, width), "up": (inner, width),
        "down": (width, inner), "head": (sizes.vocab_size, width),
    }[target]  # fmt: skip


def path_of(target: str, layer: int) -> str:
    """The layer's name in the model."""
    if target == "head":
        return "head"
    room = "attention" if target in ALL[:4] else "ffn"
    return f"blocks.{layer}.{room}.{target}"


def adapted_paths(sizes: Sizes, targets: list[str]) -> dict[str, str]:
    """The adapted layers' names in the model's order, and the target of each."""
    inner = [(path_of(t, i), t) for i in range(sizes.num_layers) for t in ALL if t in targets]
    return dict(inner + ([("head", "head")] if "head" in targets else []))


def random_adapter(
    rng: np.random.Generator, sizes: Sizes, rank: int, targets: list[str], scale: float = 0.3
) -> dict[str, np.ndarray]:
    """A and B, both not zero, under the names of `adapter_state`."""
    state = {}
    for path, target in adapted_paths(sizes, targets).items():
        out, wide = shape_of(sizes, target)
        state[f"{path}.lora_a"] = rng.normal(0, scale, (rank, wide)).astype(np.float32)
        state[f"{path}.lora_b"] = rng.normal(0, scale, (out, rank)).astype(np.float32)
    return state


def folded(
    weights: Weights, state: Weights, rank: int, alpha: float, dtype: Any = np.float64
) -> dict[str, np.ndarray]:
    """The weights with (alpha / rank) · B · A added, computed in `dtype`."""
    result = {name: np.asarray(array, dtype) for name, array in weights.items()}
    for name in state:
        if name.endswith(".lora_a"):
            path = name.removesuffix(".lora_a")
            a, b = (np.asarray(state[f"{path}.{part}"], dtype) for part in ("lora_a", "lora_b"))
            result[f"{path}.weight"] = result[f"{path}.weight"] + dtype(alpha / rank) * (b @ a)
    return result


def oracle_logits(weights: Weights, sizes: Sizes, ids: np.ndarray) -> np.ndarray:
    """Logits of a plain model in float64."""
    with torch.no_grad():
        return reference_logits(tensors(weights), sizes, torch.tensor(ids)).numpy()


@dataclass(frozen=True)
class Problem:
    """A tiny model, ids, and an adapter whose effect on the logits is large."""

    sizes: Sizes
    weights: dict[str, np.ndarray]
    ids: np.ndarray
    adapter: dict[str, np.ndarray]
    rank: int
    alpha: float
    targets: list[str]

    def asked(self) -> dict[str, Any]:
        """As `drivers_lora.adapted` takes it."""
        return {
            "sizes": self.sizes.fields(), "weights": self.weights, "ids": self.ids,
            "adapter": self.adapter, "rank": self.rank, "alpha": self.alpha,
            "targets": self.targets,
        }  # fmt: skip

    @property
    def plain(self) -> np.ndarray:
        """Logits without the adapter."""
        return oracle_logits(self.weights, self.sizes, self.ids)

    @property
    def expected(self) -> np.ndarray:
        """Logits with it."""
        both = folded(self.weights, self.adapter, self.rank, self.alpha)
        return oracle_logits(both, self.sizes, self.ids)


def random_problem(
    rng: np.random.Generator, targets: list[str] | None = None, sizes: Sizes = SMALL
) -> Problem:
    """One of random rank and alpha, where alpha / rank is never 1."""
    rank = int(rng.integers(2, 6))
    alpha = float(rank * rng.choice([0.5, 1.5, 2.0]))
    targets = targets or ["query", "value"]
    weights = random_weights(rng, sizes)
    ids = rng.integers(0, sizes.vocab_size, (2, int(rng.integers(5, 9))))
    adapter = random_adapter(rng, sizes, rank, targets)
    return Problem(sizes, weights, ids, adapter, rank, alpha, targets)


@dataclass(frozen=True)
class Golden:
    """What make_lora.py wrote: one problem a case, and peft's logits."""

    problems: dict[str, Problem]
    logits: dict[str, np.ndarray]


@cache
def golden() -> Golden:
    """peft's numbers."""
    with np.load(GOLDEN / "lora.npz") as file:
        arrays = {name: file[name] for name in file.files}
    sizes = Sizes(**json.loads(str(arrays["sizes"])))
    weights = {n: a for n, a in arrays.items() if n.endswith(".weight")}
    problems, logits = {}, {}
    for case, how in json.loads(str(arrays["cases"])).items():
        adapter = {
            n.removeprefix(f"{case}/"): a
            for n, a in arrays.items()
            if n.startswith(f"{case}/") and "lora_" in n
        }
        problems[case] = Problem(
            sizes, weights, arrays["ids"], adapter, how["rank"], how["alpha"], how["targets"]
        )
        logits[case] = arrays[f"{case}/logits"]
    return Golden(problems, logits)


@dataclass(frozen=True)
class SmallBase:
    """What make_small_base.py wrote: a pretrained model, another kind of text, and its yardstick."""

    sizes: Sizes
    weights: dict[str, np.ndarray]
    train: np.ndarray
    held_out: np.ndarray
    loss: float
    fine_tuned_loss: float
    recipe: dict[str, Any]


@cache
def small_base() -> SmallBase:
    """The committed model, in float32."""
    with np.load(GOLDEN / "small_base.npz") as file:
        arrays = {name: file[name] for name in file.files}
    weights = {n: a.astype(np.float32) for n, a in arrays.items() if n.endswith(".weight")}
    before, after = arrays["losses"].tolist()
    return SmallBase(
        Sizes(**json.loads(str(arrays["sizes"]))), weights, arrays["train"], arrays["held_out"],
        before, after, json.loads(str(arrays["recipe"])),
    )  # fmt: skip


def held_out_loss(weights: Weights, sizes: Sizes, rows: np.ndarray) -> float:
    """Mean loss of every byte but each row's first, in nats, by the tests' own forward pass."""
    text = torch.tensor(rows.astype(np.int64))
    with torch.no_grad():
        logits = reference_logits(tensors(weights, torch.float32), sizes, text[:, :-1])
        return float(F.cross_entropy(logits.flatten(0, 1), text[:, 1:].flatten()))


def batch_order(rng: np.random.Generator, rows: int, steps: int, size: int) -> np.ndarray:
    """(steps, size) places, every row once an epoch."""
    epochs = -(-steps * size // rows)
    order = np.concatenate([rng.permutation(rows) for _ in range(epochs)])
    return order[: steps * size].reshape(steps, size)
