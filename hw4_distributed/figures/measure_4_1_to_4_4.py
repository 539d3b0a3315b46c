"""Measures what the figures of tasks 4.1 to 4.4 show, with the reference where it is there.

`OMP_NUM_THREADS=1 python figures/measure_4_1_to_4_4.py` prints it; with `--write` it also goes into
measured_4_1.json to measured_4_4.json, from which the figures are drawn. Ranks are processes of this machine behind the trusted switch, as in the tests.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LINK_SECONDS = 0.02  # 2.4 MB a bucket: a link of about 120 MB/s
FOLDER = Path(__file__).resolve().parent
HOMEWORK = FOLDER.parent
sys.path += [str(HOMEWORK), str(HOMEWORK.parent)]

import distributed_training  # noqa: E402

distributed_training.__path__.insert(0, str(HOMEWORK / "solution" / "distributed_training"))

import torch  # noqa: E402
from distributed_training.cluster import H100_NODES, Cluster, Link, Workload  # noqa: E402
from distributed_training.collectives import ring_all_reduce  # noqa: E402
from distributed_training.communicator import connect  # noqa: E402
from distributed_training.data_parallel import DataParallel  # noqa: E402
from distributed_training.model import Llama, ModelConfig, next_token_loss  # noqa: E402
from distributed_training.planner import (  # noqa: E402
    best_plan,
    hierarchical_seconds,
    memory_bytes,
    ring_seconds,
    step_seconds,
    tree_seconds,
)
from distributed_training.tree_collectives import tree_all_reduce  # noqa: E402
from distributed_training.zero import ZeroModule, ZeroOptimizer  # noqa: E402

from autograder.testing.group import Switch, Traffic  # noqa: E402


def run_ranks(size: int, work: Callable[[Any], Any]) -> tuple[list[Any], Traffic]:
    """work(communicator) on `size` forked processes behind a switch: results by rank, the traffic."""
    switch = Switch(size)
    pipes = []
    for rank in range(size):
        reading, writing = os.pipe()
        if os.fork() == 0:
            os.environ.update(
                LLM_SYSTEMS_RANK=str(rank), LLM_SYSTEMS_WORLD_SIZE=str(size),
                LLM_SYSTEMS_SWITCH=str(switch.ends[rank].fileno()),
            )  # fmt: skip
            torch.set_num_threads(1)
            try:
                result = pickle.dumps(work(connect()))
                with os.fdopen(writing, "wb") as out:
                    out.write(result)
            finally:
                os._exit(0)
        os.close(writing)
        pipes.append(reading)
    results: list[Any] = [None] * size

    def collect(rank: int) -> None:
        with os.fdopen(pipes[rank], "rb") as source:
            results[rank] = pickle.loads(source.read())

    threads = [threading.Thread(target=collect, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    switch.close()
    return results, switch.traffic


def ring_steps(ranks: Any) -> list[list[float]]:
    """The tensor of each rank before and after: rank r brings 10^r in every place."""
    mine = torch.full((4,), float(10**ranks.rank))
    before = mine.tolist()
    ring_all_reduce(ranks, mine)
    return [before, mine.tolist()]


def all_reduce_curves() -> dict[str, Any]:
    """Seconds by bytes for 128 GPUs: 16 nodes of 8."""
    sizes = [2.0**k for k in range(8, 34)]
    nodes, per_node = H100_NODES.nodes, H100_NODES.per_node
    return {
        "bytes": sizes,
        "ring": [ring_seconds(128, n, H100_NODES.across) for n in sizes],
        "tree": [tree_seconds(128, n, H100_NODES.across) for n in sizes],
        "two levels": [hierarchical_seconds(nodes, per_node, n, H100_NODES) for n in sizes],
    }


def plans_by_size() -> list[dict[str, Any]]:
    """The best plan of a 64-billion-parameter model by the number of GPUs, the same global batch."""
    work = Workload(layers=80, hidden_size=8192, num_heads=64, sequence=4096, batch=2048)
    found = []
    for nodes in (4, 8, 16, 32, 64, 128, 256, 512):
        cluster = Cluster(nodes, 8, H100_NODES.inside, H100_NODES.across, H100_NODES.flops, 72e9)
        start = time.perf_counter()
        plan = best_plan(cluster, work)
        took = time.perf_counter() - start
        if plan is None:
            found.append({"gpus": cluster.gpus, "plan": None})
            continue
        seconds = step_seconds(cluster, work, plan)
        ideal = 6 * work.parameters * work.batch * work.sequence / cluster.gpus / cluster.flops
        found.append({
            "gpus": cluster.gpus, "seconds": seconds, "ideal": ideal, "searched": took,
            "plan": [plan.data, plan.tensor, plan.pipeline, plan.microbatches],
            "gigabytes": memory_bytes(work, plan) / 1e9,
        })  # fmt: skip
    return found


def message_seconds(ranks: Any) -> list[float]:
    """One way between two ranks, the best of 30, for 8 bytes and for 16 MB."""
    found = []
    for count in (2, 1 << 22):
        tensor, best = torch.zeros(count), float("inf")
        for _ in range(30):
            ranks.barrier()
            start = time.perf_counter()
            if ranks.rank == 0:
                ranks.send(tensor, 1)
                ranks.recv(tensor, 1)
            else:
                ranks.recv(tensor, 0)
                ranks.send(tensor, 0)
            best = min(best, (time.perf_counter() - start) / 2)
        found.append(best)
    return found


def all_reduce_times(ranks: Any) -> list[list[float]]:
    """[bytes, seconds by ring, by tree], the best of 10, for some sizes."""
    found = []
    for count in (256, 1 << 14, 1 << 18, 1 << 22):
        row = [4.0 * count]
        for reduce in (ring_all_reduce, tree_all_reduce):
            tensor, best = torch.zeros(count), float("inf")
            for _ in range(10):
                ranks.barrier()
                start = time.perf_counter()
                reduce(ranks, tensor)
                best = min(best, time.perf_counter() - start)
            row.append(best)
        found.append(row)
    return found


def model_against_this_machine() -> dict[str, Any]:
    """α and β from two ranks, then the formulas' seconds beside measured ones for 2 and 4."""
    small, large = run_ranks(2, message_seconds)[0][0]
    link = Link(small, (1 << 24) / (large - small))
    rows = []
    for size in (2, 4):
        for length, ring, tree in run_ranks(size, all_reduce_times)[0][0]:
            wanted = (ring_seconds(size, length, link), tree_seconds(size, length, link))
            rows.append([size, length, ring, wanted[0], tree, wanted[1]])
    return {"latency": link.latency, "bytes_per_second": link.bytes_per_second,
            "[ranks, bytes, ring, formula, tree, formula]": rows}  # fmt: skip


