"""Oracles of task 3.7: torch's own loss, optimizer and clipping on one big batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from tiny_model import Sizes, reference_logits, tensors
from torch.nn import functional as F

from autograder.testing import assert_close, assert_equal
from autograder.testing.compare import as_array

IGNORED = -100
SIZES = Sizes(
    vocab_size=61, hidden_size=32, num_heads=4, num_kv_heads=2, intermediate_size=48
)  # fmt: skip

Arrays = dict[str, np.ndarray]


def plain_batch(
    rng: np.random.Generator, rows: int, time: int, counted: float = 0.7, vocab: int = 61
) -> Arrays:
    """Random tokens, a part of the targets ignored; at least one counts."""
    text = rng.integers(0, vocab, (rows, time + 1))
    targets = text[:, 1:].copy()
    targets[rng.random(targets.shape) >= counted] = IGNORED
    targets[0, 0] = text[0, 1]
    return {"ids": text[:, :-1].copy(), "targets": targets}


def packed_batch(rng: np.random.Generator, rows: int, time: int, vocab: int = 61) -> Arrays:
    """Rows of two documents and padding: the last token of a document predicts nothing."""
    batch = {
        "ids": rng.integers(0, vocab, (rows, time)), "targets": np.full((rows, time), IGNORED),
        "documents": np.full((rows, time), -1), "positions": np.zeros((rows, time), np.int64),
    }  # fmt: skip
    for row in range(rows):
        first = int(rng.integers(2, time // 2))
        end = int(rng.integers(first + 2, time + 1))
        for number, (start, stop) in enumerate(((0, first), (first, end))):
            batch["targets"][row, start : stop - 1] = batch["ids"][row, start + 1 : stop]
            batch["documents"][row, start:stop] = number
            batch["positions"][row, start:stop] = np.arange(stop - start)
    return batch


def loss_sum(weights: Mapping[str, Any], sizes: Sizes, batch: Arrays) -> Any:
    """Sum of the cross-entropies of the counted targets of a batch, a tensor with its graph."""
    given = {name: torch.tensor(array) for name, array in batch.items()}
    targets = given.pop("targets")
    logits = reference_logits(weights, sizes, **given)
    return F.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
    )


def counted(batches: Sequence[Arrays]) -> int:
    """Targets that count."""
    return sum(int((batch["targets"] != IGNORED).sum()) for batch in batches)


def joint_gradients(
    weights: Mapping[str, np.ndarray], sizes: Sizes, batches: Sequence[Arrays],
    dtype: torch.dtype = torch.float64,
) -> tuple[float, dict[str, np.ndarray], float]:  # fmt: skip
    """Mean loss over all counted targets of all batches, its gradients, and their joint norm."""
    leaves = tensors(weights, dtype, grad=True)
    loss = sum(loss_sum(leaves, sizes, batch) for batch in batches) / counted(batches)
    loss.backward()
    gradients = {name: leaf.grad.double().numpy() for name, leaf in leaves.items()}
    norm = math.sqrt(sum(float((g**2).sum()) for g in gradients.values()))
    return loss.item(), gradients, norm


def cosine(step: int, settings: Mapping[str, Any]) -> float:
    """The schedule, by its definition."""
    peak, warmup = settings["peak"], settings["warmup_steps"]
    total, floor = settings["total_steps"], settings.get("floor", 0.0)
    if step < warmup:
        return peak * (step + 1) / warmup
    part = min(1.0, (step - warmup) / max(total - warmup, 1)) if step < total else 1.0
    return floor + (peak - floor) * 0.5 * (1 + math.cos(math.pi * part))


def one_big_batch(
    weights: Mapping[str, np.ndarray], sizes: Sizes, steps: Sequence[Sequence[Arrays]],
    settings: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Losses, norms and final weights of training on all batches of a step at once, float64.

    By SGD with momentum: AdamW divides a gradient by its own size, so where one is near 0, float32's
    rounding may turn a whole step round, and two right runs drift apart.
    """
    leaves = tensors(weights, torch.float64, grad=True)
    optimizer = torch.optim.SGD(leaves.values(), 0.0, momentum=0.9)
    losses, lengths = [], []
    for step, batches in enumerate(steps):
        optimizer.zero_grad()
        loss = sum(loss_sum(leaves, sizes, batch) for batch in batches) / counted(batches)
        loss.backward()
        limit = settings.get("max_norm", 1.0)
        length = torch.nn.utils.clip_grad_norm_(leaves.values(), limit or math.inf)
        for group in optimizer.param_groups:
            group["lr"] = cosine(step, settings)
        optimizer.step()
        losses.append(loss.item())
        lengths.append(float(length))
    final = {name: leaf.detach().numpy() for name, leaf in leaves.items()}
    return {"losses": losses, "norms": lengths, "weights": final}


