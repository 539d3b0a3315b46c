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


def _bytes(path: str | Path) -> np.ndarray:
    return np.frombuffer(Path(path).read_bytes(), np.uint8)


def straight(sizes: dict, weights: dict, settings: dict, seed: int, steps: int) -> dict[str, Any]:
    """A run without interruption."""
    trainer = _trainer(sizes, weights, settings, seed)
    trainer.train(steps)
    return _outcome(trainer)


def saved(
    sizes: dict, weights: dict, settings: dict, seed: int, stop: int, file: Any = None
) -> dict[str, Any]:
    """Train to step `stop`, from the start or from a file of another process; what `save` wrote."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.pt"
        trainer = _trainer(sizes, weights, settings, seed)
        if file is not None:
            path.write_bytes(file.tobytes())
            trainer.resume(path)
        trainer.train(stop - trainer.step)
        trainer.save(path)
        trainer.train(1)  # what happens after the save must not reach the file
        return {"file": _bytes(path), "files": sorted(os.listdir(folder))}


def resumed(
    sizes: dict, weights: dict, settings: dict, seed: int, file: np.ndarray, steps: int
) -> dict[str, Any]:
    """Go on from a file of another process, with fresh objects of other weights, to step `steps`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.pt"
        path.write_bytes(file.tobytes())
        trainer = _trainer(sizes, weights, settings, seed)
        trainer.resume(path)
        begun = trainer.step
        trainer.train(steps - begun)
        return {**_outcome(trainer), "begun": begun}


class _Killed(BaseException):
    """Stands for SIGKILL: nothing catches it but the test."""


def killed(
    sizes: dict, weights: dict, settings: dict, seed: int, steps: int, every: int, at: int,
    where: str,
) -> dict[str, Any]:  # fmt: skip
    """A run that saves every few steps and is killed: the file that is there then.

    where: "between" steps, after step `at`; "inside" a step, before its optimizer steps; in the
    middle of "writing" the file of step `at`, half of it on the disk.
    """
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
        return {"file": _bytes(path), "died": died}


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
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.pt"
        trainer.save(path)
        before = _bytes(path)
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
        after = _bytes(path) if path.exists() else None
    return {"raised": raised, "files": files, "before": before, "after": after}


def resume_wrong(sizes: dict, weights: dict, other_sizes: dict, other_weights: dict, settings: dict,
                 missing: bool) -> None:  # fmt: skip
    """Resume from the file of a model of another size, or from no file."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "run.pt")
        if not missing:
            _trainer(sizes, weights, settings, 0).save(path)
        _trainer(other_sizes, other_weights, settings, 0).resume(path)
