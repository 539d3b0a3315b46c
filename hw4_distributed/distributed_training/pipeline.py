"""Task 4.6: a pipeline stage that runs its part of a schedule."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from distributed_training.actions import Action, check_complete
from distributed_training.communicator import Communicator, Work
from distributed_training.model import Llama
from distributed_training.partition import chunk_bounds

# Logits or whatever the last stage makes, and the targets of the micro-batch -> a scalar.
Loss = Callable[[Tensor, Tensor], Tensor]
# A micro-batch's index m -> the shape of what crosses between two stages for it.
HiddenShape = Callable[[int], tuple[int, ...]]


class Stage(nn.Module):
    """A rank's part of a model: blocks `chunk_bounds(num_layers, size)[rank]`.

    The first rank has the embedding as well, the last one the norm and the head. Parameters keep
    the names that they have in the whole model. Raises ValueError where embeddings are tied: the
    first and the last stage would share a parameter.
    """

    def __init__(self, model: Llama, rank: int, size: int) -> None:
        super().__init__()
        if model.config.tie_embeddings:
            raise ValueError("tied embeddings lie on the first and on the last stage: untie them")
        start, stop = chunk_bounds(model.config.num_layers, size)[rank]
        self.embedding = model.embedding if rank == 0 else None
        self.blocks = nn.ModuleDict({str(i): model.blocks[i] for i in range(start, stop)})
        self.norm = model.norm if rank == size - 1 else None
        self.head = model.head if rank == size - 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """ids (batch, time) on the first stage, hidden states elsewhere -> hidden states or logits."""
        if self.embedding is not None:
            x = self.embedding(x)
        for block in self.blocks.values():
            x = block(x)
        if self.norm is not None and self.head is not None:
            x = self.head(self.norm(x))
        return x


class StageRun:
    """One run of a stage's actions on rank `ranks.rank`: forwards, backwards, and what is held.

    The messages are fixed. Micro-batch m's activations go to the next rank under tag 2m, their
    gradient comes back under tag 2m + 1. A receive is posted when its action starts, no earlier.
    Sends do not wait for the other side: 1F1B's neighbours, which send to each other at the same
    time, would wait in a circle.

    At the end of its backward nothing of a micro-batch is held any more, except the gradient that
    was sent, until the next one is. (An activation has arrived when its gradient comes back; a
    gradient is waited for, `Work.wait`, before the next one is sent.)
    """

    def __init__(
        self, stage: nn.Module, ranks: Communicator, inputs: Sequence[Tensor],
        targets: Sequence[Tensor], loss: Loss, hidden_shape: HiddenShape, dtype: torch.dtype,
    ) -> None:  # fmt: skip
        self.stage, self.ranks, self.loss = stage, ranks, loss
        self.inputs, self.targets = inputs, targets
        self.hidden_shape, self.dtype = hidden_shape, dtype
        self.losses = [0.0] * len(inputs)
        self.held: dict[int, tuple[Tensor, Tensor]] = {}  # the stage's input and output
        self.sending: dict[int, Work] = {}  # activations under way, by micro-batch
        self.returning: Work | None = None  # the last gradient under way

    def forward(self, m: int) -> None:
        """Receive (the first rank has its own input), compute, send; the last rank takes the loss.

        The loss is weighted by the micro-batch's share of all rows. `losses[m]` is set.
        """
        raise NotImplementedError("task 4.6: StageRun.forward")

    def backward(self, m: int) -> None:
        """Receive the output's gradient (the last rank has the loss), go back, send the input's.

        Where nothing on this rank and before it is trained, the gradient is received and dropped.
        """
        raise NotImplementedError("task 4.6: StageRun.backward")

    def finish(self) -> None:
        """Given: return when the last gradient sent has arrived."""
        if self.returning is not None:
            self.returning.wait()
            self.returning = None


def run_schedule(
    stage: nn.Module,
    actions: Sequence[Action],
    ranks: Communicator,
    inputs: Sequence[Tensor],
    targets: Sequence[Tensor],
    loss: Loss,
    hidden_shape: HiddenShape,
    dtype: torch.dtype = torch.float32,
) -> list[float]:
    """Run this rank's actions, in a `StageRun`; gradients are added to the stage's parameters.

    inputs: the micro-batches' ids, (rows, time) each; their values are used on the first rank, their
    numbers of rows on all. targets: their values are used on the last. hidden_shape: the shape of
    what crosses between stages for a micro-batch, of type `dtype`; the last may be smaller.
    Any actions that the simulator can run are followed, not 1F1B's alone, if every stage does its
    backwards in the same order. The sum of the gradients is that of the whole batch's mean loss.
    Returns the weighted losses by micro-batch on the last rank, [] elsewhere. Raises ValueError,
    before anything is sent, where the actions are not a forward and later a backward of each input.
    """
    check_run(actions, len(inputs), len(targets))
    raise NotImplementedError("task 4.6: run_schedule")


def check_run(actions: Sequence[Action], inputs: int, targets: int) -> None:
    """Given: each of `inputs` micro-batches forward once and backward once, later, or ValueError."""
    check_complete([list(actions)])
    count = len(actions) // 2
    if count != inputs or inputs != targets:
        raise ValueError(f"actions of {count} micro-batches, {inputs} inputs, {targets} targets")
