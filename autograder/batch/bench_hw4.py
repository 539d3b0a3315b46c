"""Benchmarks of homework 4 over gloo's own transport, two ranks: ring, DDP, and the cost models.

The ranks are started by torch.distributed.run, with one thread each; ours and the peer's operation
take turns in the same processes. A pair's time is that of the slower rank. Where ranks can't talk
over loopback, or the peer does not run, the rows have no value and say why.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from autograder.batch.bench import Row, benchmark, own_or_reference
from autograder.course.assignment import load_assignment
from autograder.course.overlay import build_overlay
from autograder.sandbox.host import REPOSITORY

HOMEWORK = "hw4_distributed"
RING_PEER, DDP_PEER = "torch.distributed.all_reduce, gloo", "torch DDP, gloo"
MEGABYTES = (1, 4, 16, 64)
RING_TARGET, DDP_TARGET = 1.2, 1.1  # of the ring at 16 MB; the other sizes inform
FITTED = (1, 16)  # megabytes: α and β are made to fit these two
FITTED_MICROBATCHES, PREDICTED_MICROBATCHES = 2, (4, 8)
TIMEOUT = 240


def ring_name(megabytes: int) -> str:
    """The row of this size."""
    return f"ring_{megabytes}mb_vs_gloo"


@benchmark(*map(ring_name, MEGABYTES), "ring_model_error")
def ring(work: Path) -> Iterator[Row]:
    """ring_all_reduce over gloo's, and how far the α–β model is from what was measured."""
    found = ranks(work, "ring")
    for size in MEGABYTES:
        target = RING_TARGET if size == 16 else None
        if isinstance(found, str):
            yield Row(ring_name(size), None, "x", "lower", RING_PEER, target, found)
            continue
        pairs = found["seconds"][str(size)]
        ours, theirs = (1e3 * statistics.median(each) for each in zip(*pairs, strict=True))
        yield Row(ring_name(size), ratio(pairs), "x", "lower", RING_PEER, target,
                  f"{ours:.1f} and {theirs:.1f} ms, {len(pairs)} pairs, 2 ranks")  # fmt: skip
    yield _error("ring_model_error", "ring, MB: ", found)


@benchmark("ddp_step_vs_torch_ddp")
def data_parallel_step(work: Path) -> Iterator[Row]:
    """Forward, backward and the gradients' mean of a Llama, ours over torch's; gradients compared."""
    found = ranks(work, "ddp")
    name = "ddp_step_vs_torch_ddp"
    if isinstance(found, str):
        yield Row(name, None, "x", "lower", DDP_PEER, DDP_TARGET, found)
        return
    ours, theirs = (1e3 * statistics.median(each) for each in zip(*found["seconds"], strict=True))
    note = (f"{ours:.0f} and {theirs:.0f} ms, {found['parameters']:,} parameters, gradients within "
            f"{found['difference']:.1g} of the largest")  # fmt: skip
    yield Row(name, ratio(found["seconds"]), "x", "lower", DDP_PEER, DDP_TARGET, note)


@benchmark("pipeline_model_error")
def pipeline_model(work: Path) -> Iterator[Row]:
    """1F1B on two stages: an action's time from 2 micro-batches, the step's predicted for 4 and 8."""
    yield _error("pipeline_model_error", "1F1B, micro-batches: ", ranks(work, "pipeline"))


def _error(name: str, what: str, found: dict[str, Any] | str) -> Row:
    """The largest error of what was predicted, not fitted."""
    if isinstance(found, str):
        return Row(name, None, "%", "lower", "measured, gloo", None, found)
    table = [line for line in found["model"] if not line["fitted"]]
    worst = max(abs(line["predicted"] / line["measured"] - 1) for line in table)
    told = "; ".join(f"{line['at']}: {1e3 * line['predicted']:.1f} predicted, "
                     f"{1e3 * line['measured']:.1f} ms" for line in table)  # fmt: skip
    if found.get("link", {}).get("latency", 0.0) < 0:  # small messages stay in caches, large do not
        told += "; the line through the fitted two has α < 0, which no link has"
    return Row(name, 100 * worst, "%", "lower", "measured, gloo", None, what + told)


