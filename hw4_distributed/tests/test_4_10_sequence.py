"""Task 4.10: ring attention and experts against one process, and what crosses the switch."""

from __future__ import annotations

import drivers_sequence as drivers
import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight
from sequence_cases import (
    WIDTH,
    attention_case,
    check_balance,
    check_large,
    check_routes,
    chunk_of,
    mixture_case,
    run_attentions,
    run_mixtures,
)
from traffic import in_words

from autograder.testing import Measure, reported_by_worker

WORLDS = (1, 2, 3, 4)


@number("4.10")
@weight(1)
def test_ring_attention_is_attention_of_the_whole_sequence(student, rng):
    """Output and gradients in float64, causal and not, worlds of 1 to 4; bytes to the byte."""
    for size in WORLDS:
        chunk = int(rng.integers(2, 6))
        cases = [
            attention_case(rng, size, chunk, True),
            attention_case(rng, size, chunk, False),
            attention_case(rng, size, 1, True, transposed=True),
            attention_case(rng, size, chunk, True, "float32", transposed=True),
        ]
        group = run_attentions(student, drivers.ring_attentions, cases, size)
    # Of the last world, by the switch: keys, values and their gradients, each as large as a query.
    once = sum(chunk_of(case, 0)["query"].size * WIDTH[case["dtype"]] for case in cases)
    sent = float(group.sent.sum(axis=1).max()) / once
    student.measure(
        Measure(name="chunks a rank of 4 sends, forward and backward", value=sent, unit="chunks")
    )


@number("4.10")
@weight(0.4)
def test_scores_of_ten_thousand(student, rng):
    """exp of anything over 709 is inf: the largest score so far goes off first, on every chunk."""
    for size in (2, 4):
        cases = [attention_case(rng, size, 4, causal, largest=1e4) for causal in (True, False)]
        far = attention_case(rng, size, 4, False)
        far["key"][:, :, -4:] *= 3000.0  # the last chunk's scores are the largest and the smallest
        run_attentions(student, drivers.ring_attentions, [*cases, far], size)


@number("4.10")
@weight(0.3)
@reported_by_worker
def test_one_visiting_chunk_is_held_and_hidden_ones_are_not_computed(student, rng):
    """Six ranks: received memory that is still held, and the matrix products of each rank."""
    size, chunk = 6, 8
    case = attention_case(rng, size, chunk, True)
    group = student.group(
        size, drivers.attention_costs, each=[{"case": chunk_of(case, r)} for r in range(size)]
    )
    bytes_ = case["query"][:, :, :chunk].nbytes
    products = 2 * case["query"][:, :, :chunk].size * chunk  # one (time, width) by (width, time)
    held = max(found["forward"]["held"] for found in group.results)
    student.measure(
        Measure(
            name="chunks that came and are held by one rank of six, forward",
            value=held / bytes_,
            unit="chunks",
            source="worker-reported",
        )
    )
    for rank, found in enumerate(group.results):
        for way, most, each in (("forward", 4, 2), ("backward", 8, 5)):
            held, flops = found[way]["held"], found[way]["flops"]
            assert held <= most * bytes_, (
                f"{way}: rank {rank} of {size} holds {held / bytes_:.1f} chunks that came, at "
                f"once, {most} are enough (keys are one, values are one, their gradients too)\nhint: let go"
                " of a chunk as soon as it is passed on; a name that still stands for one of an earlier"
                " step, computed with or not, holds it"
            )
            assert 0 < flops <= (rank + 1) * each * products, (
                f"{way}: rank {rank} of {size} does {flops:,} operations, {rank + 1} chunks of its "
                f"own and before need {(rank + 1) * each * products:,}\nhint: later chunks are hidden"
            )
        assert found["left"] == 0, (
            f"rank {rank} keeps {found['left']:,} bytes of others' chunks from forward to backward"
            "\nhint: save your own, and let the others come round again"
        )


