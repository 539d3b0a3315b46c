"""Task 4.4: ZeRO: optimizer state, gradients and parameters, each divided among the ranks.

Follows Rajbhandari et al., 2020, "ZeRO: Memory Optimizations Toward Training Trillion Parameter
Models"; stage 3 works on units of modules as Zhao et al., 2023, "PyTorch FSDP".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from distributed_training.collectives import ring_all_gather, ring_all_reduce, ring_reduce_scatter
from distributed_training.communicator import Communicator
from distributed_training.partition import chunk_bounds


class ShardedUnit:
    """Parameters that are gathered, reduced and stepped together, one chunk of them on each rank.

    flat: all of them one after another, one-dimensional; each parameter's data is a view into it.
    shard: this rank's chunk, `chunk_bounds(len(flat), ranks.size)[ranks.rank]`, in float32 where the
    parameters' type is smaller: what the optimizer steps. unreduced: stage 3's mark that a backward
    has begun whose gradients this unit has not reduced yet. Parameters must start equal on all
    ranks; raises ValueError where they have several types.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], ranks: Communicator) -> None:
        self.parameters, self.ranks = list(parameters), ranks
        types = {p.dtype for p in self.parameters}
        if len(types) != 1:
            raise ValueError(f"a unit's parameters must have one type, not {sorted(map(str, types))}")
        count = sum(p.numel() for p in self.parameters)
        first = self.parameters[0]
        self.flat = torch.empty(count, dtype=first.dtype, device=first.device)
        self.bytes = self.flat.untyped_storage().nbytes()
        self.start, self.stop = chunk_bounds(count, ranks.size)[ranks.rank]
        pieces = self.flat.split([p.numel() for p in self.parameters])
        for piece, parameter in zip(pieces, self.parameters, strict=True):
            piece.copy_(parameter.detach().reshape(-1))
            parameter.data = piece.view(parameter.shape)
        self.master = torch.promote_types(first.dtype, torch.float32)  # the type of the shard
        self.shard = nn.Parameter(self.flat[self.start : self.stop].to(self.master, copy=True))
        self.pending = set(range(len(self.parameters)))
        self.unreduced = False

    def reduce_gradients(self) -> None:
        """Add the mean over ranks of this rank's chunk of the gradients to `shard.grad`; free them.

        A parameter without a gradient counts as zero. Sent and added in the shard's type. Every
        .grad is None after, and all parameters are pending again.
        """
        raise NotImplementedError("task 4.4: ShardedUnit.reduce_gradients")

    def gather(self) -> None:
        """Fill `flat`, and with it every parameter, from the shards of all ranks.

        Sent in the parameters' type. Its storage gets its bytes back first, where it was freed.
        """
        raise NotImplementedError("task 4.4: ShardedUnit.gather")

    def free(self) -> None:
        """Give back the memory of `flat`. What autograd saved of it stays valid after `gather`:
        the storage keeps its identity, and only its bytes go."""
        raise NotImplementedError("task 4.4: ShardedUnit.free")

    def close(self) -> None:
        """Given: stage 3's end of a backward: gradients reduced, parameters freed."""
        self.reduce_gradients()
        self.free()
        self.unreduced = False


def make_units(
    parameters: Iterable[nn.Parameter], ranks: Communicator, unit_bytes: int
) -> list[ShardedUnit]:
    """Given: units of about `unit_bytes`, in the reverse of the order given, one type each.

    Parameters without requires_grad are left out; one that occurs twice (tied) is in one unit, once.
    Backward brings the last parameters' gradients first: the first unit is complete first.
    """
    units: list[list[nn.Parameter]] = []
    for last in reversed([p for p in dict.fromkeys(parameters) if p.requires_grad]):
        open_one = units[-1] if units else []
        room = sum(p.nbytes for p in open_one) < unit_bytes
        if open_one and room and open_one[0].dtype == last.dtype:
            open_one.append(last)
        else:
            units.append([last])
    return [ShardedUnit(unit, ranks) for unit in units]


