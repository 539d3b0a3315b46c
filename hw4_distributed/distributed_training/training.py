"""One model trained in many ways: what `train.py` runs. Given; the parts are your own tasks'."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from distributed_training.collectives import ring_all_reduce
from distributed_training.communicator import Communicator
from distributed_training.data_parallel import DataParallel, mean_over_ranks
from distributed_training.model import Llama, ModelConfig, next_token_loss
from distributed_training.pipeline import Stage, run_schedule
from distributed_training.power_sgd import PowerSGDReducer
from distributed_training.quantized_all_reduce import Int8Reducer
from distributed_training.schedules import gpipe, one_forward_one_backward
from distributed_training.tensor_parallel import parallelize, vocab_parallel_cross_entropy
from distributed_training.top_k import TopKReducer
from distributed_training.zero import ZeroModule, ZeroOptimizer

MODES = ("single", "dp", "zero1", "zero2", "zero3", "tp", "pp", "dp_pp", "dp_tp")
COMPRESSORS = ("none", "top_k", "power_sgd", "int8")


@dataclass(frozen=True)
class Plan:
    """How to train. inner: ranks of one pipeline or tensor group in the 2-D mixes."""

    mode: str
    compress: str = "none"
    inner: int = 2
    microbatches: int = 4
    schedule: str = "1f1b"
    fraction: float = 0.05
    power_rank: int = 2
    lr: float = 3e-3
    eps: float = 1e-4

    def shape(self, size: int) -> tuple[int, int]:
        """(replicas, ranks of one replica) in a world of `size`."""
        if self.mode in ("tp", "pp"):
            return 1, size
        if self.mode in ("dp_pp", "dp_tp"):
            return size // self.inner, self.inner
        return size, 1


def check(plan: Plan, config: ModelConfig, size: int, batch: int) -> None:
    """Refuse what can't be run; raises ValueError that names the option to change."""
    if plan.mode == "single" and size > 1:
        raise ValueError(f"--mode single runs in one process, not {size}")
    if plan.mode in ("dp_pp", "dp_tp") and size % plan.inner:
        raise ValueError(f"--inner {plan.inner} does not divide a world of {size} ranks")
    replicas, inner = plan.shape(size)
    if batch % replicas:
        raise ValueError(f"--batch {batch} rows can't be shared evenly by {replicas} replicas")
    if plan.mode.endswith("tp") and config.num_heads % inner:
        raise ValueError(f"--heads {config.num_heads} can't be shared evenly by {inner} ranks")
    if plan.mode.endswith("pp") and config.num_layers % inner:
        raise ValueError(f"--layers {config.num_layers} can't be shared evenly by {inner} stages")
    if plan.mode.endswith("pp") and batch // replicas % plan.microbatches:
        raise ValueError(f"--microbatches {plan.microbatches} must divide {batch // replicas} rows")
    if plan.compress != "none" and not plan.mode.startswith("dp"):
        raise ValueError(f"--compress {plan.compress} needs dp, dp_pp or dp_tp, not {plan.mode}")


class Run:
    """A model, its optimizer and its groups; `step` trains on one global batch."""

    def __init__(self, plan: Plan, config: ModelConfig, ranks: Communicator, seed: int,
                 device: torch.device) -> None:  # fmt: skip
        self.plan, self.config, self.ranks, self.device = plan, config, ranks, device
        self.sent_before = 0  # bytes, of the run that this one goes on with
        self.replicas, self.inner = plan.shape(ranks.size)
        self.replica, self.place = divmod(ranks.rank, self.inner)
        self.across = self.within = ranks
        self.counted = [ranks]
        if self.replicas > 1 and self.inner > 1:
            self._make_grid()
        self.report = ranks.subgroup(range(ranks.size)) or ranks  # its bytes are nobody's cost
        module: Any = Llama(config).initialize(seed).to(device)
        if plan.mode.endswith("tp"):
            module = parallelize(module, self.within)
        elif plan.mode.endswith("pp"):
            module = Stage(module, self.place, self.inner)
        self.model: Any = module
        options = {"lr": plan.lr, "eps": plan.eps}
        if plan.mode == "zero3":
            self.model = ZeroModule(module, module.blocks, ranks)
            self.optimizer: Any = ZeroOptimizer(self.model.units, ranks, 3, **options)
        elif plan.mode.startswith("zero"):
            stage = int(plan.mode[-1])
            self.optimizer = ZeroOptimizer(module.parameters(), ranks, stage, **options)
        else:
            if plan.mode.startswith("dp"):
                self.model = DataParallel(module, self.across, reducer=self._reducer())
            self.optimizer = torch.optim.AdamW(module.parameters(), **options)

    def _make_grid(self) -> None:
        """Ranks replica · inner + place: a group for each replica and for each place."""
        for replica in range(self.replicas):
            first = replica * self.inner
            group = self.ranks.subgroup(range(first, first + self.inner))
            self.within = group or self.within
        for place in range(self.inner):
            group = self.ranks.subgroup(range(place, self.ranks.size, self.inner))
            self.across = group or self.across
        self.counted = [self.within, self.across]

    def _reducer(self) -> Callable[..., None]:
        makers: dict[str, Callable[[], Callable[..., None]]] = {
            "none": lambda: mean_over_ranks,
            "top_k": lambda: TopKReducer(self.plan.fraction),
            "power_sgd": lambda: PowerSGDReducer(self.plan.power_rank),
            "int8": Int8Reducer,
        }
        return makers[self.plan.compress]()

    def step(self, ids: Tensor) -> tuple[float, int]:
        """ids: (batch, time + 1), the same on every rank. The loss of the whole batch, and the bytes
        that all ranks together have sent since the start."""
        rows = len(ids) // self.replicas
        mine = ids[self.replica * rows : (self.replica + 1) * rows]
        data_parallel = isinstance(self.model, DataParallel)
        if not self.plan.mode.startswith("zero"):
            self.optimizer.zero_grad()
        if data_parallel and self.inner > 1:
            with self.model.no_sync():  # one group at a time: nccl may not interleave two
                loss = self._backward(mine)
        else:
            loss = self._backward(mine)
        if data_parallel:
            self.model.finish()
        self.optimizer.step()
        sent = sum(group.counters.total_bytes for group in self.counted)
        if self.ranks.rank == 0:
            sent += self.sent_before
        both = torch.tensor([loss / self.replicas, sent], dtype=torch.float64, device=ids.device)
        ring_all_reduce(self.report, both)
        return float(both[0]), int(both[1])

    def _backward(self, ids: Tensor) -> float:
        """Gradients of this replica's mean loss; returns this rank's share of that loss."""
        inputs, targets = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
        mode = self.plan.mode
        if mode.endswith("pp"):
            count = self.plan.microbatches
            make = gpipe if self.plan.schedule == "gpipe" else one_forward_one_backward
            parts, shape = inputs.chunk(count), (len(ids) // count, inputs.shape[1])
            losses = run_schedule(
                self.model, make(self.inner, count)[self.place], self.within, parts,
                targets.chunk(count), next_token_loss, lambda m: (*shape, self.config.hidden_size),
            )  # fmt: skip
            return sum(losses)
        logits = self.model(inputs)
        if mode.endswith("tp"):
            flat = logits.flatten(0, 1)
            vocabulary = self.config.vocab_size
            right = targets.flatten()
            loss = vocab_parallel_cross_entropy(flat, right, self.within, vocabulary)
        else:
            loss = next_token_loss(logits, targets)
        loss.backward()
        return loss.item() / self.inner
