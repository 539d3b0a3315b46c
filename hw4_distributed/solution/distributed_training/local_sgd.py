"""Task 4.9: steps without communication, and a mean now and then (Stich, 2019; Lin et al., 2020)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from distributed_training.collectives import broadcast, ring_all_reduce
from distributed_training.communicator import Communicator


class LocalSGD:
    """Replaces the parameters by their mean over ranks after every `every` local steps.

        local = LocalSGD(module, ranks, every=8)
        …                    # backward, optimizer.step() as on one rank
        local.after_step()

    All parameters and buffers, frozen ones and integers too, are rank 0's at the start. Means are of
    parameters with requires_grad and of floating-point buffers; the others are left alone then. All tensors of one type travel
    together: one all-reduce a type.
    """

    def __init__(self, module: nn.Module, ranks: Communicator, every: int) -> None:
        if every < 1:
            raise ValueError(f"every {every}; at least 1 step lies between two means")
        self.module, self.ranks, self.every = module, ranks, every
        self.steps = 0
        # BEGIN SOLUTION 4.9
        with torch.no_grad():
            for tensor in (*module.parameters(), *module.buffers()):
                broadcast(ranks, tensor.data)
        # END SOLUTION

    def after_step(self) -> bool:
        """Count a step, and average where it is due; whether it was."""
        # BEGIN SOLUTION 4.9
        self.steps += 1
        if self.steps % self.every:
            return False
        self.average()
        return True
        # END SOLUTION

    def average(self) -> None:
        """Replace parameters and floating-point buffers by their means, now."""
        # BEGIN SOLUTION 4.9
        tensors = [p.data for p in self.module.parameters() if p.requires_grad]
        tensors += [b for b in self.module.buffers() if b.is_floating_point()]
        for dtype in dict.fromkeys(t.dtype for t in tensors):
            group = [t for t in tensors if t.dtype == dtype]
            flat = torch.cat([t.reshape(-1) for t in group])
            ring_all_reduce(self.ranks, flat, average=True)
            for tensor, piece in zip(group, flat.split([t.numel() for t in group]), strict=True):
                tensor.copy_(piece.view(tensor.shape))
        # END SOLUTION

    def state_dict(self) -> dict[str, Any]:
        """The steps counted: a run that resumes between two means takes the next one in time."""
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Count on from `state_dict`'s steps."""
        self.steps = state["steps"]
