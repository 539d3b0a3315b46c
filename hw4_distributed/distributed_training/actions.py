"""What a pipeline stage does, as data; and a simulator of a whole schedule. Given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Action:
    """One step of a stage: kind is "forward" or "backward", of micro-batch `microbatch`."""

    kind: str
    microbatch: int

    def __str__(self) -> str:
        return f"{'F' if self.kind == 'forward' else 'B'}{self.microbatch}"


Schedule = list[list[Action]]


class ScheduleError(ValueError):
    """A schedule that can't be run, with the stage and the action that shows it."""


@dataclass(frozen=True)
class Span:
    """When a stage did an action, in the unit of the durations."""

    stage: int
    action: Action
    start: float
    stop: float


@dataclass
class Timeline:
    """A simulated schedule: spans in the order of their starts, and what follows from them."""

    spans: list[Span] = field(default_factory=list)
    most_in_flight: list[int] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """From the first start to the last stop."""
        return max((span.stop for span in self.spans), default=0.0)

    def idle_share(self, stage: int) -> float:
        """The part of the whole time in which a stage does nothing: its bubble."""
        busy = sum(span.stop - span.start for span in self.spans if span.stage == stage)
        return 1.0 - busy / self.seconds if self.seconds else 0.0


def simulate(
    schedule: Schedule,
    forward: Sequence[float] | float = 1.0,
    backward: Sequence[float] | float = 2.0,
    transfer: float = 0.0,
) -> Timeline:
    """Run a schedule with these durations: by stage, or the same for all.

    Micro-batch m's forward on stage s waits for its forward on s − 1 and `transfer` more, its
    backward for that on s + 1; on the last stage for its own forward. A stage does its actions in
    the order given, each as soon as it can. Raises ScheduleError where an action is missing, occurs
    twice, or where the stages wait for each other.
    """
    stages = len(schedule)
    times = {
        "forward": [forward] * stages if isinstance(forward, (int, float)) else list(forward),
        "backward": [backward] * stages if isinstance(backward, (int, float)) else list(backward),
    }
    check_complete(schedule)
    done: dict[tuple[int, Action], float] = {}
    place, free = [0] * stages, [0.0] * stages
    timeline = Timeline(most_in_flight=[most_in_flight(actions) for actions in schedule])
    while any(place[s] < len(schedule[s]) for s in range(stages)):
        moved = False
        for stage in range(stages):
            while place[stage] < len(schedule[stage]):
                action = schedule[stage][place[stage]]
                need = _needed(stage, action, stages)
                if need is not None and need not in done:
                    break
                arrived = 0.0 if need is None else done[need] + transfer * (need[0] != stage)
                start = max(free[stage], arrived)
                free[stage] = start + times[action.kind][stage]
                done[stage, action] = free[stage]
                timeline.spans.append(Span(stage, action, start, free[stage]))
                place[stage] += 1
                moved = True
        if not moved:
            waiting = [
                f"stage {s} waits at {schedule[s][place[s]]}"
                for s in range(stages) if place[s] < len(schedule[s])
            ]  # fmt: skip
            raise ScheduleError("the stages wait for each other: " + ", ".join(waiting))
    timeline.spans.sort(key=lambda span: (span.start, span.stage))
    return timeline


def _needed(stage: int, action: Action, stages: int) -> tuple[int, Action] | None:
    """What must be done before: (stage, action), or None."""
    if action.kind == "forward":
        return (stage - 1, action) if stage else None
    if stage == stages - 1:
        return stage, Action("forward", action.microbatch)
    return stage + 1, action


def check_complete(schedule: Schedule) -> None:
    """Every stage has every micro-batch's forward once, and its backward once, later."""
    count = max((a.microbatch for actions in schedule for a in actions), default=-1) + 1
    for stage, actions in enumerate(schedule):
        places: dict[Action, int] = {}
        for place, action in enumerate(actions):
            if action.kind not in ("forward", "backward") or action.microbatch < 0:
                raise ScheduleError(f"stage {stage} has {action!r}")
            if action in places:
                raise ScheduleError(f"stage {stage} has {action} twice")
            places[action] = place
        for microbatch in range(count):
            both = [Action(kind, microbatch) for kind in ("forward", "backward")]
            for action in both:
                if action not in places:
                    raise ScheduleError(f"stage {stage} has no {action}")
            if places[both[0]] > places[both[1]]:
                raise ScheduleError(f"stage {stage} has {both[1]} before {both[0]}")


def most_in_flight(actions: Sequence[Action]) -> int:
    """The most micro-batches whose activations a stage holds at one time."""
    held = most = 0
    for action in actions:
        held += 1 if action.kind == "forward" else -1
        most = max(most, held)
    return most