@number("4.10")
@weight(0.8)
def test_memory_does_not_grow_with_the_ring(student, rng):
    """Two ranks and six, chunks of 2 MB: the most that a rank ever held, by the kernel's account.

    The reference holds 13 chunks at most in either, those of its leaves and gradients included; the
    account is off by less than one. All keys and values of six ranks are 8 more than those of two,
    before anything is computed with them.
    """
    seed, shape = int(rng.integers(1 << 30)), (1, 1, 32, 16_384)
    small = student.group(2, drivers.large_attention, seed=seed, shape=(1, 1, 8, 8))
    # What torch and the package take when they are used, 24 MB; no more is allowed for.
    own = min(max(small.peak_bytes), min(small.start_bytes) + (48 << 20))
    chunks = {}
    for size in (2, 6):
        group = student.group(size, drivers.large_attention, seed=seed, shape=shape)
        check_large(group.results, seed, shape, f"{in_words(size)}, chunks of 2 MB")
        chunks[size] = (max(group.peak_bytes) - own) / (4 * np.prod(shape))
    student.measure(
        Measure(name="memory of one rank of six, in chunks of 2 MB", value=chunks[6], unit="chunks")
    )
    assert chunks[6] - chunks[2] <= 4, (
        f"a rank of two needs memory for {chunks[2]:.1f} chunks (of keys, or of values), one of six for "
        f"{chunks[6]:.1f}\nhint: a rank holds its own chunks and those that visit, however many ranks "
        "there are: neither gather them nor keep them for backward"
    )
    assert max(chunks.values()) <= 18, (
        f"a rank needs memory for {max(chunks.values()):.1f} chunks (of keys, or of values), 18 are "
        "enough: queries, keys, values, output, their gradients, what visits and what comes next"
    )


@number("4.10")
@weight(1.4)
def test_experts_on_ranks_are_experts_in_one_process(student, rng):
    """Outputs, all gradients, and rows moved = rows routed, for uneven tokens and experts."""
    for size in WORLDS:
        tokens = rng.integers(1, 9, size).tolist()
        cases = [
            mixture_case(rng, tokens, 5, 2),
            mixture_case(rng, tokens, size + 1, 1),
            mixture_case(rng, tokens[::-1], 4, 4),
            mixture_case(rng, tokens, 6, 3, kind="ties"),
        ]
        routed, sent = run_mixtures(student, drivers.mixtures, cases)
    if routed:  # of the last world; every token may have found its experts at home
        student.measure(
            Measure(name="rows sent forward, there and back, for each routed elsewhere",
                    value=sent / routed)
        )  # fmt: skip


@number("4.10")
@weight(0.6)
def test_experts_and_ranks_that_get_nothing(student, rng):
    """All tokens to one expert, none to a rank, a rank without tokens, ranks without experts."""
    for size in (2, 4):
        tokens = rng.integers(1, 6, size).tolist()
        idle = [0, *tokens[1:]]
        cases = [
            mixture_case(rng, tokens, 5, 1, kind="one expert"),
            mixture_case(rng, tokens, 6, 2, kind="not rank 0"),
            mixture_case(rng, idle, 5, 2),
            mixture_case(rng, tokens, size - 1, 1),  # the last rank has no expert
        ]
        run_mixtures(student, drivers.mixtures, cases)


@number("4.10")
@weight(0.5)
def test_routes_and_the_balance_loss(student, rng):
    """Ties go to the lower expert; weights are a softmax over those chosen; gradients of both."""
    cases, losses = [], []
    for top_k in (1, 2, 6):
        logits = rng.integers(-2, 3, (9, 6)).astype(np.float64)
        cases.append(
            {"logits": logits, "top_k": top_k, "upstream": rng.standard_normal((9, top_k))}
        )
        chosen = rng.integers(0, 6, (9, top_k))
        losses.append({"logits": logits, "chosen": chosen, "scale": 0.3})
    losses.append({"logits": np.zeros((6, 3)), "chosen": np.arange(6)[:, None] % 3, "scale": 1.0})
    for case, found in zip(cases, student.run(drivers.routes, cases=cases), strict=True):
        check_routes(case, found)
    for case, found in zip(losses, student.run(drivers.balance_losses, cases=losses), strict=True):
        check_balance(case, found)
