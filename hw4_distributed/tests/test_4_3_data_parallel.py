"""Task 4.3: data parallelism: one process on the whole batch, buckets as the switch saw them."""

from __future__ import annotations

import drivers_data_parallel as drivers
import numpy as np
from data_parallel_cases import (
    check_gradients,
    check_messages,
    draw_batches,
    expected_buckets,
    one_process,
    start_bytes,
)
from drivers_models import build_module
from gradescope_utils.autograder_utils.decorators import number, weight
from traffic import around, if_ranks_disagree, in_words, pieces, sent_bytes

from autograder.testing import Measure, assert_equal, reported_by_worker

ORDER = (
    "two ranks sent their buckets in different orders, or one left a bucket out: their branches fill "
    "buckets in different orders, so a full one has to wait for those with a smaller index, and "
    "finish() sends what is left, with zeros for what this rank did not use"
)


def _run(student, batches, kind, seed, bucket_bytes, **options):
    """Every rank starts with other weights; rank 0's count."""
    each = [{"batches": mine, "seed": seed + 11 * rank} for rank, mine in enumerate(batches)]
    return student.group(
        len(batches), drivers.gradients, each=each, kind=kind, bucket_bytes=bucket_bytes, **options
    )


@number("4.3")
@weight(1.5)
def test_gradients_are_those_of_one_process_on_all_batches(student, rng):
    """Two steps on worlds of 1 to 4, all starting as rank 0, buffers too; the same bits everywhere."""
    for size, kind in ((1, "wide"), (2, "buffers"), (3, "wide"), (4, "wide")):
        seed, batches = int(rng.integers(1, 1000)), draw_batches(rng, size, 2)
        group = _run(student, batches, kind, seed, 300)
        check_gradients(group.results, one_process(kind, seed, batches), f"{in_words(size)}, {kind}")
        wanted = build_module(kind, seed).state_dict()
        for rank, result in enumerate(group.results):
            for name, value in wanted.items():
                assert_equal(result["start"][name]["value"], value.numpy(), name=f"{name} at the "
                             f"start on rank {rank} of {size}",
                             hint="rank 0's parameters and buffers, broadcast")  # fmt: skip


@number("4.3")
@weight(1)
def test_one_collective_for_each_bucket(student, rng):
    """A bucket for each parameter, a few, one for all: their messages, in order, and no others."""
    for size, bucket_bytes in ((2, 1), (3, 120), (3, 700), (4, 1 << 20), (1, 1)):
        seed, batches = int(rng.integers(1, 1000)), draw_batches(rng, size, 2)
        group = _run(student, batches, "wide", seed, bucket_bytes)
        buckets = expected_buckets("wide", bucket_bytes)
        text = f"{in_words(size)}, bucket_bytes {bucket_bytes}"
        start, *steps, rest = pieces(group, size, 3)
        once = around([start_bytes("wide") * (rank < size - 1) for rank in range(size)])
        assert_equal(sent_bytes(start), once, name=f"{text}: bytes sent before the first step",
                     hint="rank 0's parameters and buffers go around once")  # fmt: skip
        for step in steps:
            check_messages(step, buckets, text)
        assert not any(rest), f"{text}: something was sent after the last step"
        check_gradients(group.results, one_process("wide", seed, batches), text)
        if size == 3 and bucket_bytes == 700:
            value = sum(len(events) for events in steps[0]) / (3 * 4 * len(buckets))
            student.measure(Measure(name="collectives / buckets", value=value))


@number("4.3")
@weight(1.25)
def test_a_parameter_unused_on_one_rank_counts_as_zero(student, rng):
    """Ranks that use other branches: the same gradients, zeros for what nobody used, no deadlock."""
    uses = [["left", "right", "left right"], ["right headless", "left", "left"], ["left"] * 3]
    for size in (1, 2, 3):
        seed = int(rng.integers(1, 1000))
        batches = draw_batches(rng, size, 3, uses=[row[:size] for row in uses])
        for bucket_bytes in (1, 200):
            with if_ranks_disagree(ORDER):
                group = _run(student, batches, "branches", seed, bucket_bytes, timeout=10)
            text = f"{in_words(size)} with branches, bucket_bytes {bucket_bytes}"
            check_gradients(group.results, one_process("branches", seed, batches), text)
            buckets = expected_buckets("branches", bucket_bytes)
            for step in pieces(group, size, 4)[1:4]:
                check_messages(step, buckets, text)


@number("4.3")
@weight(1)
def test_tied_weights_travel_once_and_frozen_ones_never(student, rng):
    """A weight used twice is in one bucket and averaged once; a frozen one has no gradient."""
    for size in (2, 3):
        for bucket_bytes in (1, 600):
            seed, batches = int(rng.integers(1, 1000)), draw_batches(rng, size, 2)
            group = _run(student, batches, "tied", seed, bucket_bytes)
            text = f"tied and frozen weights, {in_words(size)}, bucket_bytes {bucket_bytes}"
            for step in pieces(group, size, 3)[1:3]:
                check_messages(step, expected_buckets("tied", bucket_bytes), text)
            check_gradients(group.results, one_process("tied", seed, batches), text)


