"""The reference over gloo's own transport, against one process: a check for staff.

    OMP_NUM_THREADS=1 python -m torch.distributed.run --nproc-per-node 3 hidden/over_gloo.py

Collectives in four types, then three steps of a tied Llama under data parallelism and ZeRO 1 to 3.
Rank 0 prints how far each is from one process; a difference that matters ends in an exception.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
import distributed_training

distributed_training.__path__.insert(0, str(ROOT / "solution" / "distributed_training"))
import torch
from distributed_training.collectives import all_to_all, broadcast, ring_all_reduce
from distributed_training.communicator import Communicator, connect
from distributed_training.data_parallel import DataParallel
from distributed_training.model import Llama, ModelConfig, next_token_loss
from distributed_training.tree_collectives import tree_all_reduce
from distributed_training.zero import ZeroModule, ZeroOptimizer

ADAMW = {"lr": 1e-2, "eps": 1e-3}  # a large eps: rounding is not turned into steps
CONFIG = ModelConfig(
    num_layers=2, hidden_size=16, vocab_size=32, intermediate_size=24, tie_embeddings=True
)


def collectives(ranks: Communicator) -> None:
    """Every collective, empty tensors included."""
    size = ranks.size
    for dtype in (torch.float32, torch.bfloat16, torch.int64, torch.uint8):
        for count in (0, 1, 7, 40):
            start = torch.arange(count).to(dtype)
            expected = sum((start + rank).double() for rank in range(size))
            for reduce in (ring_all_reduce, tree_all_reduce):
                mine = start + ranks.rank
                reduce(ranks, mine)
                torch.testing.assert_close(mine.double(), expected, rtol=0.05, atol=0)
            mine = start + ranks.rank
            broadcast(ranks, mine, size - 1)
            torch.testing.assert_close(mine, start + size - 1)
    parts = [torch.full((ranks.rank + k, 2), float(10 * ranks.rank + k)) for k in range(size)]
    for k, part in enumerate(all_to_all(ranks, parts, [k + ranks.rank for k in range(size)])):
        torch.testing.assert_close(part, torch.full_like(part, 10.0 * k + ranks.rank))


def trained(ranks: Communicator, stage: int, ids: torch.Tensor) -> list[torch.Tensor]:
    """The parameters after three steps; stage 0 is data parallelism."""
    module = Llama(CONFIG).initialize(0)
    model: Any = module
    if stage == 0:
        model = DataParallel(module, ranks, bucket_bytes=2000)
        optimizer: Any = torch.optim.AdamW(module.parameters(), **ADAMW)
    elif stage == 3:
        model = ZeroModule(module, module.blocks, ranks)
        optimizer = ZeroOptimizer(model.units, ranks, 3, **ADAMW)
    else:
        optimizer = ZeroOptimizer(module.parameters(), ranks, stage, unit_bytes=2000, **ADAMW)
    for _ in range(3):
        if stage == 0:
            optimizer.zero_grad()
        next_token_loss(model(ids[:, :-1]), ids[:, 1:]).backward()
        if stage == 0:
            model.finish()
        optimizer.step()
    if stage < 3:
        return [p.detach().clone() for p in module.parameters()]
    with model.gathered():
        return [p.detach().clone() for p in module.parameters()]


def main() -> None:
    """Run all of it on this rank."""
    torch.set_num_threads(1)
    ranks = connect()
    collectives(ranks)
    batches = [
        torch.randint(0, 32, (2, 9), generator=torch.Generator().manual_seed(rank))
        for rank in range(ranks.size)
    ]
    whole = Llama(CONFIG).initialize(0)
    optimizer = torch.optim.AdamW(whole.parameters(), **ADAMW)
    for _ in range(3):
        optimizer.zero_grad()
        losses = [next_token_loss(whole(ids[:, :-1]), ids[:, 1:]) for ids in batches]
        (sum(losses) / ranks.size).backward()
        optimizer.step()
    for stage in range(4):
        found = trained(ranks, stage, batches[ranks.rank])
        for mine, theirs in zip(found, whole.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs.detach(), rtol=0, atol=2e-4)
        if ranks.rank == 0:
            print(f"{'data parallel' if stage == 0 else f'ZeRO {stage}'}: as one process")
    ranks.close()


if __name__ == "__main__":
    main()
