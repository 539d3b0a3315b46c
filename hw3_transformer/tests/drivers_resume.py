"""Drivers of task 3.7: save and resume, kills and full disks."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np


def _model(sizes: dict, weights: dict) -> Any:
    from drivers_model import build_model

    return build_model(sizes, weights)


def _weights(model: Any) -> dict[str, np.ndarray]:
    return {name: p.detach().numpy().copy() for name, p in model.named_parameters()}


def _moments(optimizer: Any) -> list[np.ndarray]:
    return [v.numpy().copy() for s in optimizer.state.values() for v in s.values()]


class _Random:
    """Batches drawn from a numpy generator, targets dropped by torch's own and by a named one.

    Its state is only how many it gave: without the generators, another run has other batches.
    """

    def __init__(self, vocab: int, numpy_generator: Any, torch_generator: Any) -> None:
        self.vocab, self.given = vocab, 0
        self.numpy_generator, self.torch_generator = numpy_generator, torch_generator

    def __next__(self) -> Any:
        import torch

        from language_model.training_setup import IGNORED, Batch

        self.given += 1
        time = 5 + self.given % 4
        ids = torch.tensor(self.numpy_generator.integers(0, self.vocab, (2, time + 1)))
        targets = ids[:, 1:].clone()
        targets[torch.rand(targets.shape) < 0.2] = IGNORED
        targets[torch.rand(targets.shape, generator=self.torch_generator) < 0.2] = IGNORED
        return Batch(ids[:, :-1].contiguous(), targets)

    def state_dict(self) -> dict[str, Any]:
        return {"given": self.given}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.given = state["given"]


def _trainer(sizes: dict, weights: dict, settings: dict, seed: int) -> Any:
    """A Trainer with everything that has a state."""
    import torch

    from language_model.training import Trainer
    from language_model.training_setup import Settings, make_optimizer

    model = _model(sizes, weights)
    torch.manual_seed(seed)
    order = np.random.Generator(np.random.PCG64(seed + 1))
    dropped = torch.Generator().manual_seed(seed + 2)
    stream = _Random(sizes["vocab_size"], order, dropped)
    return Trainer(
        model, make_optimizer(model, 0.1), stream, Settings(**settings),
        {"order": order, "dropped": dropped, "spare": np.random.Generator(np.random.MT19937(seed))},
    )  # fmt: skip


def _outcome(trainer: Any) -> dict[str, Any]:
    import torch

    draws = [float(torch.rand(()))]
    for generator in trainer.generators.values():
        draws.append(
            float(torch.rand((), generator=generator))
            if isinstance(generator, torch.Generator)
            else float(generator.random())
        )
    return {
        "losses": list(trainer.losses), "step": trainer.step, "weights": _weights(trainer.model),
        "moments": _moments(trainer.optimizer), "given": trainer.stream.given,
        "next draws": draws, "rate": trainer.optimizer.param_groups[0]["lr"],
    }  # fmt: skip


def interrupted(
    sizes: dict, weights: dict, others: dict, settings: dict, seed: int, steps: int, stops: list
) -> list[Any]:
    """One run straight through, one saved and resumed in fresh objects of `others` at each stop."""
    straight = _trainer(sizes, weights, settings, seed)
    straight.train(steps)
    outcome = _outcome(straight)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "run.pt")
        broken = _trainer(sizes, weights, settings, seed)
        for place, stop in enumerate(stops):
            broken.train(stop - broken.step)
            broken.save(path)
            broken.train(1)  # what happens after the save must not reach the file
            broken = _trainer(sizes, others, settings, seed + 50 + place)
            broken.resume(path)
        broken.train(steps - broken.step)
        files = sorted(os.listdir(folder))
    return [outcome, _outcome(broken), files]


class _Killed(BaseException):
    """Stands for SIGKILL: nothing catches it but the test."""


def killed(
    sizes: dict, weights: dict, others: dict, settings: dict, seed: int, steps: int, every: int,
    at: int, where: str,
) -> list[Any]:  # fmt: skip
    """A run that saves every few steps and is killed; then another one, built anew, resumes.

    where: "between" steps, after step `at`; "inside" a step, before its optimizer steps; in the
    middle of "writing" the file of step `at`, half of it on the disk.
    """
    straight = _trainer(sizes, weights, settings, seed)
    straight.train(steps)
    outcome = _outcome(straight)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.pt"
        trainer = _trainer(sizes, weights, settings, seed)
        died = False
        try:
            while trainer.step < steps:
                if trainer.step + 1 == at and where == "inside":
                    trainer.optimizer.step = _die
                trainer.train(1)
                if trainer.step == at and where == "between":
                    _die()
                if trainer.step == at and where == "writing":
                    with _dying_while_writing():
                        trainer.save(path)
                if trainer.step % every == 0:
                    trainer.save(path)
        except _Killed:
            died = True
        resumed = _trainer(sizes, others, settings, seed + 77)
        resumed.resume(path)
        step = resumed.step
        resumed.train(steps - step)
    return [outcome, _outcome(resumed), step, died]


def _die(*args: Any, **kwargs: Any) -> None:
    raise _Killed


@contextlib.contextmanager
def _dying_while_writing() -> Iterator[None]:
    """Inside, torch.save writes the first half of what it should, and that is the end."""
    import torch

    original = torch.save

    def save(value: Any, file: Any, *args: Any, **kwargs: Any) -> None:
        whole = io.BytesIO()
        original(value, whole)
        half = whole.getvalue()[: whole.tell() // 2]
        if isinstance(file, (str, os.PathLike)):
            Path(file).write_bytes(half)
        else:
            file.write(half)
            file.flush()
        _die()

    torch.save = save
    try:
        yield
    finally:
        torch.save = original


def full_disk(sizes: dict, weights: dict, settings: dict, seed: int) -> dict[str, Any]:
    """Save, train on, save again where no file may grow beyond 8 kB: what is there afterwards."""
    trainer = _trainer(sizes, weights, settings, seed)
    trainer.train(3)
    expected = list(trainer.losses)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.pt"
        trainer.save(path)
        before = path.read_bytes()
        trainer.train(2)
        raised = False
        resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, limits[1]))
        try:
            trainer.save(path)
        except Exception:
            raised = True
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, old)
        files = sorted(entry.name for entry in Path(folder).iterdir())
        same = path.exists() and path.read_bytes() == before
        fresh = _trainer(sizes, weights, settings, seed + 1)
        if same:
            fresh.resume(path)
    return {"raised": raised, "files": files, "same": same, "size": len(before),
            "losses": fresh.losses, "expected": expected}  # fmt: skip


def resume_wrong(sizes: dict, weights: dict, other_sizes: dict, other_weights: dict, settings: dict,
                 missing: bool) -> None:  # fmt: skip
    """Resume from the file of a model of another size, or from no file."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "run.pt")
        if not missing:
            _trainer(sizes, weights, settings, 0).save(path)
        _trainer(other_sizes, other_weights, settings, 0).resume(path)
