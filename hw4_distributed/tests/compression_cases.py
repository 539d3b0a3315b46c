"""Cases and oracles of tasks 4.7 to 4.9, in one process: numpy and torch, nothing distributed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from drivers_compression import local_gradients, loss_of_network
from traffic import all_reduce_bytes, around, messages, pieces, sent_bytes

from autograder.testing import assert_close, assert_equal

Reduce = Callable[[list[np.ndarray], list[tuple[int, ...]]], np.ndarray]


def kept(count: int, fraction: float) -> int:
    """How many of `count` elements top-k sends."""
    return max(1, math.ceil(round(fraction * count, 6)))


def largest_of(values: np.ndarray, count: int) -> np.ndarray:
    """Places of the `count` largest magnitudes, in rising order; the lower place first of equals."""
    return np.sort(np.argsort(-np.abs(values), kind="stable")[:count])


class TopKOracle:
    """Top-k of all ranks in one process, in float64: exact for gradients of small whole numbers."""

    def __init__(self, fraction: float, error_feedback: bool = True) -> None:
        self.fraction, self.error_feedback = fraction, error_feedback
        self.residuals: list[np.ndarray] = []

    def __call__(self, gradients: list[np.ndarray], shapes: Any = None) -> np.ndarray:
        """The mean of what the ranks send of (elements,) gradients, one a rank."""
        if not self.residuals or not self.error_feedback:
            self.residuals = [np.zeros(len(g)) for g in gradients]
        total = np.zeros(len(gradients[0]))
        for rank, gradient in enumerate(gradients):
            corrected = gradient.astype(np.float64) + self.residuals[rank]
            places = largest_of(corrected, kept(len(corrected), self.fraction))
            total[places] += corrected[places]
            corrected[places] = 0.0
            self.residuals[rank] = corrected
        return total / len(gradients)


class PowerOracle:
    """PowerSGD of all ranks in one process, in float64, by QR; its random Q is its own."""

    def __init__(self, rank: int, error_feedback: bool = True) -> None:
        self.rank, self.error_feedback = rank, error_feedback
        self.errors: dict[int, list[np.ndarray]] = {}
        self.factors: dict[int, np.ndarray] = {}

    def __call__(self, gradients: list[np.ndarray], shapes: list[tuple[int, ...]]) -> np.ndarray:
        """The compressed mean of flat gradients, one a rank, of parameters of these shapes."""
        starts = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)])
        found = []
        for place, shape in enumerate(shapes):
            own = [g[starts[place] : starts[place + 1]].astype(np.float64) for g in gradients]
            found.append(
                self._one(place, shape, own) if is_thin(shape, self.rank) else np.mean(own, 0)
            )
        return np.concatenate(found)

    def _one(self, place: int, shape: tuple[int, ...], own: list[np.ndarray]) -> np.ndarray:
        matrices = [g.reshape(shape[0], -1) for g in own]
        if self.error_feedback and place in self.errors:
            matrices = [m + e for m, e in zip(matrices, self.errors[place], strict=True)]
        mean = np.mean(matrices, 0)
        fresh = np.random.default_rng(place).standard_normal((mean.shape[1], self.rank))
        p, _ = np.linalg.qr(mean @ self.factors.get(place, fresh))
        self.factors[place] = mean.T @ p
        product = p @ self.factors[place].T
        self.errors[place] = [m - product for m in matrices]
        return product.reshape(-1)


def is_thin(shape: tuple[int, ...], rank: int) -> bool:
    """Whether PowerSGD sends two factors for this shape."""
    if len(shape) < 2:
        return False
    rows, columns = shape[0], int(np.prod(shape[1:]))
    return rank * (rows + columns) < rows * columns


def each_of(steps: list[list[list[np.ndarray]]]) -> list[dict[str, Any]]:
    """Arguments by rank of `reduce_steps`, from gradients by step, bucket and rank."""
    size = len(steps[0][0])
    return [
        {"steps": [[bucket[rank] for bucket in step] for step in steps]} for rank in range(size)
    ]


def whole_numbers(
    rng: np.random.Generator, size: int, sizes: list[int], steps: int
) -> list[list[list[np.ndarray]]]:
    """Gradients by step, bucket and rank: whole numbers of −40 to 40, with many ties.

    Sums of a few hundred of them are exact in float32, and so are means over 2 or 4 ranks.
    """
    return [[[rng.integers(-40, 41, n).astype(np.float32) for _ in range(size)] for n in sizes]
            for _ in range(steps)]  # fmt: skip


def same_on_all(results: list[dict[str, Any]], name: str) -> list[list[np.ndarray]]:
    """Rank 0's applied gradients, once every other rank's were found to have the same bits."""
    first = results[0]["applied"]
    for rank, result in enumerate(results):
        for step, buckets in enumerate(result["applied"]):
            for index, got in enumerate(buckets):
                assert np.asarray(got).tobytes() == np.asarray(first[step][index]).tobytes(), (
                    f"{name}: in step {step}, bucket {index}, rank {rank}'s result and rank 0's "
                    "differ: the replicas drift apart. All must add in the same order, and use the "
                    "same factors"
                )
    return first


def check_each_piece(
    group: Any, size: int, wanted: list[tuple[np.ndarray, np.ndarray]], name: str
) -> None:
    """(bytes, messages) between each two ranks before each barrier, as the switch counted them."""
    found = pieces(group, size, len(wanted))
    for place, (sent, counted) in enumerate(wanted):
        assert_equal(messages(found[place]), counted,
                     name=f"{name}: messages from (row) to (column) in call {place}")  # fmt: skip
        assert_equal(sent_bytes(found[place]), sent,
                     name=f"{name}: bytes from (row) to (column) in call {place}")  # fmt: skip


def network_problem(
    rng: np.random.Generator, size: int, sizes: tuple[int, int, int]
) -> dict[str, Any]:
    """Rows and targets by rank and first weights: a network (inputs, hidden, outputs) to fit.

    Targets are another network's. Every rank sees rows from a place of its own, as shards of real
    data do: each rank's gradient has large parts that cancel in the mean.
    """
    inputs, hidden, outputs = sizes
    scales = 1.0 / np.sqrt(np.arange(1, inputs + 1))
    x = [(rng.standard_normal((48, inputs)) + 1.5 * rng.standard_normal(inputs)) * scales
         for _ in range(size)]  # fmt: skip
    teacher = [rng.standard_normal((outputs, inputs)), 2.0 * rng.standard_normal(size * outputs)]
    y = [np.sin(rows @ teacher[0].T) + teacher[1].reshape(size, -1)[rank]
         for rank, rows in enumerate(x)]  # fmt: skip
    weights = [
        rng.standard_normal((hidden, inputs)) / inputs**0.5, np.zeros(hidden),
        rng.standard_normal((outputs, hidden)) / hidden**0.5, np.zeros(outputs),
    ]  # fmt: skip
    return {
        "x": [rows.astype(np.float32) for rows in x], "y": [t.astype(np.float32) for t in y],
        "weights": [w.astype(np.float32) for w in weights],
    }  # fmt: skip


def loss_of(problem: dict[str, Any], weights: list[np.ndarray]) -> float:
    """The loss over all ranks' rows, in float64."""
    tensors = [torch.tensor(np.asarray(w), dtype=torch.float64) for w in weights]
    x, y = (torch.tensor(np.concatenate(problem[k]), dtype=torch.float64) for k in ("x", "y"))
    return float(loss_of_network(tensors, x, y))