def torch_loss(
    hidden: np.ndarray, weight_: np.ndarray, targets: np.ndarray, upstream: float = 1.0
) -> tuple[float, np.ndarray, np.ndarray]:
    """Loss and gradients by torch, all logits at once, float64."""
    h, w = (torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (hidden, weight_))
    logits = (h @ w.T).reshape(-1, w.shape[0])
    loss = F.cross_entropy(logits, torch.tensor(targets).reshape(-1), ignore_index=IGNORED)
    (loss * upstream).backward()
    return loss.item(), h.grad.numpy(), w.grad.numpy()


def stream_of(seed: int, batches: int) -> tuple[list[Arrays], list[float]]:
    """What `drivers_resume` trains on from `seed`, and the draws of each generator afterwards."""
    own, dropped = (torch.Generator().manual_seed(seed + n) for n in (0, 2))
    order = np.random.Generator(np.random.PCG64(seed + 1))
    made = []
    for given in range(1, batches + 1):
        text = order.integers(0, SIZES.vocab_size, (2, 6 + given % 4))
        targets = text[:, 1:].copy()
        for generator in (own, dropped):
            targets[(torch.rand(targets.shape, generator=generator) < 0.2).numpy()] = IGNORED
        made.append({"ids": text[:, :-1].copy(), "targets": targets})
    spare = np.random.Generator(np.random.MT19937(seed))
    draws = [float(torch.rand((), generator=own)), float(order.random()),
             float(torch.rand((), generator=dropped)), float(spare.random())]  # fmt: skip
    return made, draws


def assert_right_run(
    run: Mapping[str, Any], weights: Mapping[str, np.ndarray], settings: Mapping[str, Any],
    seed: int, steps: int,
) -> None:  # fmt: skip
    """A run without interruption, against AdamW's steps on the tests' own model.

    In float32 as well; where a gradient is nearly 0 AdamW makes a whole step of its rounding, so
    weights are compared as a whole: in 60 runs they lay within 0.0002 of the way they went, and the
    losses within 7e-6.
    """
    each = settings.get("accumulate", 1)
    batches, draws = stream_of(seed, steps * each)
    leaves = tensors(weights, torch.float32, grad=True)
    groups = [
        {"params": [w for w in leaves.values() if w.dim() >= 2], "weight_decay": 0.1},
        {"params": [w for w in leaves.values() if w.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95))
    losses = []
    for step in range(steps):
        some = batches[step * each : (step + 1) * each]
        optimizer.zero_grad()
        loss = sum(loss_sum(leaves, SIZES, batch) for batch in some) / counted(some)
        loss.backward()
        limit = settings.get("max_norm", 1.0)
        torch.nn.utils.clip_grad_norm_(leaves.values(), limit or math.inf)
        for group in optimizer.param_groups:
            group["lr"] = cosine(step, settings)
        optimizer.step()
        losses.append(loss.item())
    about = "a run without interruption"
    assert_close(np.array(run["losses"]), np.array(losses), rtol=1e-4, name=f"losses of {about}")
    assert_equal(run["step"], steps, name=f"the step of {about}")
    assert_equal(run["given"], steps * each, name=f"batches taken by {about}")
    assert_equal(run["next draws"], draws, name="what the generators draw next")
    went = missed = 0.0
    assert set(run["weights"]) == set(leaves), f"weights named {sorted(run['weights'])}"
    for name, leaf in leaves.items():
        found = as_array(run["weights"][name], name, tuple(leaf.shape)).astype(np.float64)
        assert found.shape == leaf.shape, f"weight {name} has shape {found.shape}"
        final = leaf.detach().double().numpy()
        went += float(((final - weights[name]) ** 2).sum())
        missed += float(((final - found) ** 2).sum())
    assert missed <= 0.01**2 * went, (
        f"after {steps} steps the weights are {math.sqrt(missed):.3g} from those of AdamW, which "
        f"went {math.sqrt(went):.3g}; a hundredth of it is allowed"
    )
    assert len(run["moments"]) == 3 * len(leaves), "AdamW has a step and two moments a parameter"


def assert_same_run(broken: Mapping[str, Any], straight: Mapping[str, Any]) -> None:
    """Two outcomes equal in every bit."""
    hint = "something that the steps depend on is not in the file, or is not put back"
    for part in ("losses", "step", "given", "rate", "next draws", "moments"):
        assert_equal(broken[part], straight[part], name=part, hint=hint)
    for name, array in straight["weights"].items():
        assert_equal(broken["weights"][name], array, name=f"weight {name}", hint=hint)
