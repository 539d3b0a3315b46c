"""The reference over gloo's own transport, against one process: a check for staff.

    OMP_NUM_THREADS=1 python -m torch.distributed.run --nproc-per-node 3 hidden/over_gloo.py

Everything is done twice: operations start at once, as gloo lets them, and in batches, as they have
to over nccl. Collectives in four types; three steps of a tied Llama under data parallelism and ZeRO
1 to 3; compressed gradients, tensor parallelism, 1F1B, ring attention, experts, a sharded
checkpoint: each against one process. A difference ends in an exception.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
import distributed_training

distributed_training.__path__.insert(0, str(ROOT / "solution" / "distributed_training"))
import torch
import torch.distributed as dist
from distributed_training.checkpoint import load_newest, save_sharded
from distributed_training.collectives import all_to_all, broadcast, ring_all_reduce
from distributed_training.communicator import Communicator, WorldOfOne, connect
from distributed_training.data_parallel import Bucket, DataParallel
from distributed_training.experts import MixtureOfExperts
from distributed_training.model import Llama, ModelConfig, next_token_loss
from distributed_training.partition import chunk_bounds
from distributed_training.pipeline import Stage, run_schedule
from distributed_training.power_sgd import PowerSGDReducer
from distributed_training.quantized_all_reduce import Int8Reducer
from distributed_training.ring_attention import ring_attention
from distributed_training.schedules import gpipe, one_forward_one_backward
from distributed_training.shards import Shard
from distributed_training.storage import FileStorage
from distributed_training.tensor_parallel import parallelize, vocab_parallel_cross_entropy
from distributed_training.top_k import TopKReducer
from distributed_training.torch_channel import TorchCommunicator
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


def training(ranks: Communicator) -> None:
    """Data parallelism and ZeRO against one process that sees all batches."""
    batches = [random_ids(rank, 2) for rank in range(ranks.size)]
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


def random_ids(seed: int, rows: int) -> torch.Tensor:
    """(rows, 9) ids of the model's vocabulary."""
    return torch.randint(0, 32, (rows, 9), generator=torch.Generator().manual_seed(seed))


def normal(*shape: int, seed: int) -> torch.Tensor:
    """float64 random numbers, the same on every rank."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def bucket_of(matrix: torch.Tensor) -> Bucket:
    """A bucket of one matrix."""
    flat = matrix.clone().view(-1)
    return Bucket(0, flat, [torch.nn.Parameter(matrix.clone())], [flat.view(matrix.shape)])


def compression(ranks: Communicator) -> None:
    """Three calls of each reducer on gradients that every rank can make for all ranks."""
    top, rounded = TopKReducer(0.25), Int8Reducer()
    power, alone = PowerSGDReducer(2), PowerSGDReducer(2)
    left = [torch.zeros(12 * 20, dtype=torch.float64) for _ in range(ranks.size)]
    for call in range(3):
        all_ranks = [normal(12, 20, seed=100 * call + rank) for rank in range(ranks.size)]
        mean = torch.stack(all_ranks).mean(0)
        buckets = [bucket_of(all_ranks[ranks.rank]) for _ in range(3)]
        sent = []
        for rank, gradient in enumerate(all_ranks):
            left[rank] += gradient.view(-1)
            cut = left[rank].abs().sort(descending=True).values[60 - 1]
            sent.append(torch.where(left[rank].abs() >= cut, left[rank], 0.0))
            left[rank] -= sent[-1]
        top(ranks, buckets[0])
        torch.testing.assert_close(buckets[0].flat, torch.stack(sent).mean(0))
        # Both products are linear in the gradient: the mean of all is what one process would see.
        single = bucket_of(mean)
        alone(WorldOfOne(), single)
        power(ranks, buckets[1])
        torch.testing.assert_close(buckets[1].flat, single.flat)
        # Rounded twice, each time by less than a 127th of the largest, which the first may raise.
        bound = (2 + 1 / 127) / 127 * max(float(g.abs().max()) for g in all_ranks)
        rounded(ranks, buckets[2])
        error = float((buckets[2].flat - mean.view(-1)).abs().max())
        assert error <= bound + 1e-6, f"int8 is {error} off, {bound} is the bound"
        assert bool((buckets[2].flat != mean.view(-1)).any()), "int8 rounds nothing"
        of_rank_0 = buckets[2].flat.clone()
        broadcast(ranks, of_rank_0)
        assert torch.equal(of_rank_0, buckets[2].flat), "int8: ranks end with different bits"


def tensor_parallel(ranks: Communicator) -> None:
    """Loss, and gradients of what is whole and of what is divided, embeddings tied."""
    ids = random_ids(1, 2)
    whole, mine = Llama(CONFIG).initialize(0), parallelize(Llama(CONFIG).initialize(0), ranks)
    expected = next_token_loss(whole(ids[:, :-1]), ids[:, 1:])
    expected.backward()
    logits, targets = mine(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()
    found = vocab_parallel_cross_entropy(logits, targets, ranks, CONFIG.vocab_size)
    found.backward()
    torch.testing.assert_close(found, expected)
    bounds = {
        count: chunk_bounds(count, ranks.size)[ranks.rank]
        for count in (CONFIG.vocab_size, CONFIG.intermediate_size)
    }
    pairs = [
        (mine.norm.weight, whole.norm.weight.grad),
        (mine.head.weight, whole.head.weight.grad[slice(*bounds[CONFIG.vocab_size])]),
    ]
    for a, b in zip(mine.blocks, whole.blocks, strict=True):
        inner = slice(*bounds[CONFIG.intermediate_size])
        pairs += [
            (a.attention_norm.weight, b.attention_norm.weight.grad),
            (a.ffn.up.weight, b.ffn.up.weight.grad[inner]),
            (a.ffn.down.weight, b.ffn.down.weight.grad[:, inner]),
        ]
    for parameter, gradient in pairs:
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


def pipelines(ranks: Communicator) -> None:
    """1F1B and GPipe with an uneven last micro-batch: losses and every gradient."""
    config = replace(CONFIG, tie_embeddings=False, num_layers=4)
    ids = random_ids(2, 9)
    parts = ids.split([2, 2, 2, 2, 1])
    whole = Llama(config).initialize(0)
    expected = next_token_loss(whole(ids[:, :-1]), ids[:, 1:])
    expected.backward()
    gradients = {name: p.grad for name, p in whole.named_parameters()}
    for make in (one_forward_one_backward, gpipe):
        stage = Stage(Llama(config).initialize(0), ranks.rank, ranks.size)
        losses = run_schedule(
            stage, make(ranks.size, len(parts))[ranks.rank], ranks, [p[:, :-1] for p in parts],
            [p[:, 1:] for p in parts], next_token_loss,
            lambda m: (len(parts[m]), 8, config.hidden_size),
        )  # fmt: skip
        if ranks.rank == ranks.size - 1:
            assert abs(sum(losses) - expected.item()) < 1e-5, f"losses {losses}"
        for name, parameter in stage.named_parameters():
            torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-6)


def sequences(ranks: Communicator) -> None:
    """Ring attention, causal and not, against torch's over the whole sequence, with gradients."""
    time = 4 * ranks.size
    mine = slice(4 * ranks.rank, 4 * ranks.rank + 4)
    upstream = normal(2, 2, time, 8, seed=9)
    for causal in (True, False):
        whole = [normal(2, 2, time, 8, seed=k).requires_grad_() for k in range(3)]
        expected = torch.nn.functional.scaled_dot_product_attention(*whole, is_causal=causal)
        expected.backward(upstream)
        parts = [w.detach()[:, :, mine].clone().requires_grad_() for w in whole]
        found = ring_attention(*parts, ranks, causal=causal)
        found.backward(upstream[:, :, mine])
        torch.testing.assert_close(found, expected[:, :, mine])
        for part, w in zip(parts, whole, strict=True):
            torch.testing.assert_close(part.grad, w.grad[:, :, mine])


