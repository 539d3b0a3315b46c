"""Task 4.6, hidden: any runnable schedule, what is held, stages without layers, misuse."""

from __future__ import annotations

import drivers_pipeline as drivers
from gradescope_utils.autograder_utils.decorators import number, weight
from llama_cases import random_state, sizes
from pipeline_cases import (
    arguments,
    check_events,
    check_memory,
    check_run,
    make_batch,
    random_order,
)
from pipeline_oracle import gpipe_order, greedy_1f1b

from autograder.testing import reported_by_worker


@number("4.6")
@weight(1.75)
def test_any_schedule_that_runs_is_followed(student, rng):
    """Random orders, of forwards and backwards both, float32 and float64, late ranks."""
    for stages, count, dtype, slow in (
        (3, 4, "float64", {1: 0.002}), (4, 5, "float32", {}), (2, 6, "float32", {0: 0.001}),
        (3, 5, "float64", {}),
    ):  # fmt: skip
        config = sizes(num_layers=stages + 1, hidden_size=12, num_heads=3, intermediate_size=7)
        rows = [int(n) for n in rng.integers(1, 4, count)]
        state, batches = random_state(rng, config), [make_batch(rng, config, rows, 3)]
        schedule = random_order(rng, stages, count)
        group = student.group(
            stages, drivers.run_stage, each=arguments(config, state, schedule, batches),
            slow=slow, config=config, dtype=dtype,
        )  # fmt: skip
        text = f"a random order, {stages} stages, micro-batches of {rows} rows"
        check_run(group, config, state, batches, text, dtype)
        check_events(group, schedule, batches, 12 * (8 if dtype == "float64" else 4), text)


@number("4.6")
@weight(0.75)
@reported_by_worker
def test_nothing_of_a_micro_batch_outlives_its_backward(student, rng):
    """Saved tensors, inputs, outputs and messages: alive for as many as are in flight, then none."""
    for schedule in (
        greedy_1f1b(1, 4), greedy_1f1b(2, 5), greedy_1f1b(4, 6), gpipe_order(3, 4),
    ):  # fmt: skip
        check_memory(student, rng, schedule)


@number("4.6")
@weight(1.25)
def test_frozen_and_empty_stages_and_batches_that_add_up(student, rng):
    """More stages than layers; a first stage that trains nothing; gradients added to those there."""
    config = sizes(num_layers=2, hidden_size=8, num_heads=2, intermediate_size=6)
    state = random_state(rng, config)
    batches = [make_batch(rng, config, [2, 2, 1], 3), make_batch(rng, config, [1, 3, 2], 4)]
    block = [name for name in state if name.startswith("blocks.0.")]
    for stages, frozen in (
        (4, []), (2, ["embedding.weight", *block]), (1, ["head.weight", "norm.weight"]),
        (3, ["embedding.weight", "blocks.1.ffn.up.weight", "head.weight"]),
    ):  # fmt: skip
        schedule = greedy_1f1b(stages, 3)
        group = student.group(
            stages, drivers.run_stage, each=arguments(config, state, schedule, batches),
            config=config, frozen=frozen,
        )  # fmt: skip
        text = f"{stages} stages, frozen {frozen}"
        check_run(group, config, state, batches, text, frozen=frozen)
        check_events(group, schedule, batches, 8 * 8, text)


@number("4.6")
@weight(0.75)
def test_large_pipes_and_misuse(student, rng):
    """48 stages and 200 micro-batches; no stages; actions that are not those of the inputs."""
    shapes = [(48, 200), (64, 5), (1, 300), (7, 7), (2, 1), (1, 1), (17, 16)]
    cases = [
        {"kind": kind, "stages": p, "microbatches": m}
        for p, m in shapes
        for kind in ("1f1b", "gpipe")
    ]
    makers = {"1f1b": greedy_1f1b, "gpipe": gpipe_order}
    for case, got in zip(cases, student.run_cases(drivers.schedules, cases, str), strict=True):
        assert got == makers[case["kind"]](case["stages"], case["microbatches"]), f"wrong: {case}"
    bad = [{"kind": kind, "stages": p, "microbatches": m}
           for kind in makers for p, m in ((0, 3), (3, 0), (-1, 2), (2, -4))]  # fmt: skip
    errors = student.run_cases(drivers.schedules, bad, str)
    assert errors == ["ValueError"] * len(bad), f"pipes of 0 and fewer: {errors}"

    config = sizes(num_layers=2, hidden_size=8, num_heads=2, intermediate_size=6)
    state, batch = random_state(rng, config), make_batch(rng, config, [1, 1], 3)
    cases = [{"actions": text.split(), **batch} for text in
             ("F0 B0", "F0 F1 B0", "B0 F0 F1 B1", "F0 F1 F2 B0 B1 B2", "F0 F0 B0 B0")]  # fmt: skip
    group = student.group(2, drivers.errors_of_runs, config=config, state=state, cases=cases)
    assert group.results == [["ValueError"] * len(cases)] * 2, f"{group.results}"
    assert group.messages.sum() == 0, "something was sent by runs that can't be right"
