"""Task 4.4, hidden: small floats, tied and frozen weights, micro-batches, late and idle ranks."""

from __future__ import annotations

import drivers_zero as drivers
import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight
from zero_cases import (
    batches_with,
    check_parameters,
    check_small_floats,
    moved,
    random_uses,
    stage_three_units,
    train_alone,
    train_small_floats,
)

from autograder.testing import assert_close, reported_by_worker


def _train(student, kind, seed, stage, batches, **more):
    each = [{"batches": mine} for mine in batches]
    return student.group(len(batches), drivers.train, each=each, kind=kind, seed=seed, stage=stage,
                         timeout=20, **more)  # fmt: skip


@number("4.4")
@weight(1)
def test_small_floats_keep_a_float32_master(student, rng):
    """bfloat16 weights: ten small steps add up in the float32 shards; two bytes an element gathered."""
    options = {"lr": 1e-3, "weight_decay": 0.0}
    for size, stage, kind in ((2, 1, "wide"), (3, 2, "wide"), (3, 3, "stack")):
        seed, batches = int(rng.integers(1, 1000)), batches_with(rng, size, 1, "gate")
        batches = [mine * 10 for mine in batches]
        wanted = train_small_floats(kind, seed, batches, "bfloat16", options)
        group = _train(student, kind, seed, stage, batches, dtype="bfloat16", options=options)
        check_small_floats(group, kind, wanted, stage, size, 10)


@number("4.4")
@weight(1)
def test_tied_and_frozen_weights_and_micro_batches(student, rng):
    """Weights shared by blocks and by what is outside; two backwards a step, each one finished."""
    options = {"lr": 0.02, "betas": [0.8, 0.95], "weight_decay": 0.3}
    for size, stage in ((1, 3), (2, 2), (3, 3), (4, 1)):
        seed = int(rng.integers(1, 1000))
        batches = batches_with(rng, size, 6, "gate", accumulate=(0, 2, 4))
        plain = {**options, "betas": tuple(options["betas"])}
        wanted, _ = train_alone("tied stack", seed, batches, plain)
        assert moved("tied stack", seed, wanted) > 0.02, "the oracle did not train"
        group = _train(student, "tied stack", seed, stage, batches, options=options)
        check_parameters(group.results, wanted, f"tied and frozen, stage {stage}, {size} ranks")


@number("4.4")
@weight(1)
def test_late_ranks_and_ranks_with_nothing(student, rng):
    """Messages that come late; in stages 1 and 2 a rank whose batch brings no gradient at all."""
    options = {"lr": 0.02}
    for size, stage, kind, words, slow in (
        (3, 2, "branches", ["nothing", "left", "right headless"], {1: 0.002}),
        (2, 2, "branches", ["nothing", "left right"], {}),
        (2, 1, "branches", ["right", "nothing"], {0: 0.002}),
        (4, 3, "stack", ["gate", "headless", "plain"], {2: 0.002}),
    ):
        seed = int(rng.integers(1, 1000))
        uses = random_uses(rng, size, 4, words)
        batches = batches_with(rng, size, 4, uses, accumulate=(1,))
        wanted, _ = train_alone(kind, seed, batches, options, 1.5)
        group = _train(student, kind, seed, stage, batches, options=options, unit_bytes=100,
                       max_norm=1.5, slow=slow)  # fmt: skip
        check_parameters(group.results, wanted, f"stage {stage}, {size} ranks that use {uses}")


@number("4.4")
@reported_by_worker
@weight(1)
def test_blocks_are_there_only_while_they_are_used(student, rng):
    """Stage 3 with tied weights: exactly the outer unit and one block, in forward and in backward."""
    for kind, size in (("tied stack", 2), ("stack", 4), ("stack", 1)):
        batches = batches_with(rng, size, 2, "gate")
        each = [{"batches": mine} for mine in batches]
        group = student.group(size, drivers.held_by_blocks, each=each, kind=kind, seed=3)
        wanted, _ = train_alone(kind, 3, batches, {"lr": 1e-3})
        check_parameters(group.results, wanted, f"{kind}, {size} ranks")
        blocks, outer = stage_three_units(kind)
        for rank, result in enumerate(group.results):
            seen = [where for where, _ in result["held"]]
            assert seen.count("backward 0") == 2 and seen.count("forward 2") == 3, seen
            for where, held in result["held"]:
                place = where.split()[-1]
                wanted = 8 * (outer + blocks[int(place)]) if place.isdigit() else 0
                assert held == wanted, (
                    f"{kind}, rank {rank} of {size}, {where}: {held} bytes of parameters are there, "
                    f"expected {wanted}"
                )


@number("4.4")
@weight(0.75)
def test_float32_and_misuse(student, rng):
    """float32 within its bound; several types in a unit, no such stage, a backward not finished."""
    # float32 gradients are off by some 1e-6 of the largest; with eps = 1e-3 a step is off by at most
    # lr · 1e-6 · |g| / eps, 2e-5 · |g| at lr 0.02, and the gradients here are below 5.
    options = {"lr": 0.02, "eps": 1e-3}
    for size, stage, kind in ((3, 2, "wide"), (2, 3, "stack")):
        seed, batches = int(rng.integers(1, 1000)), batches_with(rng, size, 3, "gate")
        wanted, _ = train_alone(kind, seed, batches, options)
        group = _train(student, kind, seed, stage, batches, options=options, dtype="float32")
        text = f"float32, stage {stage}, {size} ranks"
        for name, value in wanted.items():
            got = group.results[0]["parameters"][name]
            assert got["dtype"] == "float32", f"{text}: {name} became {got['dtype']}"
            assert_close(got["value"], value, rtol=1e-4, atol=3e-4, name=f"{text}: {name}")
    batch = batches_with(rng, 1, 1, "gate")[0][0]
    found = student.group(2, drivers.misused, seed=3, batch=batch).results
    for rank, result in enumerate(found):
        assert result == {"types": "ValueError", "stage": "ValueError",
                          "second backward": "RuntimeError"}, (
            f"rank {rank}: {result}; a second backward of stage 2 without finish_backward must raise "
            "a RuntimeError: its gradients would be lost"
        )  # fmt: skip