def train_here(
    problem: dict[str, Any], reduce: Reduce, rate: float, steps: int, every: int = 0
) -> tuple[list[np.ndarray], list[float]]:
    """(weights after training, losses every `every` steps) with a reduction made in this process."""
    weights = [torch.tensor(w, dtype=torch.float64) for w in problem["weights"]]
    rows = [(torch.tensor(x).double(), torch.tensor(y).double())
            for x, y in zip(problem["x"], problem["y"], strict=True)]  # fmt: skip
    shapes = [tuple(w.shape) for w in weights]
    losses = []
    for step in range(steps):
        if every and step % every == 0:
            losses.append(loss_of(problem, [w.numpy() for w in weights]))
        flat = [
            torch.cat([g.reshape(-1) for g in local_gradients(weights, *own)]).numpy()
            for own in rows
        ]
        mean = torch.tensor(reduce(flat, shapes)).split([w.numel() for w in weights])
        for weight, part in zip(weights, mean, strict=True):
            weight -= rate * part.view(weight.shape)
    return [w.numpy() for w in weights], losses


def dense(gradients: list[np.ndarray], shapes: Any = None) -> np.ndarray:
    """The plain mean."""
    return np.mean(gradients, 0)


def of_rank(rng: np.random.Generator, shape: tuple[int, ...], rank: int) -> np.ndarray:
    """A gradient that, as a matrix (first, rest), has this rank; a vector as it comes. float64."""
    if len(shape) < 2:
        return rng.standard_normal(shape)
    rows, columns = shape[0], int(np.prod(shape[1:]))
    rank = min(rank, rows, columns)
    factors = rng.standard_normal((rows, rank)), rng.standard_normal((rank, columns))
    return (factors[0] @ factors[1]).reshape(shape)


def from_mean(rng: np.random.Generator, size: int, parts: list[np.ndarray]) -> list[np.ndarray]:
    """Flat gradients of `size` ranks, each of full rank, whose mean is `parts`; float32."""
    flat = np.concatenate([part.reshape(-1) for part in parts])
    own = rng.standard_normal((size, len(flat))) * 2.0
    own += flat - own.mean(0)
    return [each.astype(np.float32) for each in own]


def split(flat: Any, shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
    """The parameters' parts of a flat bucket; four dimensions as the matrix (first, rest)."""
    flat = np.asarray(flat)
    starts = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)])
    return [flat[starts[i] : starts[i + 1]].reshape(shape) for i, shape in enumerate(shapes)]


def power_traffic(
    shapes: list[tuple[int, ...]], rank: int, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """(bytes, messages) of one call: a ring all-reduce of P and all that is whole, one of Q."""
    thin = [shape for shape in shapes if is_thin(shape, rank)]
    whole = sum(int(np.prod(shape)) for shape in shapes if not is_thin(shape, rank))
    counts = [rank * sum(shape[0] for shape in thin) + whole]
    if thin:
        counts.append(rank * sum(int(np.prod(shape[1:])) for shape in thin))
    sent = np.array([all_reduce_bytes(count, size, 4) for count in counts]).sum(0)
    return around(sent.tolist()), around([2 * (size - 1) * len(counts)] * size)


def check_vectors(
    applied: list[list[np.ndarray]], steps: list[list[list[np.ndarray]]],
    shapes: list[tuple[int, ...]], place: int, name: str,
) -> None:  # fmt: skip
    """What is not compressed is the plain mean, in every step, of the only bucket."""
    for number, ((gradients,), parts) in enumerate(zip(steps, applied, strict=True)):
        wanted = np.mean([split(g, shapes)[place].astype(np.float64) for g in gradients], 0)
        # n − 1 additions and a division of numbers below 20, each within 2^-24 of its result.
        assert_close(parts[place], wanted, rtol=0, atol=1.2e-6 * len(gradients),
                     name=f"{name}: parameter {place}, not compressed, in step {number}")  # fmt: skip
