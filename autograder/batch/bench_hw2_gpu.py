"""Benchmarks of homework 2 on a GPU: kernels built by nvcc against torch, cuBLAS and a plain copy.

Each call is timed by events of the device, the L2 cache flushed before, on inputs that are new each
time, in turn with the peers; every output is compared. The kernels run in this process, unconfined:
they are the reference's, or in a student's copy the student's own. Without a GPU a row says so.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from autograder import kernels
from autograder.batch import gpu_cases, gpu_peers
from autograder.batch.bench import Row, benchmark, own_or_reference
from autograder.batch.bench_hw2 import HOMEWORK
from autograder.batch.gpu_cases import Case
from autograder.course.assignment import load_assignment
from autograder.course.overlay import build_overlay
from autograder.kernels import gpu
from autograder.sandbox.host import REPOSITORY

ROUNDS, WARM = 9, 2
COPY = "copy_bandwidth"
# the row's name -> its case, its peers in order of preference, its target
ROWS: dict[str, tuple[str, tuple[str, ...], float | None]] = {
    "gpu_matmul_vs_cublas": ("matmul_4096", ("torch", "cublas"), 0.8),
    "gpu_matmul_2048_vs_cublas": ("matmul_2048", ("torch", "cublas"), None),
    "gpu_layernorm_vs_copy_bandwidth": ("layernorm", (COPY,), 0.9),
    "gpu_layernorm_vs_torch": ("layernorm", ("torch",), None),
    "gpu_softmax_vs_torch": ("softmax", ("torch",), None),
    "gpu_softmax_vs_copy_bandwidth": ("softmax", (COPY,), None),
    "gpu_transpose_vs_copy_bandwidth": ("transpose", (COPY,), None),
    "gpu_attention_vs_torch": ("attention", ("torch",), None),
    "gpu_block_vs_torch": ("block", ("torch",), None),
}
BLOCK_MS = "gpu_block_ms"


def sizes() -> list[Case]:
    """The cases, at sizes worth timing."""
    return [
        gpu_cases.matmul(4096), gpu_cases.matmul(2048), gpu_cases.layernorm(4096, 4096),
        gpu_cases.softmax(4096, 4096), gpu_cases.transpose(4096),
        gpu_cases.attention(8, 16, 1024, 64), gpu_cases.block(8, 1024, 1024, 16),
    ]  # fmt: skip


class Wrong(Exception):
    """An output is not what it must be; the message is the row's note."""


@dataclass
class Times:
    """Milliseconds of each round: of the kernel, and of each peer by its key."""

    own: list[float] = field(default_factory=list)
    peers: dict[str, list[float]] = field(default_factory=dict)


def measure(case: Case, device: kernels.Device, source: Path, peers: dict[str, Any]) -> Times:
    """Time the case and its peers in turn. Raises Wrong, KernelError, BuildError, NotImplementedError."""
    module, backend = device.load(source), device.backend
    rng, times = np.random.default_rng(), Times()
    able = {key: peer for key, peer in peers.items() if peer.can(case)}
    for place in range(WARM + ROUNDS):
        given = case.make(rng)
        held = [device.array(one) for one in given]
        made = [device.empty(shape, np.float32) for shape in (case.shape, *case.extra)]
        prepared = {key: peer.prepare(case, given) for key, peer in able.items()}
        spent = {"": module.time(case.entry, *case.arguments(held, made))}
        for key, (work, _) in prepared.items():
            spent[key] = backend.timed(work)  # type: ignore[attr-defined]
        verify(case, given, made[0].numpy(), {key: result for key, (_, result) in prepared.items()})
        if place >= WARM:
            times.own.append(spent.pop(""))
            for key, one in spent.items():
                times.peers.setdefault(key, []).append(one)
    return times


def verify(case: Case, given: Sequence[np.ndarray], out: np.ndarray, results: dict[str, Any]) -> None:
    """Raise Wrong unless the output is the truth, where that is known, and each peer's."""
    bound = case.bound(list(given), out)
    expected = {key: result() for key, result in results.items() if result is not None}
    if case.truth is not None:
        expected["float64"] = case.truth(list(given))
    for name, one in expected.items():
        error = np.abs(out - one)
        if not (error <= bound).all():  # NaN too
            limit = float(np.max(bound))
            raise Wrong(f"off by {float(error.max()):.3g} from {name}; at most {limit:.3g} is allowed")


def _speed(case: Case, milliseconds: float) -> str:
    if case.flops:
        return f"{milliseconds:.3g} ms, {case.flops / milliseconds / 1e9:.3g} TFLOP/s"
    return f"{milliseconds:.3g} ms, {case.bytes / milliseconds / 1e6:.4g} GB/s"


def rows_of(case: Case, times: Times, peers: dict[str, Any], where: str) -> Iterator[Row]:
    """The rows of a case: the median of the ratios of neighbours in time."""
    own = statistics.median(times.own)
    for name, (of, order, target) in ROWS.items():
        if of != case.name:
            continue
        key = next((one for one in order if one in times.peers), None)
        if key is None:
            note = f"{_speed(case, own)}; no peer: {' or '.join(order)} for CUDA not found; {where}"
            yield Row(name, None, "x", "higher", order[0], target, note)
            continue
        other = times.peers[key]
        ratio = statistics.median(b / a for a, b in zip(times.own, other, strict=True))
        note = f"{_speed(case, own)} and {_speed(case, statistics.median(other))}; {where}"
        yield Row(name, ratio, "x", "higher", peers[key].name, target, note)
    if case.name == "block":
        checked = ", ".join(times.peers) or "not compared with anything"
        yield Row(BLOCK_MS, own, "ms", "lower", note=f"{_speed(case, own)}; {checked}; {where}")


def nothing(name: str, note: str) -> Row:
    """The row of what could not be measured."""
    if name == BLOCK_MS:
        return Row(name, None, "ms", "lower", note=note)
    return Row(name, None, "x", "higher", ROWS[name][1][0], ROWS[name][2], note)


@benchmark(*ROWS, BLOCK_MS)
def on_gpu(work: Path) -> Iterator[Row]:
    """Every case against its peers, on the first GPU."""
    missing = gpu.missing() if (REPOSITORY / HOMEWORK).is_dir() else f"there is no {HOMEWORK}"
    if missing:
        yield from (nothing(name, missing) for name in (*ROWS, BLOCK_MS))
        return
    where = gpu.device_name()
    print(f"on {where}")
    assignment = load_assignment(REPOSITORY / HOMEWORK)
    overlay = build_overlay(assignment, own_or_reference(assignment), work / "overlay")
    device = kernels.Device(backend="nvcc")
    found = {"torch": gpu_peers.find_torch()}
    if found["torch"] is None:
        found["cublas"] = gpu_peers.find_cublas(device)
    peers = {key: peer for key, peer in found.items() if peer is not None}
    peers[COPY] = gpu_peers.Copy(device)
    for case in sizes():
        try:
            times = measure(case, device, overlay / assignment.package / f"{case.file}.cu", peers)
        except (Wrong, kernels.KernelError, kernels.BuildError, NotImplementedError) as error:
            names = [name for name, row in ROWS.items() if row[0] == case.name]
            names += [BLOCK_MS] if case.name == "block" else []
            text = (str(error).splitlines() or [type(error).__name__])[0]
            yield from (nothing(name, f"{text[:160]}; {where}") for name in names)
            continue
        yield from rows_of(case, times, peers, where)
