"""Measures what the figures of tasks 1.3, 1.9, 1.12 and 1.13 show, with the library in this folder.

    python figures/measure.py              # from hw1_autodiff; some minutes; writes measured.json

It needs all tasks done. Bytes are counted by tracemalloc, which numpy reports its arrays to, and
losses follow from the seeds; the rates of task 1.3 are the best of some rounds, one thread.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before numpy: its BLAS reads them once

import numpy as np  # noqa: E402

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))

PRODUCTS = {"512": (512, 512, 512), "1024": (1024, 1024, 1024), "wide": (64, 1024, 4096)}
ROUNDS = 40


def matmul_rates() -> dict[str, dict[str, float]]:
    """GFLOP/s of each kernel at each size; the kernels take turns, and the best round counts."""
    from autodiff import matmul_kernel, naive_kernels

    kernels: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
        "ikj": naive_kernels.matmul_ikj,
        "blocked": matmul_kernel.matmul_blocked,
        "register": matmul_kernel.matmul_register,
        "BLAS": np.matmul,
    }
    rng = np.random.default_rng(0)
    rates: dict[str, dict[str, float]] = {name: {} for name in kernels}
    for label, (m, k, n) in PRODUCTS.items():
        a = rng.standard_normal((m, k), dtype=np.float32)
        b = rng.standard_normal((k, n), dtype=np.float32)
        best = dict.fromkeys(kernels, math.inf)
        for _ in range(ROUNDS):
            for name, kernel in kernels.items():
                started = time.perf_counter()
                kernel(a, b)
                best[name] = min(best[name], time.perf_counter() - started)
        for name, seconds in best.items():
            rates[name][label] = round(2 * m * k * n / seconds / 1e9, 1)
    return rates


def loss_buffers() -> dict[str, float]:
    """Peak of live bytes beside the logits, forward and backward, in units of the logits."""
    from autodiff import Function, Tensor
    from autodiff.loss import cross_entropy

    class Source(Function):
        """Hands the logits out, and lets their gradient go: a leaf would keep a copy of it."""

        @staticmethod
        def forward(context: Any, x: np.ndarray) -> np.ndarray:
            return x

        @staticmethod
        def backward(context: Any, upstream: np.ndarray) -> tuple[Any, ...]:
            return (None,)

    rng = np.random.default_rng(0)
    values = rng.standard_normal((512, 2048), dtype=np.float32)
    targets = rng.integers(0, 2048, 512)

    def unfused(logits: Tensor) -> Tensor:
        one_hot = np.zeros(logits.shape, np.float32)
        one_hot[np.arange(len(targets)), targets] = 1
        return -(logits.softmax().log() * Tensor(one_hot)).sum() / len(targets)

    peaks = {}
    for name, loss in (("fused", lambda z: cross_entropy(z, targets)), ("unfused", unfused)):
        logits = Source.apply(Tensor(values, requires_grad=True))
        tracemalloc.start()
        loss(logits).backward()
        peaks[name] = round(tracemalloc.get_traced_memory()[1] / values.nbytes, 2)
        tracemalloc.stop()
    return peaks


def memory_timeline() -> dict[str, list[list[float]]]:
    """[live, highest since the last entry] in MB: after each of eight blocks, then in backward."""
    from autodiff import Function, Tensor
    from autodiff.checkpoint import checkpoint

    class Probe(Function):
        """The identity before a block; in backward it passes when that block is done."""

        @staticmethod
        def forward(context: Any, x: np.ndarray) -> np.ndarray:
            return x

        @staticmethod
        def backward(context: Any, upstream: np.ndarray) -> tuple[Any, ...]:
            line.append(seen())
            return (upstream,)

    def seen() -> list[float]:
        live, peak = (round(size / 2**20, 2) for size in tracemalloc.get_traced_memory())
        tracemalloc.reset_peak()
        return [live, peak]

    rng = np.random.default_rng(0)
    lines: dict[str, list[list[float]]] = {}
    for name in ("plain", "checkpointed"):
        line = lines[name] = []
        weights = [
            [
                Tensor(rng.standard_normal(s, dtype=np.float32) * 0.1, requires_grad=True)
                for s in pair
            ]
            for pair in [((16, 256), (256, 16))] * 8
        ]
        x = Tensor(rng.standard_normal((8192, 16), dtype=np.float32), requires_grad=True)
        tracemalloc.start()
        line.append(seen())
        for first, second in weights:

            def block(x: Tensor, first: Tensor = first, second: Tensor = second) -> Tensor:
                return x + (x @ first).gelu() @ second

            x = Probe.apply(x)
            x = block(x) if name == "plain" else checkpoint(block, x)
            line.append(seen())
        x.sum().backward()
        tracemalloc.stop()
    return lines


def losses(path: Path, every: int) -> list[float]:
    """The losses in a saved run, each the mean of `every` steps."""
    values = np.load(path)["losses"]
    whole = values[: len(values) // every * every].reshape(-1, every)
    return [round(float(mean), 4) for mean in whole.mean(axis=1)]


def training() -> dict[str, Any]:
    """Both training scripts by their defaults: losses (nats, means of 5 and 20 steps) and results."""
    import tempfile

    import train_digits
    import train_language_model
    from click.testing import CliRunner

    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, command, every in (
            ("digits", train_digits.main, 5), ("language model", train_language_model.main, 20)
        ):  # fmt: skip
            out = Path(folder, name)
            CliRunner().invoke(command, ["--out", str(out)], catch_exceptions=False)
            last = (out / "train.log").read_text(encoding="utf-8").splitlines()[-1]
            found[name] = {
                "every": every, "losses": losses(out / "run.npz", every),
                "result": last.split("  ", 1)[1],
            }  # fmt: skip
    return found


def main() -> None:
    """Measure all of it and write measured.json beside this script."""
    measured = {
        "command": "python figures/measure.py",
        "matmul GFLOP/s": matmul_rates(),
        "buffers of a loss / logits": loss_buffers(),
        "live MB over eight blocks": memory_timeline(),
        "training": training(),
    }
    text = json.dumps(measured, indent=1)
    (FOLDER / "measured.json").write_text(text + "\n", encoding="utf-8")
    print(f"wrote {FOLDER / 'measured.json'}")


if __name__ == "__main__":
    main()
