"""Task 4.3, hidden: small floats, mixed types, late ranks, other reducers, misuse, training."""

from __future__ import annotations

import drivers_data_parallel as drivers
import numpy as np
from data_parallel_cases import (
    HINT,
    check_gradients,
    check_messages,
    check_small_floats,
    draw_batches,
    expected_buckets,
    one_process,
    trained_alone,
)
from drivers_models import build_module
from gradescope_utils.autograder_utils.decorators import number, weight
from traffic import pieces

from autograder.testing import assert_close, assert_equal


def _each(batches, seed):
    return [{"batches": mine, "seed": seed + 7 * rank} for rank, mine in enumerate(batches)]


@number("4.3")
@weight(0.75)
def test_small_floats_and_mixed_types(student, rng):
    """bfloat16 and float32 gradients travel in their type; a bucket holds one type only."""
    for size, dtype in ((3, "bfloat16"), (2, "float32")):
        seed, batches = int(rng.integers(1, 1000)), draw_batches(rng, size, 1)
        group = student.group(size, drivers.gradients, each=_each(batches, seed), kind="wide",
                              bucket_bytes=150, dtype=dtype)  # fmt: skip
        check_small_floats(group.results, "wide", seed, batches, dtype)
        check_messages(pieces(group, size, 2)[1], expected_buckets("wide", 150, dtype), dtype)
    seed, batches = int(rng.integers(1, 1000)), draw_batches(rng, 2, 2)
    for bucket_bytes in (1, 1 << 20):
        group = student.group(2, drivers.gradients, each=_each(batches, seed), kind="mixed",
                              bucket_bytes=bucket_bytes)  # fmt: skip
        buckets = expected_buckets("mixed", bucket_bytes)
        for step in pieces(group, 2, 3)[1:3]:
            check_messages(step, buckets, f"float64 and float32 layers, {len(buckets)} buckets")
        # Through the float32 layer: 2^-24 and a few operations, against a float64 oracle.
        check_gradients(group.results, one_process("mixed", seed, batches), "mixed types", 2e-5)


@number("4.3")
@weight(1)
def test_late_ranks_other_orders_and_kept_gradients(student, rng):
    """Branches run in another order on each rank, one rank late, .grad kept, zeroed or set to None."""
    uses = [["left right", "right left", "left", "right headless"],
            ["right left", "left right", "right", "left right"],
            ["left headless", "right headless", "left right", "left"],
            ["right", "right left", "right headless", "right"]]  # fmt: skip
    for size, slow, clear in (
        (2, {}, "zero"), (2, {0: 0.003}, "keep"), (3, {1: 0.003}, "keep"), (4, {0: 0.002}, "zero"),
        (4, {1: 0.002, 2: 0.001}, "none"),
    ):  # fmt: skip
        seed = int(rng.integers(1, 1000))
        batches = draw_batches(rng, size, 4, uses=[row[:size] for row in uses], accumulate=(1,))
        bucket_bytes = int(rng.choice([1, 100, 300]))
        group = student.group(
            size, drivers.gradients, each=_each(batches, seed), kind="branches", slow=slow,
            bucket_bytes=bucket_bytes, clear=clear, timeout=20,
        )  # fmt: skip
        text = f"{size} ranks, .grad {clear}, bucket_bytes {bucket_bytes}"
        wanted = one_process("branches", seed, batches, keep=clear == "keep")
        check_gradients(group.results, wanted, text)
        steps = pieces(group, size, 5)[1:5]
        assert not any(steps[1]), f"{text}: no_sync sent something"
        for step in (steps[0], *steps[2:]):
            check_messages(step, expected_buckets("branches", bucket_bytes), text)


@number("4.3")
@weight(1)
def test_any_reducer_is_called_once_a_bucket_in_order(student, rng):
    """A reducer of the test's own decides what the gradients become."""
    size, seed, factor = 3, int(rng.integers(1, 1000)), float(rng.uniform(2, 3))
    batches = draw_batches(rng, size, 2)
    each = [{"batches": mine, "seed": seed} for mine in batches]
    for bucket_bytes in (1, 400):
        group = student.group(size, drivers.reduced_by, each=each, bucket_bytes=bucket_bytes,
                              factor=factor)  # fmt: skip
        alone = one_process("wide", seed, batches[:1])
        wanted = [
            {name: None if g is None else factor * g for name, g in step.items()} for step in alone
        ]
        check_gradients(group.results, wanted, "a reducer that takes rank 0's gradients")
        buckets = expected_buckets("wide", bucket_bytes)
        for rank, result in enumerate(group.results):
            calls = [call[:2] for call in result["calls"]]
            expected = [[place, count] for place, (count, _) in enumerate(buckets)] * 2
            assert_equal(calls, expected, name=f"[index, elements] of rank {rank}'s reducer calls")


@number("4.3")
@weight(1)
def test_misuse_and_trouble_are_told(student, rng):
    """A second backward before finish, a reducer that raises, a module that is frozen."""
    batches = draw_batches(rng, 2, 1)
    each = [{"x": mine[0]["x"], "y": mine[0]["y"]} for mine in batches]
    group = student.group(2, drivers.misused, each=each, seed=3, timeout=10)
    for rank, result in enumerate(group.results):
        assert result["second backward"] == "RuntimeError", (
            f"rank {rank}: a second backward before finish() raised {result['second backward']}: its "
            "gradients come after the buckets have gone, and would be lost in silence"
        )
        assert "the reducer is broken" in result["broken reducer"], (
            f"rank {rank}: finish() must raise what a reducer raised; got {result['broken reducer']}"
        )
        assert result["buckets of a frozen module"] == 0, "a frozen module has no buckets"


@number("4.3")
@weight(1)
def test_training_follows_one_process(student, rng):
    """Five steps of AdamW on every kind of module end where one process ends; buffers are rank 0's."""
    for kind, size in (("tied", 3), ("buffers", 2), ("one", 4), ("wide", 4)):
        seed, batches = int(rng.integers(1, 1000)), draw_batches(rng, size, 5)
        group = student.group(size, drivers.trained, each=_each(batches, seed), kind=kind,
                              bucket_bytes=200, lr=0.02)  # fmt: skip
        alone = trained_alone(kind, seed, batches, 0.02)
        before = build_module(kind, seed).state_dict()
        moved = max(float(np.abs(alone[n] - before[n].numpy()).max()) for n in alone)
        assert moved > 0.05, "the oracle did not train"
        for rank, result in enumerate(group.results):
            for name, value in alone.items():
                # AdamW divides by the root of squared gradients: relative errors pass through, so
                # five steps of lr 0.02 are off by 5 · 0.02 · 1e-9 where gradients are by 1e-9. Near
                # a gradient of 0 the quotient amplifies by at most 1 / eps: 1e-16 / 1e-8 a step.
                assert_close(result[name]["value"], value, rtol=1e-7, atol=1e-8, hint=HINT,
                             name=f"{name} of {kind} after five steps, rank {rank} of {size}")  # fmt: skip
                assert_equal(result[name]["value"], group.results[0][name]["value"],
                             name=f"{name}, rank {rank} against 0")  # fmt: skip
