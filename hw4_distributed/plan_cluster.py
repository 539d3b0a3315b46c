"""The best plans for a model and a cluster, by the model of task 4.2: `python plan_cluster.py --help`.

Prints the fastest plans that fit into memory, with what a step is made of, and writes them as JSON
lines. No GPU and no process is needed: thousands of GPUs take milliseconds.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distributed_training.cluster import H100_NODES, Cluster, Link, Plan, Workload
from distributed_training.planner import (
    BYTES,
    all_reduce_seconds,
    memory_bytes,
    plans,
    step_seconds,
)


def parse() -> argparse.Namespace:
    """The command line; the defaults are a model of 64 billion parameters on 1,024 GPUs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    wanted: list[tuple[str, type, float, str]] = [
        ("nodes", int, 128, "nodes of the cluster"),
        ("per-node", int, H100_NODES.per_node, "GPUs of a node"),
        ("flops", float, H100_NODES.flops, "sustained FLOP/s of a GPU"),
        ("memory", float, H100_NODES.memory, "bytes of a GPU"),
        ("inside-latency", float, H100_NODES.inside.latency, "seconds of a message in a node"),
        ("inside-bandwidth", float, H100_NODES.inside.bytes_per_second, "bytes a second in a node"),
        ("across-latency", float, H100_NODES.across.latency, "seconds of a message across nodes"),
        ("across-bandwidth", float, H100_NODES.across.bytes_per_second, "bytes a second across"),
        ("layers", int, 80, "blocks of the model"),
        ("hidden-size", int, 8192, "width of the model"),
        ("num-heads", int, 64, "attention heads"),
        ("sequence", int, 4096, "tokens of a sequence"),
        ("batch", int, 2048, "sequences of a step, over all ranks"),
        ("show", int, 8, "how many plans"),
    ]
    for name, kind, default, text in wanted:
        parser.add_argument(f"--{name}", type=kind, default=default, help=f"{text} ({default:g})")
    parser.add_argument("--out", type=Path, help="write every plan that fits there, as JSON lines")
    return parser.parse_args()


def describe(cluster: Cluster, work: Workload, plan: Plan) -> dict[str, Any]:
    """A plan and its step: seconds, the bubble's share, bytes of gradients and memory of a rank."""
    layers = math.ceil(work.layers / plan.pipeline)
    gradients = BYTES * 12 * layers * work.hidden_size**2 / plan.tensor
    seconds = step_seconds(cluster, work, plan)
    tokens = work.batch * work.sequence
    return {
        **asdict(plan), "seconds": seconds, "tokens a second": tokens / seconds,
        "of peak": 6 * work.parameters * tokens / (seconds * cluster.gpus * cluster.flops),
        "bubble": (plan.pipeline - 1) / (plan.microbatches + plan.pipeline - 1),
        "gradient seconds": all_reduce_seconds(plan.data, plan.tensor, gradients, cluster),
        "gradient GB sent by a rank": 2 * (plan.data - 1) / plan.data * gradients / 1e9,
        "GB of a rank": memory_bytes(work, plan) / 1e9,
    }  # fmt: skip


def main() -> None:
    """Search, print, write."""
    asked = parse()
    cluster = Cluster(
        asked.nodes, asked.per_node, Link(asked.inside_latency, asked.inside_bandwidth),
        Link(asked.across_latency, asked.across_bandwidth), asked.flops, asked.memory,
    )  # fmt: skip
    work = Workload(asked.layers, asked.hidden_size, asked.num_heads, asked.sequence, asked.batch)
    every = list(plans(cluster, work))
    fitting = [plan for plan in every if memory_bytes(work, plan) <= cluster.memory]
    fitting.sort(key=lambda plan: step_seconds(cluster, work, plan))
    rows = [describe(cluster, work, plan) for plan in fitting]
    print(f"{work.parameters / 1e9:.1f} billion parameters on {cluster.gpus:,} GPUs: {len(every)} "
          f"plans can run, {len(fitting)} fit into {cluster.memory / 1e9:g} GB")  # fmt: skip
    print("  data  tensor  pipeline  microbatches   s/step  of peak  bubble  gradients  GB/rank")
    for row in rows[: asked.show]:
        print(f"{row['data']:6d}{row['tensor']:8d}{row['pipeline']:10d}{row['microbatches']:14d}"
              f"{row['seconds']:9.3f}{row['of peak']:9.1%}{row['bubble']:8.1%}"
              f"{row['gradient seconds']:9.3f} s{row['GB of a rank']:9.1f}")  # fmt: skip
    if asked.out:
        asked.out.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
