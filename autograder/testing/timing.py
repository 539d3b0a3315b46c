"""Speed as a ratio: the student's worker against a committed peer, in one run, clock outside both.

A B A B, fresh arguments for every pair, every timed answer checked, the peer in a second worker
that never loads student code. The clock is the kernel's account of the worker's CPU time, from
before the arguments are sent until the answer is here, so that neither work done early nor work
left for later is free, and a busy machine does not change it.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autograder.sandbox.host import GraderFault
from autograder.testing.records import Measure
from autograder.testing.student import Student, driver_name

Arguments = Mapping[str, Any]
MAX_BLOCKED = 1.5


@dataclass(frozen=True)
class Race:
    """`ratio`: median of peer seconds / student seconds over `pairs`; above 1 the student wins."""

    ratio: float
    pairs: list[tuple[float, float]]
    void: int

    @property
    def student_seconds(self) -> float:
        """Median seconds of the student's calls."""
        return statistics.median(own for own, _ in self.pairs)

    @property
    def peer_seconds(self) -> float:
        """Median seconds of the peer's calls."""
        return statistics.median(peer for _, peer in self.pairs)


def race(
    student: Student,
    driver: Callable[..., Any],
    peer: Callable[..., Any],
    make_arguments: Callable[[int], Arguments],
    check: Callable[[Any, Arguments], None],
    *,
    pairs: int = 7,
    warm_up: int = 1,
    clock: str = "cpu",
    timeout: float = 120.0,
) -> Race:
    """Time the student's `driver` against `peer`; raises what `check` raises for a wrong answer.

    make_arguments(i) makes the i-th pair's arguments; check(value, arguments) verifies an answer.
    clock: "cpu" (one thread against one thread) or "wall". A pair in which the student's worker
    neither ran nor waited for a processor for over a third of the time is void and repeated.
    """
    rival = student.peer()
    timed: list[tuple[float, float]] = []
    void = 0
    with machine_lock():
        for index in range(-warm_up, pairs + pairs):
            arguments = make_arguments(index)
            order = [(student.worker, driver), (rival, peer)]
            seconds: dict[int, tuple[float, float]] = {}
            for runner, function in order if index % 2 == 0 else order[::-1]:
                value, spent, idle = _timed(student, runner, function, arguments, timeout)
                seconds[id(runner)] = (spent[clock], idle)
                if runner is student.worker:
                    check(value, arguments)
            own, idle = seconds[id(student.worker)]
            if index < 0:
                continue
            if clock == "cpu" and idle > (MAX_BLOCKED - 1) * own and void < pairs:
                void += 1
                continue
            timed.append((own, seconds[id(rival)][0]))
            if len(timed) == pairs:
                break
    if not timed:
        raise GraderFault("no pair could be timed: the machine gave the workers no time")
    ratio = statistics.median(other / own for own, other in timed)
    return Race(ratio, timed, void)


def score_ratio(
    student: Student,
    set_score: Callable[[float], None],
    points: float,
    ratio: float,
    *,
    full: float,
    zero: float,
    name: str,
    peer: str,
    note: str = "",
) -> None:
    """Give `points` in proportion to where `ratio` lies between `zero` and `full`; record it.

    Raises AssertionError below full marks, after the score was set, so that the reader sees why.
    """
    fraction = race_score(ratio, full, zero)
    set_score(points * fraction)
    student.measure(Measure(name=name, value=ratio, full=full, zero=zero, peer=peer, note=note))
    if fraction < 1:
        raise AssertionError(
            f"{name}: {ratio:.2f}× the speed of {peer}; full marks at {full:g}×, none at {zero:g}×"
        )


def race_score(ratio: float, full: float, zero: float) -> float:
    """1 at `full` and above, 0 at `zero` and below, linear between."""
    if not math.isfinite(ratio):
        raise GraderFault(f"a ratio of {ratio} was measured")
    return min(1.0, max(0.0, (ratio - zero) / (full - zero)))


@contextlib.contextmanager
def machine_lock() -> Iterator[None]:
    """Held while timing, by every grader on this machine."""
    path = Path(tempfile.gettempdir()) / f"llm-systems-timing-{os.getuid()}.lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _timed(
    student: Student, worker: Any, function: Callable[..., Any], arguments: Arguments,
    timeout: float,
) -> tuple[Any, dict[str, float], float]:  # fmt: skip
    """The value, seconds by clock, and seconds in which the worker neither ran nor queued."""
    cpu, delay, wall = worker.cpu_seconds(), worker.queued_seconds(), time.perf_counter()
    if worker is student.worker:
        value = student.run(function, timeout=timeout, **arguments)
    else:  # what the student's threads do meanwhile would slow the peer down
        with student.worker.paused():
            value = worker.call(driver_name(function), arguments, timeout=timeout)
    wall = time.perf_counter() - wall
    delay, cpu = worker.queued_seconds() - delay, worker.cpu_seconds() - cpu
    return value, {"cpu": cpu, "wall": wall}, wall - delay - cpu
