"""Cases and oracles of task 4.9: bounds of rounding, bytes in closed form, local SGD by numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from collectives_cases import assert_within
from traffic import chunk_sizes

GROUP = 256


def group_maxima(values: np.ndarray, group: int = GROUP) -> np.ndarray:
    """For each element the largest magnitude of its group; the last group may be short."""
    maxima = [np.abs(values[i : i + group]).max() for i in range(0, len(values), group)]
    return np.repeat(maxima, group)[: len(values)] if maxima else np.zeros(0)


def chunks_of(values: np.ndarray, size: int) -> list[np.ndarray]:
    """The chunks of `chunk_bounds`."""
    return np.split(values, np.cumsum(chunk_sizes(len(values), size))[:-1])


def bound_of_int8(tensors: list[np.ndarray], average: bool) -> np.ndarray:
    """How far the int8 sum (mean) may be from the exact one: (elements,).

    A value is rounded to a neighbour on its group's grid, so by less than the grid's step, the
    largest magnitude over 127. First every rank's chunk: Σ of the ranks' steps in all. Then the sum
    of what came, whose largest magnitude is at most that of the exact sum and those steps. A group
    begins at the start of a chunk. 1e-5 of the magnitudes is for float32's own rounding.
    """
    size = len(tensors)
    found = []
    for parts in zip(*(chunks_of(t.astype(np.float64), size) for t in tensors), strict=True):
        steps = sum(group_maxima(part) for part in parts) / 127
        total = np.sum(parts, 0)
        second = (group_maxima(total) + steps) / 127
        found.append(steps + second + 1e-5 * sum(np.abs(p) for p in parts) + 1e-5 * steps)
    return np.concatenate(found) / (size if average else 1)


def assert_int8(got: Any, exact: np.ndarray, bound: np.ndarray, name: str) -> None:
    """Every element within its own bound, as by `bound_of_int8`."""
    assert_within(
        got, exact, bound, name, "each rank's chunk is rounded once (to its group's own scale; a group "
        "begins where its chunk begins), summed in float32, and the sum is rounded once; it is divided by "
        "the ranks where the mean is asked for"
    )  # fmt: skip


def int8_traffic(count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(bytes, messages): two rounds of numbers and scales, from each rank to each other.

    In the first, rank r sends rank s chunk s; in the second its own chunk r.
    """
    cost = np.array([c + 4 * -(-c // GROUP) for c in chunk_sizes(count, size)])
    sent = cost[None, :] + cost[:, None]
    off = 1 - np.eye(size, dtype=np.int64)
    return sent * off, 4 * off


def local_sgd_here(
    updates: list[list[np.ndarray]], starts: list[float], every: int
) -> list[list[dict[str, Any]]]:
    """States by rank and step (the first before any step) of the drivers' module, in float64."""
    size, average = len(updates), ("first", "wide", "moving")

    def begin(start: float) -> dict[str, Any]:
        return {
            "first": np.full((3, 5), start), "frozen": np.full(4, start), "wide": np.full(7, start),
            "moving": np.full((2, 2), start), "counter": np.array(int(start)),
        }  # fmt: skip

    now = [begin(starts[0]) for _ in range(size)]
    states = [[dict(s)] for s in now]
    for step in range(len(updates[0])):
        for rank, state in enumerate(now):
            change = updates[rank][step]
            state["first"] = state["first"] + change[0] + np.arange(15).reshape(3, 5)
            state["wide"] = state["wide"] + change[1]
            state["moving"] = state["moving"] + change[2]
            state["frozen"] = state["frozen"] + change[3]
            state["counter"] = state["counter"] + 1 + rank
        if (step + 1) % every == 0:
            for name in average:
                mean = np.mean([state[name] for state in now], 0)
                for state in now:
                    state[name] = mean
        for rank, state in enumerate(now):
            states[rank].append(dict(state))
    return states
