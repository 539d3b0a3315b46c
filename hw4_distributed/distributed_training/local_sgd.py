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
        raise NotImplementedError("task 4.9: LocalSGD.__init__")

    def after_step(self) -> bool:
        """Count a step, and average where it is due; whether it was."""
        raise NotImplementedError("task 4.9: LocalSGD.after_step")

    def average(self) -> None:
        """Replace parameters and floating-point buffers by their means, now."""
        raise NotImplementedError("task 4.9: LocalSGD.average")

    def state_dict(self) -> dict[str, Any]:
        """The steps counted: a run that resumes between two means takes the next one in time."""
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Count on from `state_dict`'s steps."""
        self.steps = state["steps"]
