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


def run_schedule(
    stage: nn.Module,
    actions: Sequence[Action],
    ranks: Communicator,
    inputs: Sequence[Tensor],
    targets: Sequence[Tensor],
    loss: Loss,
    hidden_shape: Callable[[int], tuple[int, ...]],
    dtype: torch.dtype = torch.float32,
) -> list[float]:
    """Run this rank's actions; gradients are added to the stage's parameters.

    inputs: the micro-batches' ids, one tensor (rows, time) each; their values are used on the first
    rank, their numbers of rows on all. targets: their values are used on the last. hidden_shape: the
    shape of what crosses between stages for a micro-batch (the last one may be smaller).

    Any actions that the simulator can run are followed, not 1F1B alone; every stage must do its
    backwards in the same order. A receive is posted when its action starts, no earlier. Micro-batch
    m's activations go to the next rank under tag 2m, their gradients back under tag 2m + 1. Sends do
    not wait for the other side, or 1F1B's neighbours, which send to each other at the same time,
    would wait in a circle.

    The loss of a micro-batch is weighted by its share of all rows, so that the sum of the gradients
    is that of the whole batch's mean loss. What was held for a micro-batch is let go at the end of
    its backward, what was sent for it too: an activation has arrived when its gradient comes back,
    and a gradient at the latest when the next one is sent (`Work.wait`).

    Returns the weighted losses by micro-batch on the last rank, [] elsewhere. Where nothing on a
    stage and before it is trained, its backwards only receive. Raises ValueError, before anything is
    sent, where the actions are not a forward and later a backward of each of the inputs.
    """
    check_run(actions, len(inputs), len(targets))
    raise NotImplementedError("task 4.6: run_schedule")


def check_run(actions: Sequence[Action], inputs: int, targets: int) -> None:
    """Given: each of `inputs` micro-batches forward once and backward once, later, or ValueError."""
    check_complete([list(actions)])
    count = len(actions) // 2
    if count != inputs or inputs != targets:
        raise ValueError(f"actions of {count} micro-batches, {inputs} inputs, {targets} targets")
