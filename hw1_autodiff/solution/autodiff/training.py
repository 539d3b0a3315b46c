"""Task 1.13: the training loop, evaluation, and a file from which training goes on bit-exactly.

    run = TrainingRun(model, optimizer, batches, schedule=schedule, generators={"dropout": rng})
    fit(run, 1000)
    save("run.npz", run)            # … later, in another process, on a run built the same way:
    resume("run.npz", run)
    fit(run, 1000)                  # the same numbers as if it had never stopped
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from autodiff.data import generator_state, set_generator_state
from autodiff.function import no_grad
from autodiff.loss import cross_entropy
from autodiff.nn import Module
from autodiff.optim import CosineSchedule, Optimizer, clip_grad_norm_
from autodiff.tensor import Tensor


@dataclass
class TrainingRun:
    """All that training changes, so that all of it can be saved.

    batches: endless iterator of (inputs, targets) with state_dict and load_state_dict (data.py).
    schedule: sets the learning rate; None leaves the optimizer's. max_norm: gradients are clipped
    to it; None: not. generators: every random generator that the model draws from, by a name of
    your choice. step: optimizer steps taken so far; losses: the loss of each.
    """

    model: Module
    optimizer: Optimizer
    batches: Any
    schedule: CosineSchedule | None = None
    max_norm: float | None = None
    generators: Mapping[str, np.random.Generator] = field(default_factory=dict)
    step: int = 0
    losses: list[float] = field(default_factory=list)


def fit(
    run: TrainingRun, steps: int, on_step: Callable[[TrainingRun], None] | None = None
) -> None:
    """Take `steps` more optimizer steps, with the model in training mode.

    A step: the next batch; the cross-entropy of model(inputs) against the targets; backward, into
    gradients that hold nothing of the step before; clipping if `max_norm` is given; the optimizer;
    the schedule, if there is one; then `run.step` grows by one, the loss (a float, as it was before
    this step changed the parameters) is appended to `run.losses`, and on_step(run) is called.

    Raises FloatingPointError if the loss is nan or infinite, before anything is changed by it.
    """
    # BEGIN SOLUTION 1.13
    run.model.train()
    for _ in range(steps):
        inputs, targets = next(run.batches)
        loss = cross_entropy(_forward(run.model, inputs), targets)
        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss is {value} at step {run.step}")
        run.optimizer.zero_grad()
        loss.backward()
        if run.max_norm is not None:
            clip_grad_norm_(run.model.parameters(), run.max_norm)
        run.optimizer.step()
        if run.schedule is not None:
            run.schedule.step()
        run.step += 1
        run.losses.append(value)
        if on_step is not None:
            on_step(run)
    # END SOLUTION


def _forward(model: Module, inputs: np.ndarray) -> Tensor:
    """model(inputs): integers (ids) as they are, real numbers as a Tensor. Given."""
    return model(inputs if inputs.dtype.kind in "iu" else Tensor(inputs))


def predict(model: Module, inputs: np.ndarray, batch_size: int = 256) -> np.ndarray:
    """The model's outputs for all inputs, in order, as one array; at most batch_size at a time.

    In evaluation mode, without recording a graph. Afterwards every module in the model is in the
    mode it was in, also when the model raised. Raises ValueError if there are no inputs.
    """
    # BEGIN SOLUTION 1.13
    if not len(inputs):
        raise ValueError("there is nothing to predict")
    with _evaluating(model):
        outputs = [
            _forward(model, inputs[start : start + batch_size]).data
            for start in range(0, len(inputs), batch_size)
        ]
    return np.concatenate(outputs)
    # END SOLUTION


def evaluate(
    model: Module, inputs: np.ndarray, targets: np.ndarray, batch_size: int = 256
) -> float:
    """The mean cross-entropy in nats over all targets, in evaluation mode, without a graph.

    Every target counts the same: where the last batch is smaller, its mean counts for less. Modes
    afterwards are as in `predict`.
    """
    # BEGIN SOLUTION 1.13
    total = 0.0
    with _evaluating(model):
        for start in range(0, len(inputs), batch_size):
            chosen = slice(start, start + batch_size)
            loss = cross_entropy(_forward(model, inputs[chosen]), targets[chosen])
            total += loss.item() * targets[chosen].size
    return total / targets.size
    # END SOLUTION


@contextmanager
def _evaluating(model: Module) -> Iterator[None]:
    """Evaluation mode and no graph inside the block, every module's earlier mode after it.

    A helper you may use in `predict` and `evaluate`, or leave.
    """
    # BEGIN SOLUTION 1.13
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with no_grad():
            yield
    finally:
        for module, mode in before:
            module.training = mode
    # END SOLUTION


def bits_per_byte(
    model: Module, text: np.ndarray, context: int, batch_size: int = 64
) -> float:
    """How many bits the model needs for a byte of `text`, on average: its cross-entropy in base 2.

    text: (n,) integers, n ≥ 2. Every byte but the first is predicted exactly once, from the bytes
    before it in its window. The windows follow each other: window k has the inputs
    text[k · context : (k + 1) · context] and each one's next byte as targets; the last window may
    be shorter (and then is a batch of its own), and no byte is left out.
    """
    # BEGIN SOLUTION 1.13
    inputs, targets = text[:-1].astype(np.int64), text[1:].astype(np.int64)
    whole = len(inputs) // context * context
    nats = 0.0
    if whole:
        rows = inputs[:whole].reshape(-1, context), targets[:whole].reshape(-1, context)
        nats += evaluate(model, *rows, batch_size) * whole
    if whole < len(inputs):
        last = inputs[None, whole:], targets[None, whole:]
        nats += evaluate(model, *last) * (len(inputs) - whole)
    return nats / len(inputs) / math.log(2.0)
    # END SOLUTION


def save(path: str | os.PathLike[str], run: TrainingRun) -> None:
    """Write all of `run` to one .npz file, without pickle, so that `resume` can go on from it.

    Entries: "model/NAME", "optimizer/NAME", "schedule/NAME" and "batches/NAME" for the entries of
    each one's state_dict (no schedule, no such entries); "generators/NAME" for
    `generator_state` of each generator; "step"; "losses" (float64).

    Safe against a crash at any moment, a full disk, a killed process: the file is written under
    another name in the same folder, flushed and synced (`os.fsync`), and only then put in the place
    of `path` by `os.replace`, which is atomic. Whoever opens `path` finds the old file whole or the
    new file whole. If writing fails, the temporary file is removed and the error goes on to the
    caller. `path` is used as it is: numpy's habit of adding ".npz" applies to names, not to open
    files.
    """
    # BEGIN SOLUTION 1.13
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            np.savez(file, **_entries(run))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    # END SOLUTION


def _entries(run: TrainingRun) -> dict[str, np.ndarray]:
    """The entries of the file that `save` writes. A helper you may use, or leave."""
    # BEGIN SOLUTION 1.13
    entries = {
        "step": np.array(run.step, np.int64),
        "losses": np.array(run.losses, np.float64),
    }
    for part, owner in _parts(run).items():
        for name, array in owner.state_dict().items():
            entries[f"{part}/{name}"] = array
    for name, generator in run.generators.items():
        entries[f"generators/{name}"] = generator_state(generator)
    return entries
    # END SOLUTION


def _parts(run: TrainingRun) -> dict[str, Any]:
    """Those parts of a run that have a state_dict, by the name of their entries. Given."""
    parts = {"model": run.model, "optimizer": run.optimizer, "batches": run.batches}
    return parts if run.schedule is None else {**parts, "schedule": run.schedule}


def resume(path: str | os.PathLike[str], run: TrainingRun) -> None:
    """Put `run`, built the same way as the saved one (any seeds), in the state of the file.

    Afterwards `fit` gives bit for bit what it would have given without the interruption: the same
    parameters, moments, learning rate, batches, dropout, step and losses. The generators in `run`
    are set in place: the model's layers hold the same objects.

    Reads without pickle (`allow_pickle=False`). Raises FileNotFoundError if there is no file, and
    what load_state_dict raises if it is of another model.
    """
    # BEGIN SOLUTION 1.13
    with np.load(path, allow_pickle=False) as file:
        entries = {name: file[name] for name in file.files}
    for part, owner in _parts(run).items():
        owner.load_state_dict(_below(entries, part))
    for name, generator in run.generators.items():
        set_generator_state(generator, entries[f"generators/{name}"])
    run.step = int(entries["step"])
    run.losses = entries["losses"].tolist()
    # END SOLUTION


def _below(entries: Mapping[str, np.ndarray], part: str) -> dict[str, np.ndarray]:
    """The entries "part/NAME" under NAME. Given."""
    start = f"{part}/"
    return {name[len(start) :]: a for name, a in entries.items() if name.startswith(start)}
