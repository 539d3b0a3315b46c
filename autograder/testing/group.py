"""Ranks of a distributed program: n workers, whose only way to each other is the trusted switch."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from autograder.sandbox.host import GraderFault, Place, Worker
from autograder.sandbox.switch import Event, Switch, Traffic

if TYPE_CHECKING:
    from autograder.testing.records import Frame
    from autograder.testing.student import Student, StudentError

# On top of the ranks' own deadlines: to end them, one after the other, and to say how they ended.
ENDING_SECONDS = 30.0
MOST_FRAMES = 20  # of each rank


@dataclass(frozen=True)
class Group:
    """How a group of ranks ended: each rank's result, and what crossed the switch.

    Bytes, messages, events and clocks are what the trusted side saw, whatever a rank says of
    itself; only the texts of notes are a rank's own.
    """

    results: list[Any]
    traffic: Traffic
    start_bytes: list[int] = field(default_factory=list)
    peaks: list[int] = field(default_factory=list)

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

    @property
    def depth(self) -> int:
        """The most messages that had to come one after the other, each sent by a rank that had
        received the one before. It does not depend on how fast anything was."""
        return int(self.traffic.depths.max(initial=0))

    @property
    def peak_bytes(self) -> list[int]:
        """The most resident memory of each rank so far, by the kernel's account (VmHWM).

        It holds everything: interpreter, torch, arguments, result. `start_bytes` is what a rank held
        before its driver was called, the arguments not among it. Ranks give blocks of 128 kB and more
        back when they are freed, so that two runs agree within a few MB; what torch takes at its
        first use is about 30 MB. Needs Linux; a test that asks is skipped in a debugger.
        """
        if not self.peaks:
            import pytest

            pytest.skip("memory is measured on Linux, in processes of the ranks' own")
        return self.peaks

    def events_of(self, rank: int, kind: str = "") -> list[Event]:
        """One rank's events, of one kind where it is given."""
        return [e for e in self.events if e.rank == rank and kind in ("", e.kind)]


@dataclass
class _Outcome:
    value: Any = None
    error: BaseException | None = None
    start_bytes: int = 0
    peak_bytes: int = 0


class _Running:
    """A group on its way: a thread for each rank's call."""

    def __init__(self, student: Student, switch: Switch, workers: list[Any]) -> None:
        self.student, self.switch, self.workers = student, switch, workers
        self.outcomes = [_Outcome() for _ in workers]
        self.failed: list[int] = []  # in the order in which they did
        self._lock = threading.Lock()

    def run(
        self, driver: Callable[..., Any], arguments: list[dict[str, Any]], timeout: float | None
    ) -> None:
        """Return when every rank has ended, or should long have."""
        from autograder.testing.student import StudentTimedOut

        threads = [
            threading.Thread(target=self._one, args=(rank, driver, mine, timeout), daemon=True)
            for rank, mine in enumerate(arguments)
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + self._patience(timeout)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        for rank, thread in enumerate(threads):
            if thread.is_alive() and not self.failed:
                self.failed.append(rank)
                text = f"your code did not finish: rank {rank} was still not at its end"
                self.outcomes[rank].error = StudentTimedOut("time limit", text)

    def _patience(self, timeout: float | None) -> float:
        """Seconds after which a group is given up, ranks that can't be ended included."""
        if not isinstance(self.workers[0], Worker):
            return threading.TIMEOUT_MAX / 2  # in a debugger
        limit = self.student.seconds(timeout) or self.workers[0].plan.wall_seconds
        return 2 * limit + ENDING_SECONDS  # to take the arguments, and to answer

    def _one(
        self, rank: int, driver: Callable[..., Any], arguments: dict[str, Any],
        timeout: float | None,
    ) -> None:  # fmt: skip
        worker, outcome = self.workers[rank], self.outcomes[rank]
        measured = sys.platform == "linux" and isinstance(worker, Worker)
        try:
            if measured:
                with self.student._translated():
                    outcome.start_bytes = worker.resident_bytes()
            outcome.value = self.student.call(worker, driver, arguments, timeout)
            self.switch.finish(rank)
            if measured:
                with self.student._translated():
                    outcome.peak_bytes = worker.peak_bytes()
        except BaseException as error:
            outcome.error = error
            with self._lock:
                self.failed.append(rank)
            self.switch.abort(f"rank {rank} failed: {getattr(error, 'title', type(error).__name__)}")


def run_group(
    student: Student, size: int, driver: Callable[..., Any],
    each: Sequence[Mapping[str, Any]] | None, timeout: float | None, slow: dict[int, float] | None,
    common: Mapping[str, Any],
) -> Group:  # fmt: skip
    """`driver(**common, **each[rank])` on `size` fresh workers at once.

    The first rank that fails ends the group, and its error is the one that is raised, with its rank
    named; a deadlock, seen by the switch, names which rank waits for which. What the switch saw
    fails the group also where every rank returned: code that catches an error, or leaves messages
    behind, has not done its work.
    """
    from autograder.testing.student import StudentError

    if each is not None and len(each) != size:
        raise ValueError(f"arguments for {len(each)} ranks, the group has {size}")
    arguments = [{**common, **(each[rank] if each is not None else {})} for rank in range(size)]
    switch = Switch(size, slow)
    try:
        workers = [
            student.rank_worker(Place(rank, size, switch.ends[rank])) for rank in range(size)
        ]
        for end in switch.ends:
            end.close()  # the workers have theirs; a dead one must be seen as closed
        running = _Running(student, switch, workers)
        running.run(driver, arguments, timeout)
    finally:
        switch.close()
    if switch.fault:
        raise GraderFault(f"the switch failed ({switch.fault})")
    outcomes = running.outcomes
    if running.failed:
        raise _blamed(outcomes, running.failed[0], switch)
    if switch.verdict:
        raise StudentError(switch.verdict_kind, switch.verdict)
    if left := switch.unreceived():
        raise StudentError("messages left over", left)
    student.answers += 1
    peaks = [outcome.peak_bytes for outcome in outcomes]
    return Group(
        [outcome.value for outcome in outcomes], switch.traffic,
        [outcome.start_bytes for outcome in outcomes], peaks if all(peaks) else [],
    )  # fmt: skip


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
        return StudentError(switch.verdict_kind, switch.verdict, _frames_by_rank(outcomes))
    error.message = f"rank {rank}: {error.message}"
    return error


def _frames_by_rank(outcomes: list[_Outcome]) -> list[Frame]:
    """Where each rank was when the group ended, innermost last, one rank after the other."""
    return [
        frame.model_copy(update={"ranks": [rank]})
        for rank, outcome in enumerate(outcomes)
        for frame in getattr(outcome.error, "frames", [])[-MOST_FRAMES:]
    ]