def ratio(pairs: list[list[float]]) -> float:
    """The median of ours over theirs."""
    return statistics.median(ours / theirs for ours, theirs in pairs)


def no_loopback() -> str:
    """Why ranks can't talk here; "" where they can."""
    try:
        with socket.socket() as listening, socket.socket() as calling:
            listening.bind(("127.0.0.1", 0))
            listening.listen()
            calling.connect(listening.getsockname())
    except OSError as error:
        return f"gloo can't use loopback: {error}"
    return ""


def ranks(work: Path, kind: str) -> dict[str, Any] | str:
    """What two ranks found, or why they did not."""
    if reason := no_loopback():
        return reason
    assignment = load_assignment(REPOSITORY / HOMEWORK)
    overlay = build_overlay(assignment, own_or_reference(assignment), work / "overlay")
    out = work / "found.json"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone",
               "--nproc-per-node", "2", "-m", __name__, kind, str(overlay), str(out)]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True,
                              timeout=TIMEOUT, env=environment)  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"no end within {TIMEOUT} s"
    if done.returncode or not out.exists():
        lines = [line for line in done.stderr.splitlines() if "Error: " in line]
        return (lines or [f"ended with {done.returncode}"])[0][-160:]
    return json.loads(out.read_text(encoding="utf-8"))


def _timed(comm: Any, call: Callable[[], Any]) -> float:
    """Seconds of the slower rank."""
    import torch
    import torch.distributed as dist

    comm.barrier()
    started = time.perf_counter()
    call()
    seconds = torch.tensor(time.perf_counter() - started, dtype=torch.float64)
    dist.all_reduce(seconds, dist.ReduceOp.MAX)
    return float(seconds)


def _ring(comm: Any) -> dict[str, Any]:
    """On a rank: seconds of ours and of gloo's by size, and the model's table."""
    import torch
    import torch.distributed as dist
    from distributed_training.cluster import Link  # type: ignore[import-not-found]
    from distributed_training.collectives import ring_all_reduce  # type: ignore[import-not-found]
    from distributed_training.planner import ring_seconds  # type: ignore[import-not-found]

    found: dict[str, Any] = {"seconds": {}}
    measured = {}
    for size in MEGABYTES:
        start = torch.randn(size << 18, generator=torch.Generator().manual_seed(comm.rank))
        mine, theirs = start.clone(), start.clone()
        pairs = []
        for place in range(11 if size == 64 else 33):
            mine.copy_(start)
            theirs.copy_(start)
            ours = _timed(comm, lambda x=mine: ring_all_reduce(comm, x))
            gloo = _timed(comm, lambda x=theirs: dist.all_reduce(x))
            if not torch.equal(mine, theirs):  # of two numbers there is only one sum
                raise ValueError(f"the sums of {size} MB differ from gloo's")
            if place:  # the first pair warms up
                pairs.append((ours, gloo))
        found["seconds"][size] = pairs
        measured[size] = statistics.median(ours for ours, _ in pairs)
    low, high = FITTED
    # Two messages of half the tensor each: 2α + β · bytes.
    beta = (measured[high] - measured[low]) / ((high - low) << 20)
    alpha = (measured[low] - beta * (low << 20)) / 2
    link = Link(alpha, 1 / beta)
    found["link"] = {"latency": alpha, "bytes_per_second": 1 / beta}
    found["model"] = [
        {"at": size, "measured": measured[size], "fitted": size in FITTED,
         "predicted": ring_seconds(comm.size, size << 20, link)}
        for size in MEGABYTES
    ]  # fmt: skip
    return found


