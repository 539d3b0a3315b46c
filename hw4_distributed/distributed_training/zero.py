"""Task 4.4: ZeRO: optimizer state, gradients and parameters, each divided among the ranks.

Follows Rajbhandari et al., 2020, "ZeRO: Memory Optimizations Toward Training Trillion Parameter
Models"; stage 3 works on units of modules as Zhao et al., 2023, "PyTorch FSDP".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from distributed_training.collectives import ring_all_gather, ring_all_reduce, ring_reduce_scatter
from distributed_training.communicator import Communicator
from distributed_training.partition import chunk_bounds


class ShardedUnit:
    """Parameters that are gathered, reduced and stepped together, one chunk of them on each rank.

    flat: all of them one after another, one-dimensional; each parameter's data is a view into it.
    shard: this rank's chunk, `chunk_bounds(len(flat), ranks.size)[ranks.rank]`, in float32: what the
    optimizer steps, whatever small type the parameters have. Parameters must have one type.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], ranks: Communicator) -> None:
        self.parameters, self.ranks = list(parameters), ranks
        count = sum(p.numel() for p in self.parameters)
        self.flat = torch.empty(
            count, dtype=self.parameters[0].dtype, device=self.parameters[0].device
        )
        self.bytes = self.flat.untyped_storage().nbytes()
        self.start, self.stop = chunk_bounds(count, ranks.size)[ranks.rank]
        pieces = self.flat.split([p.numel() for p in self.parameters])
        for piece, parameter in zip(pieces, self.parameters, strict=True):
            piece.copy_(parameter.detach().view(-1))
            parameter.data = piece.view(parameter.shape)
        self.shard = nn.Parameter(self.flat[self.start : self.stop].float().clone())
        self.pending = set(range(len(self.parameters)))

    def reduce_gradients(self) -> None:
        """Add the mean over ranks of this rank's chunk of the gradients to `shard.grad`; free them.

        A parameter without a gradient counts as zero. Reduced in float32. Every .grad is None after.
        """
        raise NotImplementedError("task 4.4: ShardedUnit.reduce_gradients")

    def gather(self) -> None:
        """Fill `flat`, and with it every parameter, from the shards of all ranks."""
        raise NotImplementedError("task 4.4: ShardedUnit.gather")

    def free(self) -> None:
        """Give back the memory of `flat`. What autograd saved of it stays valid after `gather`:
        the storage keeps its identity, and only its bytes go."""
        raise NotImplementedError("task 4.4: ShardedUnit.free")


def make_units(
    parameters: Iterable[nn.Parameter], ranks: Communicator, unit_bytes: int
) -> list[ShardedUnit]:
    """Given: units of about `unit_bytes`, in the reverse of the order given, one type each.

    Parameters without requires_grad are left out; one that occurs twice (tied) is in one unit, once.
    """
    distinct = [p for p in dict.fromkeys(parameters) if p.requires_grad]
    groups: list[list[nn.Parameter]] = []
    held = 0
    for parameter in reversed(distinct):
        if not groups or held >= unit_bytes or groups[-1][0].dtype != parameter.dtype:
            groups.append([])
            held = 0
        groups[-1].append(parameter)
        held += parameter.numel() * parameter.element_size()
    return [ShardedUnit(group, ranks) for group in groups]


class ZeroOptimizer:
    """AdamW on this rank's shards (stages 1 and 2), or on those of a `ZeroModule` (stage 3).

    Stage 1 reduces all gradients in `step`; stage 2 as backward brings them, unit after unit in one
    order on all ranks, so that at no time more than a unit's gradients beyond the shards are held.
    In both, after `step`, the parameters are gathered and equal on all ranks. Per step and rank,
    2·(n − 1)/n of the parameters' bytes are sent, as in data parallelism. State: `exp_avg`,
    `exp_avg_sq` and the float32 shard, 1/n each.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter] | Sequence[ShardedUnit],
        ranks: Communicator,
        stage: int,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        unit_bytes: int = 1 << 20,
    ) -> None:
        self.ranks, self.stage = ranks, stage
        given = list(parameters)
        if stage == 3:
            self.units: list[ShardedUnit] = given  # type: ignore[assignment]
        else:
            self.units = make_units(given, ranks, unit_bytes)  # type: ignore[arg-type]
        self.adamw = torch.optim.AdamW(
            [unit.shard for unit in self.units], lr=lr, betas=betas, eps=eps,
            weight_decay=weight_decay,
        )  # fmt: skip
        self._next = 0
        raise NotImplementedError("task 4.4: ZeroOptimizer.__init__")

    def _ready(self, parameter: nn.Parameter) -> None:
        """Stage 2's hook: reduce the units that are complete, in order."""
        raise NotImplementedError("task 4.4: ZeroOptimizer._ready")

    def finish_backward(self) -> None:
        """Reduce what backward has not: everything in stage 1, units with unused parameters in 2.

        Called by `step`; with several micro-batches in stage 2, call it after each backward.
        """
        raise NotImplementedError("task 4.4: ZeroOptimizer.finish_backward")

    def _partly_reduced(self) -> bool:
        """Given: whether this backward has left units unreduced on this rank."""
        return self._next > 0 or any(
            p.grad is not None for unit in self.units for p in unit.parameters
        )

    def clip_grad_norm(self, max_norm: float) -> float:
        """Scale the gradients so that their norm over all ranks is at most max_norm; the norm before.

        As `torch.nn.utils.clip_grad_norm_` of the whole model: one number crosses, not the gradients.
        """
        raise NotImplementedError("task 4.4: ZeroOptimizer.clip_grad_norm")

    def step(self) -> None:
        """Reduce what is left, step AdamW on the shards, gather the parameters (not in stage 3)."""
        raise NotImplementedError("task 4.4: ZeroOptimizer.step")

    def state_dict(self) -> dict[str, Any]:
        """This rank's part: its shards and AdamW's state of them."""
        return {"adamw": self.adamw.state_dict(), "shards": [u.shard.detach() for u in self.units]}


class ZeroModule(nn.Module):
    """Stage 3: a module whose blocks' parameters are there only while they are used.

    blocks: modules inside `module`, each used once in a forward pass; each becomes a unit, and what
    is in none of them (embedding, last norm, head) a unit of its own, which stays gathered from
    forward to the end of backward. A block is gathered before its forward, freed after it, gathered
    again before its backward, and freed when its gradients are reduced. Sent per step and rank:
    3·(n − 1)/n of the blocks' bytes. A parameter that two blocks share belongs to the outer unit.

        model = ZeroModule(module, module.blocks, ranks)
        optimizer = ZeroOptimizer(model.units, ranks, stage=3)
        loss(model(x)).backward()
        optimizer.step()
    """

    def __init__(
        self, module: nn.Module, blocks: Iterable[nn.Module], ranks: Communicator
    ) -> None:
        super().__init__()
        self.module = module
        blocks = list(blocks)
        raise NotImplementedError("task 4.4: ZeroModule.__init__")

    def _attach(self, block: nn.Module, unit: ShardedUnit) -> None:
        """Hooks that gather and free one block's unit."""
        raise NotImplementedError("task 4.4: ZeroModule._attach")

    @staticmethod
    def _reduce_when_complete(unit: ShardedUnit) -> None:
        """When the last of a unit's gradients is there: reduce them, and free the parameters."""
        raise NotImplementedError("task 4.4: ZeroModule._reduce_when_complete")

    def forward(self, *inputs: Tensor) -> Tensor:
        """The module's forward, with the outer unit gathered."""
        raise NotImplementedError("task 4.4: ZeroModule.forward")
