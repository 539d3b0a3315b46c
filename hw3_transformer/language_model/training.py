"""Task 3.7: one training step done right, many of them, and a file from which they go on bit-exactly.

trainer = Trainer(model, make_optimizer(model, 0.1), stream, Settings(peak=1e-3, ...))
trainer.train(1000)
trainer.save("run.pt")       # … later, in another process, on a trainer built the same way:
trainer.resume("run.pt")
trainer.train(1000)          # the same numbers as if it had never stopped
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from language_model.model import Llama
from language_model.modes import in_eval_mode
from language_model.training_setup import (
    IGNORED,
    Batch,
    BatchStream,
    Settings,
    StepResult,
    generator_state,
    set_generator_state,
)


def chunked_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, chunk_rows: int, ignore_index: int = IGNORED
) -> Tensor:
    """mean of −log softmax(hidden · weightᵀ)[target] over the targets that are not ignore_index.

    hidden: (…, d); weight: (vocab, d), the head's matrix; targets: (…) int64. Never holds logits of
    more than chunk_rows rows: at a vocabulary of 49,152, the logits of 8 rows of 1,024 tokens alone
    would take 1.6 GB in float32, and their gradient as much again. An ignored row costs nothing and
    reaches nothing, whatever its hidden state holds (nan too). No row counted: loss 0, gradients 0.
    The products are in autocast's type where autocast is on, else in hidden's; softmax and sums in
    float32 at least, and so is the result, a scalar. The gradient has the inputs' types.
    Raises ValueError for a target outside [0, vocab).
    """
    raise NotImplementedError("task 3.7: chunked_cross_entropy")


class _ChunkedCrossEntropy(torch.autograd.Function):
    """The gradient is computed with the loss, chunk by chunk: no logits are kept or made twice.

    A helper of `chunked_cross_entropy` that you may use, or leave.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, rows: Tensor, targets: Tensor, chunk_rows: int,
        asked: tuple[bool, bool],
    ) -> Tensor:  # fmt: skip
        """hidden: (n, d); rows: those that count; targets: theirs; asked: whose gradient is."""
        raise NotImplementedError("task 3.7: _ChunkedCrossEntropy.forward")

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """upstream: a scalar."""
        raise NotImplementedError("task 3.7: _ChunkedCrossEntropy.backward")


def cosine_rate(
    step: int, peak: float, warmup_steps: int, total_steps: int, floor: float = 0.0
) -> float:
    """The learning rate of optimizer step `step`, counted from 0.

    Rises linearly, peak/warmup_steps at step 0 and `peak` at step warmup_steps − 1; then half a
    cosine, `peak` at step warmup_steps and `floor` at step total_steps and ever after.
    """
    raise NotImplementedError("task 3.7: cosine_rate")


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float | None) -> float:
    """Scale all gradients by one factor so that their joint norm is at most max_norm, in place.

    Returns the norm before. A parameter without gradient, or frozen, is left out; one that is
    listed twice counts once. A norm below max_norm changes nothing (gradients are never made
    larger), nor does None, nor a norm that is nan or inf: one factor would spread it to all. The
    squares are summed in float64: those of gradients of 1e-25 vanish in float32.
    """
    raise NotImplementedError("task 3.7: clip_gradients")


def mean_loss(model: Llama, batch: Batch, settings: Settings) -> Tensor:
    """Given: the loss of one batch, a float32 scalar (float64 for a float64 model) with its graph."""
    kind = batch.ids.device.type
    with torch.autocast(kind, dtype=torch.bfloat16, enabled=settings.bf16):
        hidden = model.hidden_states(batch.ids, batch.positions, batch.documents)
        weight = model.head_weight
        return chunked_cross_entropy(hidden, weight, batch.targets, settings.chunk_rows)


def train_step(
    model: Llama, optimizer: torch.optim.Optimizer, batches: Sequence[Batch], rate: float,
    settings: Settings,
) -> StepResult:  # fmt: skip
    """One optimizer step at learning rate `rate` over several batches, as if they were one batch.

    Every counted target weighs the same, in whatever batch it stands: the mean of the batches'
    means would give the targets of a short batch more. Gradients left over from before do not
    count. Graphs of two batches never exist at once. The joint gradient is clipped once
    (`clip_gradients`, settings.max_norm). The model runs in training mode, with
    settings.rematerialize in `model.rematerialize`, which is put back afterwards. Where the loss or
    the norm is not finite, or no target counts at all, nothing is changed by the step: neither
    weights nor moments (a weight decay would change them), and `taken` is False.
    No gradient is left on a parameter afterwards.
    """
    raise NotImplementedError("task 3.7: train_step")


@torch.no_grad()
def evaluate(model: Llama, batches: Iterable[Batch], settings: Settings) -> float:
    """The mean loss in nats over all counted targets of all batches, in eval mode; modes stay.

    Raises ValueError if no target counts.
    """
    raise NotImplementedError("task 3.7: evaluate")


class Trainer:
    """Model, optimizer, data and everything else that the next step depends on.

    step: optimizer steps behind us, which is also the place in the schedule; losses: one for each.
    generators: those that the model or the data draw from besides torch's own, by a name.
    """

    def __init__(
        self, model: Llama, optimizer: torch.optim.Optimizer, stream: BatchStream,
        settings: Settings,
        generators: Mapping[str, torch.Generator | np.random.Generator] | None = None,
    ) -> None:  # fmt: skip
        self.model, self.optimizer, self.stream = model, optimizer, stream
        self.settings = settings
        self.generators = dict(generators or {})
        self.step = 0
        self.losses: list[float] = []

    def train(self, steps: int, on_step: Callable[[StepResult], None] | None = None) -> None:
        """Take `steps` more steps: settings.accumulate batches, the schedule's rate, `train_step`.

        After each one `step` and `losses` have grown, and on_step is called with the result.
        """
        raise NotImplementedError("task 3.7: Trainer.train")

    def state_dict(self) -> dict[str, Any]:
        """All that `resume` needs: tensors, numbers, strings, lists and dicts of them, nothing else.

        Entries: "model", "optimizer" and "stream", each one's state_dict; "generators", a text of
        `generator_state` each, torch's own as "torch" (and "cuda:0" and so on); "step"; "losses".
        """
        raise NotImplementedError("task 3.7: Trainer.state_dict")

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put this trainer, built the same way with any seeds, into that state.

        Generators are set in place: model and data hold the same objects. Raises what
        load_state_dict of the model raises where it is another model's.
        """
        raise NotImplementedError("task 3.7: Trainer.load_state_dict")

    def _generators(self) -> dict[str, torch.Generator | np.random.Generator]:
        """Given: the named generators, and torch's own for each device."""
        own = {"torch": torch.default_generator}
        if torch.cuda.is_available():
            torch.cuda.init()
            own |= {f"cuda:{i}": g for i, g in enumerate(torch.cuda.default_generators)}
        return {**own, **self.generators}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `state_dict()` to a file, whole or not at all.

        Written with torch.save under another name in the same folder, flushed, synced (`os.fsync`),
        and only then put in the place of `path` by `os.replace`, which is atomic: whoever opens
        `path`, after a crash at any moment, finds the old file whole or the new one whole. If
        writing fails the temporary file is removed, and the error goes on to the caller.
        """
        raise NotImplementedError("task 3.7: Trainer.save")

    def resume(self, path: str | os.PathLike[str]) -> None:
        """`load_state_dict` of a file that `save` wrote; no code in it is run (weights_only=True).

        Raises FileNotFoundError where there is no file.
        """
        raise NotImplementedError("task 3.7: Trainer.resume")