def _ddp(comm: Any) -> dict[str, Any]:
    """On a rank: seconds of our step and of torch's, and the largest difference of gradients."""
    import copy

    import torch
    from distributed_training.data_parallel import DataParallel  # type: ignore[import-not-found]
    from distributed_training.model import (  # type: ignore[import-not-found]
        Llama,
        ModelConfig,
        next_token_loss,
    )

    config = ModelConfig(
        num_layers=6, hidden_size=256, vocab_size=2048, intermediate_size=640, tie_embeddings=True
    )
    own = Llama(config).initialize(0)
    other = copy.deepcopy(own)
    ours = DataParallel(own, comm, bucket_bytes=1 << 20)
    theirs = torch.nn.parallel.DistributedDataParallel(other, bucket_cap_mb=1)
    generator = torch.Generator().manual_seed(comm.rank)
    ids = torch.randint(0, config.vocab_size, (4, 65), generator=generator)

    def step(model: Any) -> None:
        next_token_loss(model(ids[:, :-1]), ids[:, 1:]).backward()
        if model is ours:
            model.finish()

    pairs, difference = [], 0.0
    for place in range(23):
        own.zero_grad()
        other.zero_grad()
        pair = (_timed(comm, lambda: step(ours)), _timed(comm, lambda: step(theirs)))
        for p, q in zip(own.parameters(), other.parameters(), strict=True):
            difference = max(difference, float((p.grad - q.grad).abs().max() / q.grad.abs().max()))
        if not difference < 1e-5:
            raise ValueError(f"gradients differ from torch's by {difference:.2g} of the largest")
        if place > 1:  # torch builds its buckets anew after the first step
            pairs.append(pair)
    count = sum(p.numel() for p in own.parameters())
    return {"seconds": pairs, "difference": difference, "parameters": count}


def _pipeline(comm: Any) -> dict[str, Any]:
    """On a rank: the step's time by micro-batches, and what the simulator says."""
    import torch
    from distributed_training.actions import simulate  # type: ignore[import-not-found]
    from distributed_training.model import (  # type: ignore[import-not-found]
        Llama,
        ModelConfig,
        next_token_loss,
    )
    from distributed_training.pipeline import Stage, run_schedule  # type: ignore[import-not-found]
    from distributed_training.schedules import (  # type: ignore[import-not-found]
        one_forward_one_backward,
    )

    config = ModelConfig(num_layers=4, hidden_size=256, vocab_size=64, intermediate_size=640)
    stage = Stage(Llama(config).initialize(0), comm.rank, comm.size)
    ids = torch.randint(0, 64, (4, 65), generator=torch.Generator().manual_seed(0))
    counts = (FITTED_MICROBATCHES, *PREDICTED_MICROBATCHES)
    seconds: dict[int, list[float]] = {count: [] for count in counts}
    schedules = {count: one_forward_one_backward(comm.size, count) for count in counts}
    for place in range(16):
        for count in counts:  # in turn, so that a slow moment hits all alike
            stage.zero_grad()
            spent = _timed(comm, lambda count=count: run_schedule(
                stage, schedules[count][comm.rank], comm, [ids[:, :-1]] * count,
                [ids[:, 1:]] * count, next_token_loss, lambda m: (4, 64, config.hidden_size),
            ))  # fmt: skip
            if place:
                seconds[count].append(spent)
    measured = {count: statistics.median(each) for count, each in seconds.items()}
    units = {count: simulate(schedules[count]).seconds for count in counts}
    unit = measured[FITTED_MICROBATCHES] / units[FITTED_MICROBATCHES]
    return {"forward": unit, "model": [
        {"at": count, "measured": measured[count], "fitted": count == FITTED_MICROBATCHES,
         "predicted": unit * units[count]} for count in counts
    ]}  # fmt: skip


def main(kind: str, overlay: str, out: str) -> None:
    """On a rank: measure, and on rank 0 write what was found."""
    import torch

    sys.path.insert(0, overlay)
    from distributed_training.communicator import connect  # type: ignore[import-not-found]

    torch.set_num_threads(1)
    comm = connect()
    found = {"ring": _ring, "ddp": _ddp, "pipeline": _pipeline}[kind](comm)
    if comm.rank == 0:
        Path(out).write_text(json.dumps(found), encoding="utf-8")
    comm.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
