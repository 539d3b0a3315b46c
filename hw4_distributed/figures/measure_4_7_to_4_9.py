"""Measures what the figures of tasks 4.7 to 4.9 show, with the reference where it is there.

`OMP_NUM_THREADS=1 python figures/measure_4_7_to_4_9.py` trains a network on four ranks behind the
trusted switch, which counts the bytes, and prints a line for each method; with `--write` the losses also
go into measured_4_7.json, 4_8 and 4_9, from which the figures are drawn.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from measure_4_1_to_4_4 import FOLDER, HOMEWORK, run_ranks  # first: it finds the reference

import sys  # isort: skip

sys.path.append(str(HOMEWORK / "tests"))

import numpy as np
import torch
from compression_cases import loss_of, network_problem
from drivers_compression import local_gradients, make_bucket, make_reducer

SIZE, RATE, STEPS = 4, 0.02, 240
NETWORK = (32, 48, 8)


def train(problem: dict[str, Any], kind: str, options: dict[str, Any]) -> dict[str, Any]:
    """Losses over all ranks' rows by step, and bytes that one rank sent a step."""

    def work(ranks: Any) -> list[list[np.ndarray]]:
        if kind == "dense":
            from distributed_training.data_parallel import mean_over_ranks as reducer
        elif kind != "local":
            reducer = make_reducer(kind, options)
        weights = [torch.tensor(w) for w in problem["weights"]]
        x, y = torch.tensor(problem["x"][ranks.rank]), torch.tensor(problem["y"][ranks.rank])
        bucket = make_bucket(0, [w.shape for w in weights], "float32")
        module = torch.nn.ParameterList(weights)
        if kind == "local":
            from distributed_training.local_sgd import LocalSGD

            local = LocalSGD(module, ranks, **options)
        history = []
        for step in range(STEPS + 1):
            if step % 8 == 0:
                history.append([p.detach().clone().numpy() for p in module])
            gradients = local_gradients(list(module), x, y)
            for view, gradient in zip(bucket.views, gradients, strict=True):
                view.copy_(gradient)
            if kind != "local":
                reducer(ranks, bucket)
            with torch.no_grad():
                for weight, view in zip(module, bucket.views, strict=True):
                    weight -= RATE * view
            if kind == "local":
                local.after_step()
        return history

    histories, traffic = run_ranks(SIZE, work)
    mean = [[np.mean(parts, 0) for parts in zip(*each, strict=True)]
            for each in zip(*histories, strict=True)]  # fmt: skip
    return {
        "losses": [loss_of(problem, weights) for weights in mean],
        "bytes": float(traffic.sent.sum() / SIZE / (STEPS + 1)),
    }


def main() -> None:
    """Each method by name, on the same problem and the same first weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="into figures/measured_4_7.json, …")
    asked = parser.parse_args()
    problem = network_problem(np.random.default_rng(0), SIZE, NETWORK)
    runs = {
        "4_7": {
            "top 1%, no feedback": ("top k", {"fraction": 0.01, "error_feedback": False}),
            "top 1%": ("top k", {"fraction": 0.01}), "top 10%": ("top k", {"fraction": 0.1}),
        },
        "4_8": {
            "rank 1, no feedback": ("power", {"rank": 1, "error_feedback": False}),
            "rank 1, no warm start": ("power", {"rank": 1, "warm_start": False}),
            "rank 1": ("power", {"rank": 1}), "rank 4": ("power", {"rank": 4}),
        },
        "4_9": {
            "int8": ("int8", {}), "local SGD, H = 4": ("local", {"every": 4}),
            "local SGD, H = 16": ("local", {"every": 16}),
        },
    }  # fmt: skip
    print(f"{'task':6}{'method':24}{'loss after 240':>16}{'bytes a step':>16}", flush=True)
    dense = _told("", "dense", train(problem, "dense", {}))
    for number, methods in runs.items():
        found = {"dense": dense}
        for name, method in methods.items():
            found[name] = _told(number.replace("_", "."), name, train(problem, *method))
        if asked.write:
            path = FOLDER / f"measured_{number}.json"
            path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _told(number: str, name: str, run: dict[str, Any]) -> dict[str, Any]:
    """The run, a line of it printed as soon as it is there."""
    print(f"{number:6}{name:24}{run['losses'][-1]:16.3f}{run['bytes']:16,.0f}", flush=True)
    return run


if __name__ == "__main__":
    main()
