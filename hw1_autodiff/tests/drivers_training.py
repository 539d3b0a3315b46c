"""Drivers of task 1.13: training, evaluation, save and resume."""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np


class GivenBatches:
    """The batches of a list, in order."""

    def __init__(self, inputs: np.ndarray, targets: np.ndarray) -> None:
        self.pairs: Iterator[Any] = iter(zip(inputs, targets, strict=True))

    def __next__(self) -> tuple[np.ndarray, np.ndarray]:
        return next(self.pairs)


def fit_network(
    weights: list, inputs: np.ndarray, targets: np.ndarray, steps: list, rate: float,
    schedule: dict, max_norm: float,
) -> dict[str, Any]:  # fmt: skip
    """Train Linear-GELU-Linear on given batches by `fit`, called once for each entry of steps."""
    from autodiff import nn, optim, training

    sizes = [weights[0].shape, weights[2].shape]
    model = nn.Sequential(nn.Linear(*sizes[0]), nn.GELU(), nn.Linear(*sizes[1]))
    for parameter, array in zip(model.parameters(), weights, strict=True):
        parameter.data = array.copy()
    optimizer = optim.AdamW(model.parameters(), rate)
    run = training.TrainingRun(
        model, optimizer, GivenBatches(inputs, targets),
        optim.CosineSchedule(optimizer, **schedule), max_norm,
    )  # fmt: skip
    model.eval()
    seen: list[Any] = []
    for count in steps:
        training.fit(run, count, lambda run: seen.append([run.step, len(run.losses)]))
    return {
        "losses": run.losses, "weights": [p.data for p in model.parameters()], "seen": seen,
        "training": model.training, "step": run.step,
    }  # fmt: skip


def fit_on_nan(weight: np.ndarray, inputs: np.ndarray, target: int) -> dict[str, Any]:
    """Fit one step on inputs that make the loss nan: what was raised, what changed."""
    from autodiff import nn, optim, training

    model = nn.Linear(*weight.shape, bias=False)
    model.weight.data = weight.copy()
    optimizer = optim.AdamW(model.parameters(), 0.1)
    batches = GivenBatches(inputs[None], np.full((1, len(inputs)), target))
    run = training.TrainingRun(model, optimizer, batches)
    try:
        training.fit(run, 1)
        raised = ""
    except FloatingPointError as error:
        raised = type(error).__name__
    return {"raised": raised, "weight": model.weight.data, "step": run.step}


def evaluate_network(
    weight: np.ndarray, inputs: np.ndarray, targets: np.ndarray, batch_size: int
) -> dict[str, Any]:
    """predict and evaluate of a Linear behind Dropout, in modes that differ inside the model."""
    from autodiff import function, nn, training

    recorded, sizes = [], []

    class Watch(nn.Module):
        def forward(self, x: Any) -> Any:
            recorded.append(function.is_recording())
            sizes.append(len(x.data))
            return x

    linear = nn.Linear(*weight.shape, bias=False)
    linear.weight.data = weight.copy()
    model = nn.Sequential(Watch(), nn.Dropout(0.5, np.random.default_rng(0)), linear)
    model.train()
    model.layers[0].eval()
    outputs = training.predict(model, inputs, batch_size)
    loss = training.evaluate(model, inputs, targets, batch_size)
    return {
        "outputs": outputs, "loss": loss, "recorded": any(recorded), "largest": max(sizes),
        "modes": [m.training for m in model.modules()], "after": function.is_recording(),
    }  # fmt: skip


def bits_of_table(table: np.ndarray, text: np.ndarray, context: int, batch_size: int) -> list[Any]:
    """bits_per_byte of a model whose logits are table[byte], and the inputs the model saw."""
    from autodiff import Tensor, nn, training

    seen: list[np.ndarray] = []

    class Table(nn.Module):
        def forward(self, ids: np.ndarray) -> Any:
            seen.append(np.array(ids))
            return Tensor(table[ids])

    return [training.bits_per_byte(Table(), text, context, batch_size), seen]


def _digit_run(images: np.ndarray, labels: np.ndarray, seed: int, steps: int, **made: Any) -> Any:
    """A run over digits with everything that has a state: momenta, schedule, dropout, order."""
    from autodiff import data, models, optim, training

    rng, order = np.random.default_rng(seed), np.random.default_rng(seed + 1)
    model = models.digit_classifier(rng, hidden=made.get("hidden", 128), dropout=0.2)
    optimizer = optim.AdamW(model.parameters(), 5e-3)
    return training.TrainingRun(
        model, optimizer, data.Batches(images, labels, made.get("size", 64), order),
        optim.CosineSchedule(optimizer, 5e-3, 20, steps), 1.0, {"dropout": rng},
    )  # fmt: skip


