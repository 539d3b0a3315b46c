"""What the tests of task 3.8 compare selections with: plain numpy, and pools of known quality."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from lora_cases import GOLDEN
from tiny_model import Sizes, Weights, reference_logits, tensors
from torch.nn import functional as F

POOL, CHOSEN, NOISY, COPIES, ORIGINALS = 150, 15, 45, 60, 4


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1; zeros stay."""
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.where(lengths == 0, 1, lengths)


def most_similar(features: np.ndarray, validation: np.ndarray, k: int) -> np.ndarray:
    """By the whole matrix of cosines."""
    scores = (unit(features) @ unit(validation).T).mean(1)
    return np.argsort(-scores, kind="stable")[:k]


def farthest_first(embeddings: np.ndarray, k: int, first: int) -> np.ndarray:
    """By the whole matrix of distances, in float64."""
    between = np.linalg.norm(embeddings[:, None] - embeddings[None], axis=-1)
    chosen = [first]
    for _more in range(k - 1):
        nearest = between[chosen].min(0)
        if nearest.max() == 0:
            break
        chosen.append(int(nearest.argmax()))
    return np.array(chosen)


@dataclass(frozen=True)
class Pool:
    """Examples of three kinds: 0 good ones, 1 copies of a few, 2 with wrong labels."""

    ids: np.ndarray
    targets: np.ndarray
    kinds: np.ndarray
    validation: np.ndarray
    held_out: np.ndarray

    def asked(self) -> dict[str, np.ndarray]:
        """As `select_from_pools` takes it; int32, which is less to send."""
        return {
            "ids": self.ids, "targets": self.targets, "validation ids": self.validation[:, :-1],
            "validation targets": self.validation[:, 1:],
        }  # fmt: skip


@cache
def selection_base() -> tuple[Sizes, dict[str, np.ndarray], np.ndarray]:
    """The tiny pretrained model, and windows of text in the spelling that it does not know."""
    with np.load(GOLDEN / "selection_base.npz") as file:
        arrays = {name: file[name] for name in file.files}
    weights = {n: a.astype(np.float32) for n, a in arrays.items() if n.endswith(".weight")}
    windows = np.concatenate([arrays["train"], arrays["held_out"]]).astype(np.int32)
    return Sizes(**json.loads(str(arrays["sizes"]))), weights, windows


def random_pool(rng: np.random.Generator) -> Pool:
    """30% good, 40% copies of four windows, 30% with random bytes as targets, in any order."""
    _, _, windows = selection_base()
    windows = windows[rng.permutation(len(windows))]
    good = POOL - NOISY - COPIES
    few = windows[good : good + ORIGINALS]
    rest = windows[good + ORIGINALS :]
    copies = few[rng.integers(0, ORIGINALS, COPIES)]
    rows = np.concatenate([windows[:good], copies, rest[:NOISY]])
    ids, targets = rows[:, :-1].copy(), rows[:, 1:].copy()
    targets[good + COPIES :] = rng.integers(32, 127, targets[good + COPIES :].shape)
    kinds = np.repeat([0, 1, 2], [good, COPIES, NOISY])
    order = rng.permutation(POOL)
    rest = rest[NOISY:]
    return Pool(ids[order], targets[order], kinds[order], rest[:10], rest[10:58])


def loss_after(
    ids: np.ndarray, targets: np.ndarray, held_out: np.ndarray, seed: int, steps: int = 20,
    rows: int = 8, rate: float = 1e-3,
) -> float:  # fmt: skip
    """Held-out loss after `steps` batches of these examples, all weights trained, by the oracle."""
    sizes, weights, _ = selection_base()
    tuned: Any = tensors(weights, torch.float32, grad=steps > 0)
    judged = torch.tensor(held_out.astype(np.int64))
    if steps:
        optimizer = torch.optim.AdamW(tuned.values(), lr=rate, betas=(0.9, 0.99), weight_decay=0.0)
        rng = np.random.default_rng(seed)
        epochs = -(-steps * rows // len(ids))
        order = np.concatenate([rng.permutation(len(ids)) for _ in range(epochs)])
        inputs, goals = (torch.tensor(a.astype(np.int64)) for a in (ids, targets))
        for step in range(steps):
            falling = 0.5 * (1 + np.cos(np.pi * step / steps))
            optimizer.param_groups[0]["lr"] = rate * min(1.0, (step + 1) / 2) * falling
            chosen = order[step * rows : (step + 1) * rows]
            logits = reference_logits(tuned, sizes, inputs[chosen])
            loss = F.cross_entropy(logits.flatten(0, 1), goals[chosen].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        logits = reference_logits(tuned, sizes, judged[:, :-1])
        return float(F.cross_entropy(logits.flatten(0, 1), judged[:, 1:].flatten()))


def drops_of(
    pool: Pool, picked: np.ndarray, rng: np.random.Generator, seed: int, draws: int = 1
) -> list[float]:
    """Loss before; then how far it falls by the whole pool, by `picked`, by each random tenth."""
    before = loss_after(pool.ids, pool.targets, pool.held_out, seed, steps=0)
    lots = [rng.permutation(POOL)[:CHOSEN] for _ in range(draws)]
    sets = [np.arange(POOL), picked, *lots]
    return [before] + [
        before - loss_after(pool.ids[some], pool.targets[some], pool.held_out, seed)
        for some in sets
    ]


def flat_gradient(
    weights: Weights, adapter: Weights, scale: float, sizes: Sizes, ids: np.ndarray,
    targets: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Gradient of one example's loss by every A and B, in the adapter's order, in float64."""
    base = tensors(weights)
    leaves = tensors(adapter, grad=True)
    both = dict(base)
    for name in adapter:
        if name.endswith(".lora_a"):
            path = name.removesuffix(".lora_a")
            update = leaves[f"{path}.lora_b"] @ leaves[f"{path}.lora_a"]
            both[f"{path}.weight"] = base[f"{path}.weight"] + scale * update
    logits = reference_logits(both, sizes, torch.tensor(ids[None]))[0]
    F.cross_entropy(logits, torch.tensor(targets), ignore_index=-100).backward()
    return np.concatenate([leaf.grad.numpy().ravel() for leaf in leaves.values()])
