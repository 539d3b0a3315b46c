"""Task 4.6: pipeline schedules as data: who does what, in which order."""

from __future__ import annotations

from distributed_training.actions import Action, Schedule


def gpipe(stages: int, microbatches: int) -> Schedule:
    """All forwards, then all backwards, in the order of micro-batches (Huang et al., 2019).

    Returns the actions of each stage. A stage holds the activations of all micro-batches. Raises
    ValueError where stages or microbatches is below 1.
    """
    # BEGIN SOLUTION 4.6
    _check(stages, microbatches)
    both = [Action(kind, m) for kind in ("forward", "backward") for m in range(microbatches)]
    return [list(both) for _ in range(stages)]
    # END SOLUTION


def one_forward_one_backward(stages: int, microbatches: int) -> Schedule:
    """1F1B (Narayanan et al., 2019, "PipeDream"; 2021, "Megatron-LM"): forwards to fill the pipe,
    then one forward and one backward in turn, then the backwards that are left.

    Stage s starts with min(microbatches, stages − s − 1) forwards, so it holds the activations of
    at most min(microbatches, stages − s) micro-batches. With equal times the bubble is that of
    GPipe: (stages − 1)/(microbatches + stages − 1) of the time. Raises ValueError as `gpipe`.
    """
    # BEGIN SOLUTION 4.6
    _check(stages, microbatches)
    schedule = []
    for stage in range(stages):
        ahead = min(microbatches, stages - stage - 1)
        actions = [Action("forward", m) for m in range(ahead)]
        for microbatch in range(microbatches - ahead):
            actions.append(Action("forward", ahead + microbatch))
            actions.append(Action("backward", microbatch))
        actions += [Action("backward", m) for m in range(microbatches - ahead, microbatches)]
        schedule.append(actions)
    return schedule
    # END SOLUTION


def _check(stages: int, microbatches: int) -> None:
    """Given: refuse what is no pipeline."""
    if stages < 1 or microbatches < 1:
        raise ValueError(f"a pipeline of {stages} stages and {microbatches} micro-batches")