class ZeroOptimizer:
    """AdamW on this rank's shards (stages 1 and 2), or on those of a `ZeroModule` (stage 3).

    Stage 1 reduces all gradients in `step`; stage 2 as backward brings them, unit after unit in one
    order on all ranks, so that at no time more than the gradients of units that still wait for
    one are held beside the shards'. In both, after `step`, the parameters are gathered and equal on
    all ranks. Per step and rank, 2·(n − 1)/n of the parameters' bytes are sent, as in data
    parallelism (gradients of small types travel as float32). State: `exp_avg`, `exp_avg_sq` and the
    shard itself, 1/n each. A parameter that no rank uses has a gradient of zero: it decays.
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
        if stage not in (1, 2, 3):
            raise ValueError(f"there is no stage {stage}")
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
        self._next = 0  # the first unit that this backward has not reduced
        self._clipped = False  # whether clip_grad_norm has finished this step's backward
        raise NotImplementedError("task 4.4: ZeroOptimizer.__init__")

    def _ready(self, parameter: nn.Parameter) -> None:
        """Stage 2's hook: reduce the units that are complete, in order.

        A unit that is complete waits for those before it: all ranks reduce in the same order.
        Raises RuntimeError where this backward had brought the gradient already: a second backward
        without `finish_backward` in between, whose gradients would be lost.
        """
        raise NotImplementedError("task 4.4: ZeroOptimizer._ready")

    def finish_backward(self) -> None:
        """Reduce what backward has not: everything in stage 1, units with unused parameters in 2,
        the last block and the outer unit in 3.

        Call it after each backward but the last; after the last, `step` and `clip_grad_norm` do.
        A rank cannot see whether the others have reduced everything: so it may not leave out a unit
        because nothing came for it, not even if nothing came at all.
        """
        raise NotImplementedError("task 4.4: ZeroOptimizer.finish_backward")

    def clip_grad_norm(self, max_norm: float) -> float:
        """Scale the gradients so that their norm over all ranks is at most max_norm; the norm before.

        As `torch.nn.utils.clip_grad_norm_` of the whole model, which multiplies by
        max_norm / (norm + 1e-6) where that is below 1, and by NaN where the norm is NaN. One number
        crosses, not the gradients.
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

    blocks: modules inside `module`, each used once in a forward pass, and by every rank in the same
    order; each becomes a unit (one for each type of its parameters), and what is in none of them
    (embedding, last norm, head) units of their own, "outer", which stay gathered from forward to the
    end of backward. A parameter that two blocks share, or a block and what is outside, is outer.
    Parameters without requires_grad stay whole on every rank.

    A block is gathered before its forward and freed after it, gathered again before its backward,
    and its gradients are reduced and it is freed when the next block's backward begins: not when
    its last gradient has come, for that differs between ranks where one of them leaves a parameter
    unused. What is left when backward ends, the last block and then the outer units, is reduced by
    `ZeroOptimizer.finish_backward`, or when the next forward begins. Sent per step and rank:
    3·(n − 1)/n of the blocks' bytes, 2·(n − 1)/n of the outer ones'. Without recording (`no_grad`)
    nothing stays gathered after forward.

        model = ZeroModule(module, module.blocks, ranks)
        optimizer = ZeroOptimizer(model.units, ranks, stage=3)
        loss(model(x)).backward()
        optimizer.step()
    """

    def __init__(
        self, module: nn.Module, blocks: Iterable[nn.Module], ranks: Communicator
    ) -> None:
        super().__init__()
        self.module, self.ranks = module, ranks
        blocks = list(blocks)
        shared = _used_outside(module, blocks)
        own = [[p for p in _trained(block) if p not in shared] for block in blocks]
        outer = [p for p in _trained(module) if p in shared]
        self.outer = _units_by_type(outer, ranks)
        self.units: list[ShardedUnit] = []  # the blocks' in the order given, the outer ones last
        raise NotImplementedError("task 4.4: ZeroModule.__init__")

    def _attach(self, block: nn.Module, units: list[ShardedUnit]) -> None:
        """Hooks that gather and free one block's units."""
        raise NotImplementedError("task 4.4: ZeroModule._attach")

    def _backward_begins(self, *_: Any) -> None:
        """Hook of the module's output: it has its gradient. Forward attaches it."""
        raise NotImplementedError("task 4.4: ZeroModule._backward_begins")

    @staticmethod
    def _close(units: Iterable[ShardedUnit]) -> None:
        """Given: reduce and free those that a backward has left."""
        for unit in units:
            if unit.unreduced:
                unit.close()

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """The module's forward, with the outer units gathered."""
        raise NotImplementedError("task 4.4: ZeroModule.forward")

    @contextmanager
    def gathered(self) -> Iterator[nn.Module]:
        """Given: the module with all its parameters, on every rank: to look at, or to save."""
        for unit in self.units:
            unit.gather()
        try:
            yield self.module
        finally:
            for unit in self.units:
                unit.free()


def _trained(module: nn.Module) -> list[nn.Parameter]:
    """Given: its parameters that want gradients, each once."""
    return [p for p in module.parameters() if p.requires_grad]


def _tensors(output: Any) -> list[Tensor]:
    """Given: the tensors of a module's output: itself, or those in a tuple, a list or a dict."""
    if isinstance(output, Tensor):
        return [output]
    inside = output.values() if isinstance(output, dict) else output
    return [tensor for tensor in inside if isinstance(tensor, Tensor)]


def _used_outside(module: nn.Module, blocks: list[nn.Module]) -> set[nn.Parameter]:
    """Given: parameters of `module` that are used outside its blocks, or by several of them."""
    uses = Counter(p for block in blocks for p in set(block.parameters()))
    found = {p for p, count in uses.items() if count > 1}
    waiting = [module]
    while waiting:
        part = waiting.pop()
        if not any(part is block for block in blocks):
            found.update(part.parameters(recurse=False))
            waiting += part.children()
    return found


def _units_by_type(parameters: list[nn.Parameter], ranks: Communicator) -> list[ShardedUnit]:
    """Given: a unit for each type that occurs, in the order of the parameters."""
    types = dict.fromkeys(p.dtype for p in parameters)
    return [ShardedUnit([p for p in parameters if p.dtype == t], ranks) for t in types]
