"""Task 4.6: a pipeline stage that runs its part of a schedule."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from distributed_training.actions import Action
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

    inputs: the micro-batches' ids, used on the first rank; targets: used on the last. hidden_shape:
    the shape of what crosses between stages for a micro-batch (the last one may be smaller).
    The loss of a micro-batch is weighted by its share of all rows, so that the sum of the gradients
    is that of the whole batch's mean loss. Activations go to the next rank and gradients to the
    previous one, each micro-batch under its own tag; sends do not wait for the other side, so that
    1F1B's neighbours, which send to each other at the same time, do not wait in a circle. What was
    held for a micro-batch is let go at the end of its backward. Returns the weighted losses by
    micro-batch on the last rank, [] elsewhere.
    """
    # BEGIN SOLUTION 4.6
    first, last = ranks.rank == 0, ranks.rank == ranks.size - 1
    rows = sum(len(part) for part in inputs)
    held: dict[int, tuple[Tensor, Tensor]] = {}
    losses = [0.0] * len(inputs)
    sending: list[tuple[Work, Tensor]] = []
    for action in actions:
        m = action.microbatch
        if action.kind == "forward":
            if first:
                x = inputs[m]
            else:
                x = torch.empty(hidden_shape(m), dtype=dtype)
                ranks.recv(x, ranks.rank - 1, tag=2 * m)
                x.requires_grad_()
            y = stage(x)
            if last:
                y = loss(y, targets[m]) * (len(inputs[m]) / rows)
                losses[m] = y.item()
            else:
                message = y.detach().contiguous()
                sending.append((ranks.isend(message, ranks.rank + 1, tag=2 * m), message))
            held[m] = (x, y)
        else:
            x, y = held.pop(m)
            if last:
                y.backward()
            else:
                upstream = torch.empty_like(y)
                ranks.recv(upstream, ranks.rank + 1, tag=2 * m + 1)
                y.backward(upstream)
            if not first:
                assert x.grad is not None
                message = x.grad.contiguous()
                sending.append((ranks.isend(message, ranks.rank - 1, tag=2 * m + 1), message))
    for work, _ in sending:
        work.wait()
    return losses if last else []
    # END SOLUTION