def train_digits(
    images: np.ndarray, labels: np.ndarray, held_out: np.ndarray, seed: int, steps: int
) -> dict[str, Any]:
    """Train the classifier; its logits of the held-out images, and the losses on the way."""
    from autodiff import training

    run = _digit_run(images, labels, seed, steps)
    training.fit(run, steps)
    return {"logits": training.predict(run.model, held_out), "losses": run.losses}


def train_language_model(
    text: np.ndarray, contexts: np.ndarray, seed: int, steps: int
) -> dict[str, Any]:
    """Train the byte language model; its logits for the byte after each context, and the losses."""
    from autodiff import data, models, optim, training

    rng = np.random.default_rng(seed)
    context = contexts.shape[1]
    model = models.ByteLanguageModel(rng, context=context)
    optimizer = optim.AdamW(model.parameters(), 6e-3, betas=(0.9, 0.99))
    run = training.TrainingRun(
        model, optimizer, data.TextBatches(text, context, 8, rng),
        optim.CosineSchedule(optimizer, 6e-3, 20, steps, 3e-4), 1.0,
    )  # fmt: skip
    training.fit(run, steps)
    logits = training.predict(model, contexts.astype(np.int64), 128)[:, -1]
    return {"logits": np.ascontiguousarray(logits), "losses": run.losses}


def _outcome(run: Any) -> dict[str, Any]:
    moments = run.optimizer.state_dict()
    return {
        "losses": run.losses, "step": run.step, "parameters": run.model.state_dict(),
        "optimizer": moments, "rate": run.optimizer.learning_rate,
        "next draws": [g.random(2) for g in run.generators.values()],
    }  # fmt: skip


def train_with_interruptions(
    images: np.ndarray, labels: np.ndarray, seed: int, steps: int, stops: list
) -> list[Any]:
    """One run straight through, one saved and resumed by fresh objects at each of `stops`.

    The file's name does not end in .npz, and the folder is looked at in the end.
    """
    from autodiff import training

    straight = _digit_run(images, labels, seed, steps, hidden=24, size=48)
    training.fit(straight, steps)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "run.checkpoint")
        broken = _digit_run(images, labels, seed, steps, hidden=24, size=48)
        for place, stop in enumerate(stops):
            training.fit(broken, stop - broken.step)
            training.save(path, broken)
            # Whatever goes on after saving must not leak into the file, nor a new object's seeds.
            training.fit(broken, 2)
            broken = _digit_run(images, labels, seed + 100 + place, steps, hidden=24, size=48)
            training.resume(path, broken)
        training.fit(broken, steps - broken.step)
        files = sorted(os.listdir(folder))
        with np.load(path) as saved:  # numpy refuses pickles unless asked
            names = sorted(name for name in saved.files if saved[name].dtype.kind in "iufU")
    return [_outcome(straight), _outcome(broken), files, names]


def save_on_a_full_disk(images: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, Any]:
    """Save, train on, save again where no file may grow beyond 20 kB: what is there afterwards."""
    from autodiff import training

    run = _digit_run(images, labels, seed, 20, hidden=48)
    training.fit(run, 3)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.npz"
        training.save(path, run)
        before = path.read_bytes()
        training.fit(run, 2)
        raised = ""
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        try:
            training.save(path, run)
        except OSError:
            raised = "OSError"
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        files = sorted(entry.name for entry in Path(folder).iterdir())
        same = path.exists() and path.read_bytes() == before
        fresh = _digit_run(images, labels, seed + 1, 20, hidden=48)
        if same:
            training.resume(path, fresh)
    return {
        "raised": raised, "files": files, "same": same, "size": len(before), "step": fresh.step,
        "losses": fresh.losses, "expected": run.losses[:3],
    }  # fmt: skip


def save_other_model(images: np.ndarray, labels: np.ndarray, missing: bool) -> None:
    """Resume from the file of a model of another size, or from no file."""
    from autodiff import training

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "run.npz")
        if not missing:
            training.save(path, _digit_run(images, labels, 0, 20, hidden=16))
        training.resume(path, _digit_run(images, labels, 0, 20, hidden=24))


def losses_on_back_ends(text: np.ndarray, seed: int, steps: int) -> list[list[float]]:
    """The losses of a few steps of a small language model with numpy and with the numba kernels."""
    from autodiff import backend, data, models, optim, training

    losses = []
    for name in ("numpy", "numba"):
        rng = np.random.default_rng(seed)
        model = models.ByteLanguageModel(rng, context=16, width=32, layers=1)
        optimizer = optim.AdamW(model.parameters(), 1e-3)
        run = training.TrainingRun(model, optimizer, data.TextBatches(text, 16, 4, rng))
        with backend.use(name):
            training.fit(run, steps)
        losses.append(run.losses)
    return losses