@number("4.3")
@weight(1.25)
def test_no_sync_sends_nothing_and_adds_up_to_one_big_batch(student, rng):
    """Three micro-batches, two of them in no_sync, twice: the sums of gradients, sent once each."""
    for size in (1, 2, 4):
        seed = int(rng.integers(1, 1000))
        batches = draw_batches(rng, size, 6, accumulate=(0, 1, 3, 4))
        group = _run(student, batches, "wide", seed, 300)
        text = f"{in_words(size)}, three micro-batches"
        check_gradients(group.results, one_process("wide", seed, batches), text)
        steps = pieces(group, size, 7)[1:7]
        for place, step in enumerate(steps):
            if place in (2, 5):
                check_messages(step, expected_buckets("wide", 300), text)
            else:
                assert not any(step), f"{text}: micro-batch {place}, in no_sync, sent something"
    batches = draw_batches(rng, 2, 2)
    group = student.group(2, drivers.second_backward, each=[{"batches": mine} for mine in batches],
                          seed=7, bucket_bytes=1)  # fmt: skip
    check_gradients(group.results, one_process("chain", 7, [mine[:1] for mine in batches]), "2 ranks")
    for rank, result in enumerate(group.results):
        assert result["error"] == "RuntimeError", (
            f"rank {rank}: a second backward before finish(), not in no_sync, raised "
            f"{result['error']}, expected a RuntimeError: the buckets have gone, what it adds is lost"
        )


def _check_gone(group, size, layers, after):
    """Before each layer's gradient came, the buckets of all later layers had gone."""
    for rank in range(size):
        gone, noted, barriers = 0, [], 0
        for event in group.events_of(rank):
            barriers += event.kind == "barrier"
            gone += event.kind == "send" and barriers > 0
            if event.kind == "note":
                noted.append((event.text, gone))
        wanted = [(f"layer {i}", 2 * (size - 1) * (layers - 1 - i)) for i in reversed(range(layers))]
        order = [text for text, _ in noted]
        assert order == [text for text, _ in wanted] + ["backward is over"], (
            f"rank {rank} of {size}: gradients came as {order}, not from the last layer to the first"
        )
        for (text, count), (_, least) in zip(noted, wanted, strict=False):
            assert count >= least, (
                f"rank {rank} of {size}: when the gradient of {text} came, {count} messages had "
                f"gone, expected {least}: the buckets of all later layers were full by then. {after}"
            )


def _check_not_waited_for(student, batches, bucket_bytes, buckets):
    """With messages that take 0.1 s each, backward is over before all of them have gone."""
    group = student.group(
        2, drivers.in_the_background, each=[{"batches": mine} for mine in batches], seed=5,
        bucket_bytes=bucket_bytes, slow={0: 0.1, 1: 0.1},
    )  # fmt: skip
    check_messages(pieces(group, 2, 1)[1], buckets, "2 ranks, late messages")
    check_gradients([{"after": [result]} for result in group.results],
                    one_process("chain", 5, batches), "2 ranks, late messages")  # fmt: skip
    for rank in range(2):
        kinds = [event.kind for event in group.events_of(rank)]
        before = kinds[kinds.index("barrier") : kinds.index("note")].count("send")
        # Each of a ring's messages but the first waits for one that takes 0.1 s: 0.7 s for all eight.
        assert before < 2 * len(buckets), (
            f"rank {rank} of 2: every message takes 0.1 s, and yet all {before} had gone when backward "
            "was over: it has waited for them. Hand a bucket to `background` and go on: the place to "
            "wait for it is finish()"
        )


@number("4.3")
@reported_by_worker
@weight(1.25)
def test_buckets_leave_while_backward_still_runs(student, rng):
    """A layer's backward waits until the buckets of all later layers have gone: they do go. And
    backward does not wait for messages that are late.

    Also after a block of no_sync, and after one that an exception has left.
    """
    bucket_bytes = 8 * (8 * 8 + 8)  # one layer of the chain in float64
    buckets = expected_buckets("chain", bucket_bytes)
    assert [count for count, _ in buckets] == [72] * 4, "the test wants a bucket for each layer"
    for size in (2, 3):
        batches = draw_batches(rng, size, 2, accumulate=(0,))
        group = student.group(
            size, drivers.overlapped, each=[{"batches": mine} for mine in batches], seed=5,
            bucket_bytes=bucket_bytes, raising=size == 3,
        )  # fmt: skip
        results = [{"after": [result]} for result in group.results]
        check_gradients(results, one_process("chain", 5, batches), f"{in_words(size)}, overlapped")
        after = "Launch a bucket from the hook of its last gradient, in the background"
        if size == 3:
            after = (
                "An exception left no_sync before: whatever ends it must run then too (`finally`); "
                "without an exception, on 2 ranks, they did go"
            )
        _check_gone(group, size, len(buckets), after)
        check_messages(pieces(group, size, 1)[1], buckets, f"{in_words(size)}, overlapped")
    _check_not_waited_for(student, draw_batches(rng, 2, 1), bucket_bytes, buckets)
