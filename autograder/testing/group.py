"""Ranks of a distributed program: n workers, whose only way to each other is the trusted switch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from autograder.sandbox.host import GraderFault, Place
from autograder.sandbox.switch import Event, Switch, Traffic

if TYPE_CHECKING:
    from autograder.testing.student import Student, StudentError


@dataclass(frozen=True)
class Group:
    """How a group of ranks ended: each rank's result, and what crossed the switch.

    Bytes, messages and events are what the trusted side saw, whatever a rank says of itself; only
    the texts of notes are a rank's own.
    """

    results: list[Any]
    traffic: Traffic

    @property
    def sent(self) -> np.ndarray:
        """(ranks, ranks) bytes from each rank to each other."""
        return self.traffic.sent

    @property
    def messages(self) -> np.ndarray:
        """(ranks, ranks) messages from each rank to each other."""
        return self.traffic.messages

    @property
    def events(self) -> list[Event]:
        """All events, in the order in which the switch saw them."""
        return self.traffic.events

    def events_of(self, rank: int, kind: str = "") -> list[Event]:
        """One rank's events, of one kind where it is given."""
        return [e for e in self.events if e.rank == rank and kind in ("", e.kind)]


@dataclass
class _Outcome:
    value: Any = None
    error: BaseException | None = None


def run_group(
    student: Student, size: int, driver: Callable[..., Any],
    each: Sequence[Mapping[str, Any]] | None, timeout: float | None, slow: dict[int, float] | None,
    common: Mapping[str, Any],
) -> Group:  # fmt: skip
    """`driver(**common, **each[rank])` on `size` fresh workers at once.

    The first rank that fails ends the group, and its error is the one that is raised, with its rank
    named; a deadlock, seen by the switch, names which rank waits for which.
    """
    if each is not None and len(each) != size:
        raise ValueError(f"arguments for {len(each)} ranks, the group has {size}")
    switch = Switch(size, slow)
    outcomes = [_Outcome() for _ in range(size)]
    first: list[int] = []
    lock = threading.Lock()

    def run(rank: int, worker: Any) -> None:
        arguments = {**common, **(each[rank] if each is not None else {})}
        try:
            outcomes[rank].value = student.call(worker, driver, arguments, timeout)
            switch.finish(rank)
        except BaseException as error:
            outcomes[rank].error = error
            with lock:
                first.append(rank)
            switch.abort(f"rank {rank} failed: {getattr(error, 'title', type(error).__name__)}")

    try:
        workers = [
            student.rank_worker(Place(rank, size, switch.ends[rank])) for rank in range(size)
        ]
        for end in switch.ends:
            end.close()  # the workers have theirs; a dead one must be seen as closed
        threads = [
            threading.Thread(target=run, args=(rank, worker), daemon=True)
            for rank, worker in enumerate(workers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        switch.close()
    if first:
        raise _blamed(outcomes, first[0], switch)
    student.answers += 1
    return Group([outcome.value for outcome in outcomes], switch.traffic)


def _blamed(outcomes: list[_Outcome], rank: int, switch: Switch) -> BaseException:
    """The error to raise: the one of the rank that failed first, or what the switch saw."""
    from autograder.testing.student import StudentError

    for outcome in outcomes:
        if isinstance(outcome.error, GraderFault):
            return outcome.error
    error = outcomes[rank].error
    assert error is not None
    if not isinstance(error, StudentError):
        return error
    if switch.verdict_kind in ("deadlock", "mismatch", "broken"):
        return StudentError(switch.verdict_kind, switch.verdict, error.frames)
    error.message = f"rank {rank}: {error.message}"
    return error
