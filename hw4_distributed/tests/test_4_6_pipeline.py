"""Task 4.6: schedules as data, played on this side; and stages that run them, by the switch."""

from __future__ import annotations

import drivers_pipeline as drivers
import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight
from hypothesis import strategies
from llama_cases import random_state, sizes
from pipeline_cases import (
    arguments,
    check_bubble,
    check_complete,
    check_events,
    check_gpipe,
    check_in_turn,
    check_memory,
    check_run,
    committed_schedules,
    in_flight,
    make_batch,
)

from autograder.testing import Measure, reported_by_worker

PIPES = {
    "stages": strategies.integers(1, 9), "microbatches": strategies.integers(1, 12),
    "forward": strategies.integers(1, 3), "backward": strategies.integers(1, 5),
}  # fmt: skip


@number("4.6")
@weight(1.5)
def test_gpipe_is_all_forwards_then_all_backwards(student):
    """Of any size: complete, runs, idles (P − 1)/(M + P − 1) of the time, holds all micro-batches."""

    def check(stages: int, microbatches: int, forward: int, backward: int) -> None:
        text = f"gpipe({stages}, {microbatches})"
        got = student.run(
            drivers.own_schedule, kind="gpipe", stages=stages, microbatches=microbatches
        )
        check_complete(got, stages, microbatches, text)
        check_bubble(got, microbatches, forward, backward, text)
        check_gpipe(got, text)

    student.given(max_examples=30, **PIPES)(check)()


@number("4.6")
@weight(1.75)
def test_1f1b_holds_no_more_than_the_stages_that_follow(student):
    """Of any size: complete, runs, the same bubble, min(M, P − rank) in flight, in turn."""

    def check(stages: int, microbatches: int, forward: int, backward: int) -> None:
        text = f"one_forward_one_backward({stages}, {microbatches})"
        got = student.run(
            drivers.own_schedule, kind="1f1b", stages=stages, microbatches=microbatches
        )
        check_complete(got, stages, microbatches, text)
        check_bubble(got, microbatches, forward, backward, text)
        for stage, actions in enumerate(got):
            most = min(microbatches, stages - stage)
            assert in_flight(actions) <= most, (
                f"{text}: stage {stage} holds {in_flight(actions)} micro-batches, {most} are enough: "
                f"it does {' '.join(actions)}"
            )
        check_in_turn(got, microbatches, text)

    student.given(max_examples=60, **PIPES)(check)()
    many = student.run(drivers.own_schedule, kind="1f1b", stages=4, microbatches=64)
    student.measure(Measure(name="micro-batches in flight on the first of 4 stages, of 64",
                            value=float(in_flight(many[0])), unit="micro-batches"))  # fmt: skip


@number("4.6")
@weight(2.25)
def test_a_run_is_one_process_to_the_last_partial_micro_batch(student, rng):
    """Losses and gradients in float64 under both schedules, from what crossed between the stages."""
    for stages, rows in ((1, [2, 1]), (2, [2, 2, 2, 1]), (3, [3, 3, 1]), (4, [1] * 6), (4, [2, 1])):
        config = sizes(num_layers=max(3, stages), hidden_size=12, num_heads=2, intermediate_size=10)
        state, batches = random_state(rng, config), [make_batch(rng, config, rows, 4)]
        for name, schedule in committed_schedules(stages, len(rows)).items():
            group = student.group(
                stages, drivers.run_stage, config=config,
                each=arguments(config, state, schedule, batches),
            )  # fmt: skip
            check_run(group, config, state, batches, f"{name}, micro-batches of {rows} rows")


@number("4.6")
@weight(1.5)
def test_the_switch_sees_one_forward_one_backward(student, rng):
    """Every receive and send of each rank, in order, with its tag and bytes; nothing more crosses; and
    what it is for comes out of it."""
    for stages, rows in ((2, [1] * 5), (3, [2, 2, 2, 2, 1]), (4, [1] * 7), (4, [2, 1])):
        config = sizes(num_layers=stages, hidden_size=8, num_heads=2, intermediate_size=6)
        state, batches = random_state(rng, config), [make_batch(rng, config, rows, 3)] * 2
        for name, schedule in committed_schedules(stages, len(rows)).items():
            group = student.group(
                stages, drivers.run_stage, config=config,
                each=arguments(config, state, schedule, batches),
            )  # fmt: skip
            text = f"{name}, {stages} stages"
            check_run(group, config, state, batches, text)
            check_events(group, schedule, batches, 8 * 8, text)
            sent = np.zeros((stages, stages), np.int64)
            for rank in range(stages - 1):
                sent[rank, rank + 1] = sent[rank + 1, rank] = 2 * sum(rows) * 3 * 8 * 8
            assert (group.sent == sent).all(), f"{name}: bytes {group.sent.tolist()}"


@number("4.6")
@weight(0.5)
@reported_by_worker
def test_no_more_is_held_than_is_in_flight(student, rng):
    """Of 1F1B: saved tensors, inputs, outputs and messages of a micro-batch are gone after its
    backward."""
    for stages, count in ((2, 6), (3, 7)):
        check_memory(student, rng, committed_schedules(stages, count)["1F1B"])
