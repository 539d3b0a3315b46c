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
    raise NotImplementedError("task 1.13: fit")


def _forward(model: Module, inputs: np.ndarray) -> Tensor:
    """model(inputs): integers (ids) as they are, real numbers as a Tensor. Given."""
    return model(inputs if inputs.dtype.kind in "iu" else Tensor(inputs))


def predict(model: Module, inputs: np.ndarray, batch_size: int = 256) -> np.ndarray:
    """The model's outputs for all inputs, in order, as one array; at most batch_size at a time.

    In evaluation mode, without recording a graph. Afterwards every module in the model is in the
    mode it was in, also when the model raised. Raises ValueError if there are no inputs.
    """
    raise NotImplementedError("task 1.13: predict")


def evaluate(
    model: Module, inputs: np.ndarray, targets: np.ndarray, batch_size: int = 256
) -> float:
    """The mean cross-entropy in nats over all targets, in evaluation mode, without a graph.

    Every target counts the same: where the last batch is smaller, its mean counts for less. Modes
    afterwards are as in `predict`.
    """
    raise NotImplementedError("task 1.13: evaluate")


@contextmanager
def _evaluating(model: Module) -> Iterator[None]:
    """Evaluation mode and no graph inside the block, every module's earlier mode after it.

    A helper you may use in `predict` and `evaluate`, or leave.
    """
    raise NotImplementedError("task 1.13: _evaluating")


def bits_per_byte(
    model: Module, text: np.ndarray, context: int, batch_size: int = 64
) -> float:
    """How many bits the model needs for a byte of `text`, on average: its cross-entropy in base 2.

    text: (n,) integers, n ≥ 2. Every byte but the first is predicted exactly once, from the bytes
    before it in its window. The windows follow each other: window k has the inputs
    text[k · context : (k + 1) · context] and each one's next byte as targets; the last window may
    be shorter (and then is a batch of its own), and no byte is left out.
    """
    raise NotImplementedError("task 1.13: bits_per_byte")


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
    raise NotImplementedError("task 1.13: save")


def _entries(run: TrainingRun) -> dict[str, np.ndarray]:
    """The entries of the file that `save` writes. A helper you may use, or leave."""
    raise NotImplementedError("task 1.13: _entries")


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
    raise NotImplementedError("task 1.13: resume")


def _below(entries: Mapping[str, np.ndarray], part: str) -> dict[str, np.ndarray]:
    """The entries "part/NAME" under NAME. Given."""
    start = f"{part}/"
    return {name[len(start) :]: a for name, a in entries.items() if name.startswith(start)}
