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
        # BEGIN SOLUTION 4.4
        whole = torch.cat([
            torch.zeros(p.numel(), device=self.flat.device) if p.grad is None
            else p.grad.detach().reshape(-1).float()
            for p in self.parameters
        ])  # fmt: skip
        for parameter in self.parameters:
            parameter.grad = None
        mine = ring_reduce_scatter(self.ranks, whole) / self.ranks.size
        self.shard.grad = mine if self.shard.grad is None else self.shard.grad + mine
        self.pending = set(range(len(self.parameters)))
        # END SOLUTION

    def gather(self) -> None:
        """Fill `flat`, and with it every parameter, from the shards of all ranks."""
        # BEGIN SOLUTION 4.4
        storage = self.flat.untyped_storage()
        if storage.nbytes() == 0:
            storage.resize_(self.bytes)
        mine = self.shard.detach().to(self.flat.dtype)
        self.flat.data.copy_(ring_all_gather(self.ranks, mine, len(self.flat)))
        # END SOLUTION

    def free(self) -> None:
        """Give back the memory of `flat`. What autograd saved of it stays valid after `gather`:
        the storage keeps its identity, and only its bytes go."""
        # BEGIN SOLUTION 4.4
        self.flat.untyped_storage().resize_(0)
        # END SOLUTION


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
        # BEGIN SOLUTION 4.4
        if stage == 2:
            self._unit_of = {
                id(p): (unit, index)
                for unit in self.units for index, p in enumerate(unit.parameters)
            }  # fmt: skip
            for unit in self.units:
                for parameter in unit.parameters:
                    parameter.register_post_accumulate_grad_hook(self._ready)
        # END SOLUTION

    def _ready(self, parameter: nn.Parameter) -> None:
        """Stage 2's hook: reduce the units that are complete, in order."""
        # BEGIN SOLUTION 4.4
        unit, index = self._unit_of[id(parameter)]
        unit.pending.discard(index)
        while self._next < len(self.units) and not self.units[self._next].pending:
            self.units[self._next].reduce_gradients()
            self._next += 1
        if self._next == len(self.units):
            self._next = 0  # the next micro-batch adds to the same shards
        # END SOLUTION

    def finish_backward(self) -> None:
        """Reduce what backward has not: everything in stage 1, units with unused parameters in 2.

        Called by `step`; with several micro-batches in stage 2, call it after each backward.
        """
        # BEGIN SOLUTION 4.4
        if self.stage == 1 or (self.stage == 2 and self._partly_reduced()):
            for unit in self.units[self._next :]:
                unit.reduce_gradients()
            self._next = 0
        # END SOLUTION

    def _partly_reduced(self) -> bool:
        """Given: whether this backward has left units unreduced on this rank."""
        return self._next > 0 or any(
            p.grad is not None for unit in self.units for p in unit.parameters
        )

    def clip_grad_norm(self, max_norm: float) -> float:
        """Scale the gradients so that their norm over all ranks is at most max_norm; the norm before.

        As `torch.nn.utils.clip_grad_norm_` of the whole model: one number crosses, not the gradients.
        """
        # BEGIN SOLUTION 4.4
        self.finish_backward()
        grads = [unit.shard.grad for unit in self.units if unit.shard.grad is not None]
        total = sum((g.double().square().sum() for g in grads), torch.zeros((), dtype=torch.float64))
        total = total.view(1)
        ring_all_reduce(self.ranks, total)
        norm = float(total.sqrt())
        scale = min(1.0, max_norm / (norm + 1e-6))
        if scale < 1.0:
            for grad in grads:
                grad.mul_(scale)
        return norm
        # END SOLUTION

    def step(self) -> None:
        """Reduce what is left, step AdamW on the shards, gather the parameters (not in stage 3)."""
        # BEGIN SOLUTION 4.4
        self.finish_backward()
        self.adamw.step()
        self.adamw.zero_grad(set_to_none=True)
        if self.stage < 3:
            for unit in self.units:
                unit.gather()
        # END SOLUTION

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
        # BEGIN SOLUTION 4.4
        uses: dict[nn.Parameter, int] = {}
        for block in blocks:
            for parameter in dict.fromkeys(block.parameters()):
                uses[parameter] = uses.get(parameter, 0) + 1
        self.units: list[ShardedUnit] = []
        own = {p for p, count in uses.items() if count == 1 and p.requires_grad}
        outside = [p for p in module.parameters() if p not in own and p.requires_grad]
        for block in blocks:
            mine = [p for p in block.parameters() if p in own]
            if mine:
                self._attach(block, ShardedUnit(mine, ranks))
        self.outer = ShardedUnit(outside, ranks) if outside else None
        if self.outer is not None:
            self.units.append(self.outer)
            self._reduce_when_complete(self.outer)
            self.outer.free()
        # END SOLUTION

    def _attach(self, block: nn.Module, unit: ShardedUnit) -> None:
        """Hooks that gather and free one block's unit."""
        # BEGIN SOLUTION 4.4
        self.units.append(unit)
        block.register_forward_pre_hook(lambda *_: unit.gather())
        block.register_forward_hook(lambda *_: unit.free())
        block.register_full_backward_pre_hook(lambda *_: unit.gather())
        self._reduce_when_complete(unit)
        unit.free()
        # END SOLUTION

    @staticmethod
    def _reduce_when_complete(unit: ShardedUnit) -> None:
        """When the last of a unit's gradients is there: reduce them, and free the parameters."""
        # BEGIN SOLUTION 4.4
        places = {id(p): index for index, p in enumerate(unit.parameters)}

        def ready(parameter: nn.Parameter) -> None:
            unit.pending.discard(places[id(parameter)])
            if not unit.pending:
                unit.reduce_gradients()
                unit.free()

        for parameter in unit.parameters:
            parameter.register_post_accumulate_grad_hook(ready)
        # END SOLUTION

    def forward(self, *inputs: Tensor) -> Tensor:
        """The module's forward, with the outer unit gathered."""
        # BEGIN SOLUTION 4.4
        if self.outer is not None:
            self.outer.gather()
        return self.module(*inputs)
        # END SOLUTION