def timeline(overlap: bool) -> Callable[[Any], Any]:
    """One backward of six layers with a bucket each: when each gradient came and each bucket went.

    The fastest of eight. The ring of this machine takes a few milliseconds; each bucket sleeps
    LINK_SECONDS more, as if it went over a slow link, which leaves the processor to backward.
    """

    def work(ranks: Any) -> Any:
        torch.manual_seed(0)
        layers = torch.nn.Sequential(*(torch.nn.Linear(768, 768) for _ in range(6)))
        travelled: list[list[float]] = []

        def reducer(group: Any, bucket: Any) -> None:
            start = time.perf_counter()
            ring_all_reduce(group, bucket.flat, average=True)
            time.sleep(LINK_SECONDS)
            travelled.append([bucket.index, start, time.perf_counter()])

        model = DataParallel(layers, ranks, bucket_bytes=768 * 768 * 4, reducer=reducer)
        came: list[list[float]] = []
        for place, layer in enumerate(layers):
            layer.weight.register_hook(lambda _, p=place: came.append([p, time.perf_counter()]))
        x = torch.randn(384, 768)
        best: dict[str, Any] = {}
        for _ in range(8):
            layers.zero_grad()
            loss = model(x).square().mean()
            ranks.barrier()
            came.clear()
            travelled.clear()
            start = time.perf_counter()
            if overlap:
                loss.backward()
            else:
                with model.no_sync():
                    loss.backward()
            over = time.perf_counter()
            model.finish()
            end = time.perf_counter()
            if not best or end - start < best["end"]:
                best = {
                    "came": [[p, t - start] for p, t in came], "backward": over - start,
                    "travelled": [[i, a - start, b - start] for i, a, b in travelled],
                    "end": end - start,
                }  # fmt: skip
        return best

    return work