def experts(ranks: Communicator) -> None:
    """Five experts, uneven tokens by rank: outputs and gradients of tokens and of own experts."""
    whole = MixtureOfExperts(8, 12, 5, 2, WorldOfOne()).double()
    for place, parameter in enumerate(whole.parameters()):
        parameter.data = normal(*parameter.shape, seed=20 + place)
    mine = MixtureOfExperts(8, 12, 5, 2, ranks).double()
    mine.load_state_dict({name: whole.state_dict()[name] for name in mine.state_dict()})
    counts = [3 + 4 * rank for rank in range(ranks.size)]
    start = sum(counts[: ranks.rank])
    own = slice(start, start + counts[ranks.rank])
    x = normal(sum(counts), 8, seed=40).requires_grad_()
    tokens = x.detach()[own].clone().requires_grad_()
    expected, found = whole(x), mine(tokens)
    upstream = normal(sum(counts), 8, seed=41)
    expected.backward(upstream)
    found.backward(upstream[own])
    torch.testing.assert_close(found, expected[own])
    torch.testing.assert_close(tokens.grad, x.grad[own])
    for name, module in mine.experts.items():
        for a, b in zip(module.parameters(), whole.experts[name].parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad)


def checkpoints(ranks: Communicator) -> None:
    """Saved by all ranks, read by all and by one."""
    with tempfile.TemporaryDirectory() as made:
        folder = [made]
        dist.broadcast_object_list(folder, 0)
        storage = FileStorage(folder[0])
        whole = {"a": normal(5, 7, seed=1), "b": torch.arange(1)}
        for step in (1, 2):
            shards = {}
            for name, tensor in whole.items():
                first, last = chunk_bounds(tensor.numel(), ranks.size)[ranks.rank]
                values = tensor.view(-1)[first:last] * step
                shards[name] = Shard(tuple(tensor.shape), first, values)
            save_sharded(storage, ranks, step, shards, {"step": step})
        for reader in (ranks, WorldOfOne()):
            loaded = load_newest(storage, reader)
            assert loaded is not None, "the checkpoint is gone"
            assert loaded[0] == 2 and loaded[2] == {"step": 2}, loaded
            for name, tensor in whole.items():
                first, last = chunk_bounds(tensor.numel(), reader.size)[reader.rank]
                assert torch.equal(loaded[1][name].values, 2 * tensor.view(-1)[first:last]), name
        ranks.barrier()  # rank 0's folder goes when all have read


CHECKS = (
    collectives, training, compression, tensor_parallel, pipelines, sequences, experts, checkpoints,
)  # fmt: skip


def main() -> None:
    """Run all of it on this rank, in both modes."""
    torch.set_num_threads(1)
    ranks = connect()
    batched = TorchCommunicator(range(ranks.size), None, batched=True)
    for mode, communicator in (("at once", ranks), ("in batches", batched)):
        for check in CHECKS:
            check(communicator)
            communicator.barrier()
            if ranks.rank == 0:
                print(f"{check.__name__}, started {mode}: as one process", flush=True)
    ranks.close()


if __name__ == "__main__":
    main()
