"""Pretrains the two small models that task 3.8 tunes: `python make_small_base.py`, some minutes.

Llamas over ASCII bytes, trained on the help texts of `pydoc_data.topics`, by the tests' own forward
pass, so that no homework code is involved. What they are then tuned to is the same kind of text in
another spelling, with an underscore for every space. small_base.npz (418,000 weights) is for
adapters, selection_base.npz (55,000) for choosing examples. Both hold

    the weights under the names of `Llama.state_dict()`, float16;
    sizes: what ModelConfig takes, as JSON;
    train (rows, time + 1), held_out (rows, time + 1): the other spelling as bytes, uint8;

and small_base.npz also the yardstick, every weight fine-tuned on `train`:

    losses: held-out loss in nats a byte, before and after;
    recipe: steps, rows a batch, the rate (the best of RATES), and what an adapter is given, as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from pydoc_data import topics
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

FOLDER = Path(__file__).resolve().parent
sys.path.append(str(FOLDER.parent))

from tiny_model import Sizes, random_weights, reference_logits  # noqa: E402

SMALL = Sizes(
    vocab_size=128, hidden_size=96, num_layers=4, num_heads=4, num_kv_heads=2,
    intermediate_size=256, max_positions=256,
)  # fmt: skip
TINY = SMALL.but(hidden_size=48, num_layers=2, intermediate_size=128)
CONTEXT, ROWS = 64, 32
STEPS = {"small_base": 2500, "selection_base": 1500}
# Full fine-tuning gets the best of these rates; the adapter's was chosen among 0.01, 0.02, 0.04.
RATES = (6e-4, 1e-3, 2e-3)
RECIPE = {
    "steps": 60, "rows": 16,
    "adapter": {"rank": 3, "alpha": 6.0, "targets": ["output", "down"], "rate": 2e-2},
}  # fmt: skip
WINDOWS = {"small_base": (48, 640, 60), "selection_base": (32, 500, 100)}  # time, train, held out


def as_bytes(text: str) -> np.ndarray:
    """ASCII codes as uint8; other characters become "?"."""
    return np.frombuffer(text.encode("ascii", "replace"), np.uint8)


def help_text() -> np.ndarray:
    """The help texts of this Python, which differ a little between its versions."""
    return as_bytes("\n".join(topics.topics[name] for name in sorted(topics.topics)))


def respelled(time: int, train: int, held_out: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Windows of `time` + 1 bytes, none overlapping, an underscore for every space."""
    text = help_text()
    text = np.where(text == ord(" "), ord("_"), text).astype(np.uint8)
    windows = text[: len(text) // (time + 1) * (time + 1)].reshape(-1, time + 1)
    windows = windows[rng.permutation(len(windows))[: train + held_out]]
    return [windows[:train], windows[train:]]


def batches(rows: np.ndarray, size: int, rng: np.random.Generator) -> Iterator[Tensor]:
    """Shuffled batches without end, every row once an epoch."""
    while True:
        order = rng.permutation(len(rows))
        for first in range(0, len(order) - size + 1, size):
            yield torch.tensor(rows[order[first : first + size]].astype(np.int64))


def loss_of(weights: dict[str, Tensor], sizes: Sizes, ids: Tensor) -> Tensor:
    """Mean negative log-likelihood of every byte but each row's first, in nats."""
    logits = reference_logits(weights, sizes, ids[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


def train(
    weights: dict[str, Tensor], sizes: Sizes, feed: Iterator[Tensor], steps: int, rate: float,
    report: Callable[[int, float], None] = lambda step, loss: None,
) -> None:  # fmt: skip
    """AdamW on every weight, in place: a tenth of the steps to warm up, then a cosine to zero."""
    optimizer = torch.optim.AdamW(weights.values(), lr=rate, betas=(0.9, 0.99), weight_decay=0.0)
    for step in range(steps):
        warm = min(1.0, (step + 1) / max(1, steps // 10))
        optimizer.param_groups[0]["lr"] = rate * warm * 0.5 * (1 + np.cos(np.pi * step / steps))
        loss = loss_of(weights, sizes, next(feed))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        optimizer.step()
        report(step, loss.item())


def pretrain(sizes: Sizes, steps: int) -> dict[str, np.ndarray]:
    """The base's weights as float16."""
    rng = np.random.default_rng(38)
    drawn = random_weights(rng, sizes, scale=0.02)
    weights = {
        name: torch.tensor(np.ones_like(a) if a.ndim == 1 else a).requires_grad_()
        for name, a in drawn.items()
    }
    text = help_text()
    rate = 3e-3 * SMALL.hidden_size / sizes.hidden_size

    def windows() -> Iterator[Tensor]:
        while True:
            starts = rng.integers(0, len(text) - CONTEXT - 1, ROWS)
            yield torch.tensor(text[starts[:, None] + np.arange(CONTEXT + 1)].astype(np.int64))

    started = time.monotonic()

    def report(step: int, loss: float) -> None:
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step}: {loss:.3f} nats, {time.monotonic() - started:.0f} s", flush=True)

    train(weights, sizes, windows(), steps, rate, report)
    return {name: weight.detach().numpy().astype(np.float16) for name, weight in weights.items()}


def full_fine_tuning(
    base: dict[str, np.ndarray], rows: np.ndarray, held_out: np.ndarray, rate: float, seed: int = 0
) -> tuple[float, float]:
    """Held-out loss before and after every weight of the small model was fine-tuned."""
    weights = {n: torch.tensor(a.astype(np.float32)).requires_grad_() for n, a in base.items()}
    judged = torch.tensor(held_out.astype(np.int64))

    def held_out_loss() -> float:
        with torch.no_grad():
            return float(loss_of(weights, SMALL, judged))

    before = held_out_loss()
    feed = batches(rows, RECIPE["rows"], np.random.default_rng(seed))
    train(weights, SMALL, feed, RECIPE["steps"], rate)
    return before, held_out_loss()


def weights_of(path: Path) -> dict[str, np.ndarray]:
    """The weights in a file that was written before."""
    with np.load(path) as file:
        return {name: file[name] for name in file.files if name.endswith(".weight")}


def main() -> None:
    """Write small_base.npz and selection_base.npz."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--keep", action="store_true", help="the weights that lie in --out already")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for name, sizes in (("small_base", SMALL), ("selection_base", TINY)):
        path = asked.out / f"{name}.npz"
        base = weights_of(path) if asked.keep else pretrain(sizes, STEPS[name])
        rows, held_out = respelled(*WINDOWS[name], np.random.default_rng(3))
        more: dict[str, np.ndarray] = {}
        if name == "small_base":
            found = {rate: full_fine_tuning(base, rows, held_out, rate) for rate in RATES}
            rate = min(found, key=lambda rate: found[rate][1])
            print("held-out loss in nats a byte, before and after full fine-tuning:", found)
            recipe = json.dumps({**RECIPE, "rate": rate})
            more = {"losses": np.array(found[rate]), "recipe": np.array(recipe)}
        np.savez_compressed(
            path, **base, **more, train=rows, held_out=held_out,
            sizes=np.array(json.dumps(sizes.fields())),
        )  # fmt: skip
        print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