def memory_of(stage: int) -> Callable[[Any], Any]:
    """Bytes of parameters, gradients and state on a rank through one step of a small Llama; stage 0 is
    data parallelism with AdamW on every rank."""

    def work(ranks: Any) -> Any:
        config = ModelConfig(num_layers=6, hidden_size=64, vocab_size=64)
        module = Llama(config).initialize(1)
        model: Any = module
        if stage == 0:
            model = DataParallel(module, ranks)
            optimizer: Any = torch.optim.AdamW(module.parameters())
        elif stage == 3:
            model = ZeroModule(module, module.blocks, ranks)
            optimizer = ZeroOptimizer(model.units, ranks, 3)
        else:
            optimizer = ZeroOptimizer(module.parameters(), ranks, stage, unit_bytes=1 << 17)
        moments = optimizer if stage == 0 else optimizer.adamw
        seen: list[list[Any]] = []

        def look(where: str) -> None:
            storages = {p.untyped_storage()._cdata: p.untyped_storage().nbytes()
                        for p in module.parameters()}  # fmt: skip
            grads = sum(p.grad.numel() * 4 for p in module.parameters() if p.grad is not None)
            state = sum(v.numel() * 4 for s in moments.state.values() for v in s.values() if v.dim())
            if stage:
                shards = [unit.shard for unit in optimizer.units]
                state += sum(s.numel() * 4 for s in shards)
                grads += sum(s.grad.numel() * 4 for s in shards if s.grad is not None)
            seen.append([where, sum(storages.values()), grads, state])

        def watch(place: int) -> Callable[..., None]:
            def inside(_: Any, __: Any, output: Any) -> None:
                look(f"forward {place}")
                output.register_hook(lambda _: look(f"backward {place}"))

            return inside

        for place, block in enumerate(module.blocks):
            block.attention.register_forward_hook(watch(place))
        ids = torch.randint(0, 64, (2, 17), generator=torch.Generator().manual_seed(ranks.rank))
        for _ in range(2):  # the second step counts: AdamW has its moments then
            seen.clear()
            look("start")
            next_token_loss(model(ids[:, :-1]), ids[:, 1:]).backward()
            if stage == 0:
                model.finish()
            look("end of backward")
            optimizer.step()
            optimizer.zero_grad() if stage == 0 else None
            look("step")
        return {"seen": seen, "parameters": sum(p.numel() for p in module.parameters()) * 4}

    return work


def show(found: dict[str, Any]) -> None:
    """The tables of the handout."""
    print(f"4.1  bytes sent, from (row) to (column): {found['4_1']['sent']}")
    here = found["4_2"]["here"]
    print(f"4.2  α {here['latency'] * 1e6:.0f} µs, 1/β {here['bytes_per_second'] / 1e9:.2f} GB/s")
    print("     ranks      bytes   ring, ms  formula   tree, ms  formula")
    for size, length, *seconds in here["[ranks, bytes, ring, formula, tree, formula]"]:
        ring, said, tree, also = (1e3 * one for one in seconds)
        print(f"     {size:5} {length:10.0f} {ring:10.2f} {said:8.2f} {tree:10.2f} {also:8.2f}")
    print("4.2  the best plan of 64 billion parameters: data, tensor, pipeline, micro-batches")
    for row in found["4_2"]["plans"]:
        cost = f", {row['seconds']:.2f} s a step" if row["plan"] else ""
        print(f"     {row['gpus']:5} GPUs: {row['plan']}{cost}")
    for name, lanes in found["4_3"].items():
        print(f"4.3  a step, {name}: {1e3 * lanes['end']:.0f} ms")
    for stage, one in found["4_4"].items():
        most = max(sum(held) for _, *held in one["seen"]) / 1e6
        print(f"4.4  {f'stage {stage}' if stage else 'data parallelism'}: {most:.2f} MB at most")


def main() -> None:
    """Measure, print, and write where that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="into figures/measured_4_*.json")
    asked = parser.parse_args()
    written: dict[str, Any] = {}
    ends, traffic = run_ranks(4, ring_steps)
    written["4_1"] = {"ranks": ends, "sent": traffic.sent.tolist(),
                      "messages": traffic.messages.tolist()}  # fmt: skip
    written["4_2"] = {"all-reduce of 128": all_reduce_curves(), "plans": plans_by_size(),
                      "here": model_against_this_machine()}  # fmt: skip
    written["4_3"] = {name: run_ranks(2, timeline(name == "overlap"))[0][0]
                      for name in ("overlap", "one after the other")}  # fmt: skip
    stages = {}
    for stage in range(4):
        results, traffic = run_ranks(4, memory_of(stage))
        stages[stage] = {**results[0], "sent by rank 0, two steps": int(traffic.sent[0].sum())}
    written["4_4"] = stages
    show(written)
    for name, data in written.items() if asked.write else ():
        (FOLDER / f"measured_{name}.json").write_text(json.dumps(data) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
