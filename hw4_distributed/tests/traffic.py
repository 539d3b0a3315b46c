"""What the switch saw, cut into pieces at the barriers. Trusted: the switch's own record."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from autograder.testing.group import Event, Group
from autograder.testing.student import StudentError


def chunk_sizes(count: int, parts: int) -> list[int]:
    """How many of `count` things each of `parts` ranks has: as even as can be, the first ones more."""
    return [count // parts + (part < count % parts) for part in range(parts)]


def in_words(size: int) -> str:
    """`1 rank`, `3 ranks`."""
    return f"{size} rank{'s' * (size != 1)}"


@contextlib.contextmanager
def if_ranks_disagree(hint: str) -> Iterator[None]:
    """A deadlock, or a message that does not fit its receive, is told with a hint."""
    try:
        yield
    except StudentError as error:
        if error.title in ("deadlock", "mismatch"):
            error.message = f"{error.message}\nhint: {hint}"
        raise


@contextlib.contextmanager
def if_it_says(words: str, hint: str) -> Iterator[None]:
    """An error of these words is told with a hint."""
    try:
        yield
    except StudentError as error:
        if words in error.message:
            error.message = f"{error.message}\nhint: {hint}"
        raise


def pieces(group: Group, size: int, count: int) -> list[list[list[Event]]]:
    """sends[piece][rank]: what each rank sent before its first barrier, its second, …

    Asserts that every rank came to `count` barriers.
    """
    found: list[list[list[Event]]] = [[[] for _ in range(size)] for _ in range(count + 1)]
    passed = [0] * size
    for event in group.events:
        if event.kind == "barrier":
            passed[event.rank] += 1
            assert passed[event.rank] <= count, f"rank {event.rank} came to one barrier too many"
        elif event.kind == "send":
            found[passed[event.rank]][event.rank].append(event)
    assert passed == [count] * size, f"barriers by rank: {passed}, expected {count} of each"
    return found


def chains(group: Group, size: int, count: int) -> list[int]:
    """By piece: the most messages that came one after the other, each waiting for the one before.

    By the switch's clocks: a message carries one more than the latest that its sender had received,
    and a barrier hands on the latest clock of all. How fast anyone was has no part in it.
    """
    begun, latest = [0] * (count + 1), [0] * (count + 1)
    passed = [0] * size
    for event in group.events:
        place = passed[event.rank]
        if event.kind == "barrier":
            begun[place + 1] = max(begun[place + 1], event.depth)
            passed[event.rank] += 1
        elif event.kind == "send":
            latest[place] = max(latest[place], event.depth)
    return [max(0, last - first) for first, last in zip(begun, latest, strict=True)]


def sent_bytes(sends: list[list[Event]]) -> np.ndarray:
    """(ranks, ranks) bytes of one piece."""
    sent = np.zeros((len(sends), len(sends)), np.int64)
    for rank, events in enumerate(sends):
        for event in events:
            sent[rank, event.peer] += event.size
    return sent


def messages(sends: list[list[Event]]) -> np.ndarray:
    """(ranks, ranks) messages of one piece."""
    counted = np.zeros((len(sends), len(sends)), np.int64)
    for rank, events in enumerate(sends):
        for event in events:
            counted[rank, event.peer] += 1
    return counted


def around(by_rank: list[int]) -> np.ndarray:
    """(ranks, ranks): by_rank[r] from r to the next rank of the ring, nothing else."""
    size = len(by_rank)
    wanted = np.zeros((size, size), np.int64)
    if size > 1:
        for rank in range(size):
            wanted[rank, (rank + 1) % size] = by_rank[rank]
    return wanted


def reduce_scatter_bytes(count: int, size: int, width: int) -> list[int]:
    """Bytes each rank sends in a ring reduce-scatter: all chunks but its own."""
    return [width * (count - own) for own in chunk_sizes(count, size)] if size > 1 else [0]


def all_gather_bytes(count: int, size: int, width: int) -> list[int]:
    """Bytes each rank sends in a ring all-gather: all chunks but that of the rank after it."""
    own = chunk_sizes(count, size)
    return [width * (count - own[(r + 1) % size]) for r in range(size)] if size > 1 else [0]


def all_reduce_bytes(count: int, size: int, width: int) -> list[int]:
    """Bytes each rank sends in a ring all-reduce: 2·(size − 1)/size of all, to the byte."""
    both = zip(
        reduce_scatter_bytes(count, size, width), all_gather_bytes(count, size, width), strict=True
    )
    return [a + b for a, b in both]
