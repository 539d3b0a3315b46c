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


def check_largest(values: np.ndarray, count: int, places: Any, name: str) -> None:
    """Places are those of the `count` largest magnitudes, in rising order; of equals the lower ones."""
    places = np.asarray(places)
    hint = "sort the magnitudes stably, and take the places in rising order; torch.topk promises nothing"
    hint += " about ties"
    count = min(count, len(values))
    assert places.dtype == np.int32, f"{name}: the type is {places.dtype}, not int32"
    assert places.shape == (count,), (
        f"{name}: shape {places.shape}, expected ({count},)\nhint: {hint}"
    )
    assert ((places >= 0) & (places < len(values))).all() and (np.diff(places) > 0).all(), (
        f"{name}: {places} do not rise within 0 to {len(values) - 1}\nhint: {hint}"
    )
    sizes, taken = np.abs(values), np.zeros(len(values), bool)
    taken[places] = True
    if not taken.all():
        least, most = sizes[taken].min(), sizes[~taken].max()
        assert least >= most, (
            f"{name}: a magnitude of {most:.6g} is left out, one of {least:.6g} is taken"
        )
        taken_equals = np.flatnonzero(taken & (sizes == least))
        left_equals = np.flatnonzero(~taken & (sizes == least))
        assert not len(left_equals) or taken_equals[-1] < left_equals[0], (
            f"{name}: of equal magnitudes {least:.6g} place {left_equals[0]} is left out, and "
            f"{taken_equals[-1]} is taken\nhint: {hint}"
        )


def blocks_of(
    rng: np.random.Generator, size: int, count: int, steps: int
) -> list[list[list[np.ndarray]]]:
    """Gradients of one bucket by step and rank: whole numbers in a block of places of each rank's own,
    zeros elsewhere. So the mean shows what each rank sent. No two magnitudes are alike."""
    found = []
    for _ in range(steps):
        flat = rng.permutation(np.arange(1, size * count + 1)) * rng.choice([-1, 1], size * count)
        own = np.zeros((size, size * count), np.float32)
        for rank in range(size):
            place = slice(rank * count, (rank + 1) * count)
            own[rank, place] = flat[place]
        found.append([list(own)])
    return found


def check_sent(
    applied: list[np.ndarray], steps: list[list[list[np.ndarray]]], number: int, feedback: bool,
    name: str,
) -> None:  # fmt: skip
    """Of `blocks_of`'s gradients, step by step: each rank sent its `number` largest, as they were, of
    the gradient and what it had not sent before."""
    size = len(steps[0][0])
    hint = ("the residual of this bucket is added first, the largest of the *sum* are sent, and what was "
            "sent is no longer in the residual")  # fmt: skip
    waiting = [np.zeros(len(applied[0]) // size) for _ in range(size)]
    for step, (gradients,) in enumerate(steps):
        for rank, block in enumerate(np.split(np.asarray(applied[step], np.float64), size)):
            where = f"{name}: what rank {rank} sent in step {step}"
            due = waiting[rank] + np.split(gradients[rank], size)[rank].astype(np.float64)
            sent = np.rint(size * block)  # a mean over three ranks is rounded
            went = sent != 0
            zeros = int((due == 0).sum())  # one that was sent can't be seen
            assert number - zeros <= went.sum() <= number, (
                f"{where}: {int(went.sum())} elements, expected {number}\nhint: {hint}"
            )
            assert_equal(sent[went], due[went], name=where, hint=hint)
            assert_close(size * block, sent, rtol=1e-6, atol=0, name=f"{where}: the mean")
            assert np.abs(due[went]).min() >= np.abs(due[~went]).max(), (
                f"{where}: a smaller one went, and a larger one waits\nhint: {hint}"
            )
            waiting[rank] = due - sent if feedback else 0.0 * due


def largest_alone(fraction: float) -> Reduce:
    """A mean of each rank's largest elements of this gradient; nothing else is remembered or sent."""

    def reduce(gradients: list[np.ndarray], shapes: Any = None) -> np.ndarray:
        parts = []
        for gradient in gradients:
            least = np.partition(np.abs(gradient), -kept(len(gradient), fraction))
            parts.append(gradient * (np.abs(gradient) >= least[-kept(len(gradient), fraction)]))
        return np.mean(parts, 0)

    return reduce


def best_of_rank(rank: int) -> Reduce:
    """The best approximation of the mean by matrices of this rank, by an SVD; nothing is remembered."""

    def reduce(gradients: list[np.ndarray], shapes: list[tuple[int, ...]]) -> np.ndarray:
        found = []
        for part in split(np.mean(gradients, 0), shapes):
            if is_thin(part.shape, rank):
                u, values, v = np.linalg.svd(part, full_matrices=False)
                part = (u[:, :rank] * values[:rank]) @ v[:rank]
            found.append(part.reshape(-1))
        return np.concatenate(found)

    return reduce


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
    group: Any, size: int, wanted: list[tuple[np.ndarray, np.ndarray]], name: str, hint: str = ""
) -> None:
    """(bytes, messages) between each two ranks before each barrier, as the switch counted them."""
    found = pieces(group, size, len(wanted))
    for place, (sent, counted) in enumerate(wanted):
        assert_equal(messages(found[place]), counted,
                     name=f"{name}: messages from (row) to (column) in call {place}", hint=hint)  # fmt: skip
        assert_equal(sent_bytes(found[place]), sent,
                     name=f"{name}: bytes from (row) to (column) in call {place}", hint=hint)  # fmt: skip


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


def check_projected(
    applied: list[np.ndarray], gradients: list[np.ndarray], shapes: list[tuple[int, ...]], rank: int,
    name: str,
) -> None:  # fmt: skip
    """A first call's result: P·Pᵀ·mean for orthonormal P, which has as large a product with the mean as
    with itself, `rank` singular values, and is not nothing; what is not compressed is the mean."""
    hint = "P, averaged and orthonormalised, then Q = Mᵀ·P, averaged: P·Qᵀ is the mean's part in P's columns"
    wanted = split(np.mean(gradients, 0, dtype=np.float64), shapes)
    for place, (got, mean) in enumerate(zip(split(applied, shapes), wanted, strict=True)):
        what = f"{name}: parameter {place} {shapes[place]}"
        got = np.asarray(got, np.float64)
        if not is_thin(shapes[place], rank):
            assert_close(got, mean, rtol=1e-5, atol=1e-6, name=f"{what}, not compressed")
            continue
        got, mean = (each.reshape(shapes[place][0], -1) for each in (got, mean))
        size = (got**2).sum()
        assert size > 0.01 * rank / max(got.shape) * (mean**2).sum(), (
            f"{what}: of the mean nearly nothing is applied\nhint: {hint}"
        )
        assert_close((got * mean).sum(), size, rtol=1e-3, atol=0, hint=hint,
                     name=f"{what}: ⟨result, mean⟩ against |result|²")  # fmt: skip
        squares = np.linalg.eigvalsh(got.T @ got if got.shape[1] < got.shape[0] else got @ got.T)
        assert (squares[:-rank] < 1e-8 * squares[-1]).all(), f"{what}: it is not of rank {rank}"


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
