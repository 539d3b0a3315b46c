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
    # BEGIN SOLUTION 3.7
    flat, wanted = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
    rows = (wanted != ignore_index).nonzero()[:, 0]
    wanted = wanted[rows]
    if len(rows) and not (int(wanted.min()) >= 0 and int(wanted.max()) < len(weight)):
        raise ValueError(f"a target is outside the vocabulary of {len(weight)}")
    grad = torch.is_grad_enabled()  # inside a Function's forward it is always off
    asked = (grad and hidden.requires_grad, grad and weight.requires_grad)
    return _ChunkedCrossEntropy.apply(flat, weight, rows, wanted, chunk_rows, asked)
    # END SOLUTION


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
        # BEGIN SOLUTION 3.7
        device = hidden.device.type
        kind = hidden.dtype
        if torch.is_autocast_enabled(device):
            kind = torch.get_autocast_dtype(device)
        wide = torch.promote_types(kind, torch.float32)
        total = torch.zeros((), dtype=torch.float64, device=hidden.device)
        grad_hidden = torch.zeros_like(hidden) if asked[0] else None
        grad_weight = torch.zeros_like(weight, dtype=wide) if asked[1] else None
        with torch.autocast(device, enabled=False):
            head = weight.to(kind)
            for some, wanted in zip(rows.split(chunk_rows), targets.split(chunk_rows), strict=True):
                part = hidden[some].to(kind)  # (chunk, d)
                scores = (part @ head.T).to(wide).log_softmax(-1)  # (chunk, vocab)
                total -= scores.gather(1, wanted[:, None]).sum()
                if not any(asked):
                    continue
                slope = scores.exp_()
                slope.scatter_add_(1, wanted[:, None], slope.new_full((len(wanted), 1), -1.0))
                slope = slope.to(kind)
                if grad_hidden is not None:
                    grad_hidden[some] = (slope @ head / len(rows)).to(hidden.dtype)
                if grad_weight is None:
                    continue
                if kind == wide:
                    grad_weight.addmm_(slope.T, part)
                else:
                    grad_weight += slope.T @ part
        if grad_weight is not None:
            grad_weight = grad_weight.div_(max(len(rows), 1)).to(weight.dtype)
        ctx.save_for_backward(grad_hidden, grad_weight)
        return (total / max(len(rows), 1)).to(wide)
        # END SOLUTION

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """upstream: a scalar."""
        # BEGIN SOLUTION 3.7
        grads = [None if g is None else g * upstream.to(g.dtype) for g in ctx.saved_tensors]
        return (*grads, None, None, None, None)
        # END SOLUTION


def cosine_rate(
    step: int, peak: float, warmup_steps: int, total_steps: int, floor: float = 0.0
) -> float:
    """The learning rate of optimizer step `step`, counted from 0.

    Rises linearly, peak/warmup_steps at step 0 and `peak` at step warmup_steps − 1; then half a
    cosine, `peak` at step warmup_steps and `floor` at step total_steps and ever after.
    """
    # BEGIN SOLUTION 3.7
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    if step >= total_steps:
        return floor
    progress = (step - warmup_steps) / (total_steps - warmup_steps)
    return floor + (peak - floor) * (1 + math.cos(math.pi * progress)) / 2
    # END SOLUTION


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float | None) -> float:
    """Scale all gradients by one factor so that their joint norm is at most max_norm, in place.

    Returns the norm before. A parameter without gradient, or frozen, is left out; one that is
    listed twice counts once. A norm below max_norm changes nothing (gradients are never made
    larger), nor does None, nor a norm that is nan or inf: one factor would spread it to all. The
    squares are summed in float64: those of gradients of 1e-25 vanish in float32.
    """
    # BEGIN SOLUTION 3.7
    held = {id(p): p.grad for p in parameters if p.requires_grad and p.grad is not None}
    norms = [torch.linalg.vector_norm(g, dtype=torch.float64) for g in held.values()]
    norm = float(torch.stack(norms).norm()) if norms else 0.0
    if max_norm is not None and math.isfinite(norm) and norm > max_norm:
        for gradient in held.values():
            gradient.mul_(max_norm / norm)
    return norm
    # END SOLUTION


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
    # BEGIN SOLUTION 3.7
    counts = [batch.counted() for batch in batches]
    total = sum(counts)
    before, model.rematerialize = model.rematerialize, settings.rematerialize
    model.train()
    optimizer.zero_grad(set_to_none=True)
    loss = 0.0
    try:
        for batch, count in zip(batches, counts, strict=True):
            if count:
                share = mean_loss(model, batch, settings) * (count / total)
                share.backward()
                loss += share.item()
        owned = (p for group in optimizer.param_groups for p in group["params"])
        norm = clip_gradients(owned, settings.max_norm)
        taken = total > 0 and math.isfinite(loss) and math.isfinite(norm)
        if taken:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
    finally:
        model.rematerialize = before
        model.zero_grad(set_to_none=True)
    return StepResult(loss, norm, total, taken)
    # END SOLUTION


@torch.no_grad()
def evaluate(model: Llama, batches: Iterable[Batch], settings: Settings) -> float:
    """The mean loss in nats over all counted targets of all batches, in eval mode; modes stay.

    Raises ValueError if no target counts.
    """
    # BEGIN SOLUTION 3.7
    total, tokens = 0.0, 0
    with in_eval_mode(model):
        for batch in batches:
            count = batch.counted()
            total += float(mean_loss(model, batch, settings)) * count
            tokens += count
    if not tokens:
        raise ValueError("there is no target to predict")
    return total / tokens
    # END SOLUTION


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
        # BEGIN SOLUTION 3.7
        s = self.settings
        for _ in range(steps):
            batches = [next(self.stream) for _ in range(s.accumulate)]
            rate = cosine_rate(self.step, s.peak, s.warmup_steps, s.total_steps, s.floor)
            result = train_step(self.model, self.optimizer, batches, rate, s)
            self.step += 1
            self.losses.append(result.loss)
            if on_step is not None:
                on_step(result)
        # END SOLUTION

    def state_dict(self) -> dict[str, Any]:
        """All that `resume` needs: tensors, numbers, strings, lists and dicts of them, nothing else.

        Entries: "model", "optimizer" and "stream", each one's state_dict; "generators", a text of
        `generator_state` each, torch's own as "torch" (and "cuda:0" and so on); "step"; "losses".
        """
        # BEGIN SOLUTION 3.7
        return {
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
            "stream": self.stream.state_dict(),
            "generators": {name: generator_state(g) for name, g in self._generators().items()},
            "step": self.step, "losses": list(self.losses),
        }  # fmt: skip
        # END SOLUTION

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put this trainer, built the same way with any seeds, into that state.

        Generators are set in place: model and data hold the same objects. Raises what
        load_state_dict of the model raises where it is another model's.
        """
        # BEGIN SOLUTION 3.7
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.stream.load_state_dict(state["stream"])
        for name, generator in self._generators().items():
            set_generator_state(generator, state["generators"][name])
        self.step = state["step"]
        self.losses = list(state["losses"])
        # END SOLUTION

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
        # BEGIN SOLUTION 3.7
        path = Path(path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with open(temporary, "wb") as file:
                torch.save(self.state_dict(), file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)  # the new name is on the disk only now
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        # END SOLUTION

    def resume(self, path: str | os.PathLike[str]) -> None:
        """`load_state_dict` of a file that `save` wrote; no code in it is run (weights_only=True).

        Raises FileNotFoundError where there is no file.
        """
        # BEGIN SOLUTION 3.7
        self.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        # END SOLUTION
