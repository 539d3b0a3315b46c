"""Task 4.7: top-k with error feedback: every value against an exact oracle, every byte counted."""

from __future__ import annotations

import drivers_compression as drivers
import numpy as np
from compression_cases import (
    blocks_of,
    check_each_piece,
    check_largest,
    check_sent,
    dense,
    each_of,
    kept,
    largest_alone,
    loss_of,
    network_problem,
    same_on_all,
    train_here,
    whole_numbers,
)
from gradescope_utils.autograder_utils.decorators import number, weight
from traffic import all_reduce_bytes, around, in_words

from autograder.testing import Measure, assert_close, assert_equal


@number("4.7")
@weight(0.6)
def test_the_largest_and_of_equals_the_lower_place(student, rng):
    """Places by magnitude, in rising order; ties, all equal, fewer elements than asked for."""
    values = [rng.standard_normal(200), rng.integers(-3, 4, 300), np.zeros(50), np.full(40, -2.0),
              np.array([0.0, -0.0, 5.0, -5.0, 5.0]), rng.standard_normal(7), np.ones(1)]  # fmt: skip
    values = [np.asarray(v, np.float32) for v in values]
    counts = [20, 110, 7, 13, 2, 9, 1]
    got = student.run(drivers.largest_places, values=values, counts=counts)
    for own, count, places in zip(values, counts, got, strict=True):
        check_largest(own, count, places, f"the {count} largest places of {len(own)} elements")


@number("4.7")
@weight(0.75)
def test_everything_sent_is_the_dense_mean(student, rng):
    """With fraction 1 each step gives the mean of that step's gradients, and nothing is left."""
    for size in (1, 2, 3, 4):
        steps = [[[rng.standard_normal(n).astype(np.float32) for _ in range(size)] for n in (37, 5)]
                 for _ in range(3)]  # fmt: skip
        group = student.group(
            size, drivers.reduce_steps, each=each_of(steps), kind="top k", options={"fraction": 1.0},
            shapes=[[(37,)], [(5,)]],
        )  # fmt: skip
        applied = same_on_all(group.results, f"{in_words(size)}")
        for step, buckets in enumerate(steps):
            for index, gradients in enumerate(buckets):
                wanted = np.mean(np.stack(gradients).astype(np.float64), 0)
                # n − 1 additions and a division, each within 2^-24 of what it rounds; sums below 20.
                assert_close(applied[step][index], wanted, rtol=0, atol=1.2e-6 * size,
                             name=f"{in_words(size)}: step {step}, bucket {index}")  # fmt: skip


@number("4.7")
@weight(1)
def test_what_is_not_sent_is_sent_later(student, rng):
    """Step by step what each rank sent; and on two buckets, applied + left = the sum."""
    for size, fraction, feedback in (
        (1, 0.2, True),
        (2, 0.05, True),
        (4, 0.02, True),
        (2, 0.1, False),
    ):
        options = {"fraction": fraction, "error_feedback": feedback}
        name = f"{in_words(size)}, {options}"
        steps = blocks_of(rng, size, 50, 6)
        group = student.group(size, drivers.reduce_steps, each=each_of(steps), kind="top k",
                              options=options, shapes=[[(10, size), (40 * size,)]])  # fmt: skip
        applied = [step[0] for step in same_on_all(group.results, name)]
        check_sent(applied, steps, kept(50 * size, fraction), feedback, name)
    for size, fraction in ((1, 0.2), (2, 0.05), (4, 0.1)):
        sizes, name = [111, 60], f"{in_words(size)}, {fraction:.0%}"
        steps = whole_numbers(rng, size, sizes, 6)
        group = student.group(size, drivers.reduce_steps, each=each_of(steps), kind="top k",
                              options={"fraction": fraction}, shapes=[[(25, 4), (11,)], [(60,)]])  # fmt: skip
        applied = same_on_all(group.results, name)
        for index in range(len(sizes)):
            left = np.stack([np.asarray(r["left"][index]) for r in group.results])
            total = np.sum([np.sum(buckets[index], 0) for buckets in steps], 0)
            assert_equal(size * np.sum([s[index] for s in applied], 0) + left.sum(0), total,
                         name=f"{name}: all that was applied and all that is left, bucket {index}")  # fmt: skip


@number("4.7")
@weight(0.75)
def test_only_places_and_values_travel(student, rng):
    """Eight bytes an element sent, round the ring: 25 times fewer than dense at 1% on 4 ranks."""
    for size, count, fraction in (
        (2, 30_000, 0.01),
        (3, 60, 0.07),
        (4, 30_000, 0.01),
        (4, 20, 0.001),
    ):
        steps = blocks_of(rng, size, count // size, 2)
        group = student.group(
            size, drivers.reduce_steps, each=each_of(steps), kind="top k",
            options={"fraction": fraction}, shapes=[[(count,)]],
        )  # fmt: skip
        number = kept(count, fraction)
        each = (around([8 * number * (size - 1)] * size), around([2 * (size - 1)] * size))
        name = f"{in_words(size)}, {fraction:.1%} of {count}"
        check_each_piece(
            group, size, [each] * 2, name, "places are int32 and values float32: 8 bytes an element, "
            "in two messages a step of the ring; places as int64 make it 1.5 times as much",
        )  # fmt: skip
        applied = [step[0] for step in same_on_all(group.results, name)]
        check_sent(applied, steps, number, True, name)
        if count == 30_000:
            ratio = 2 * sum(all_reduce_bytes(count, size, 4)) / group.sent.sum()
            assert ratio >= 25, (
                f"{ratio:.1f}x fewer bytes than the dense mean, at least 25x are asked"
            )
            student.measure(
                Measure(name=f"fewer bytes at 1% on {in_words(size)}", value=float(ratio))
            )


@number("4.7")
@weight(0.5)
def test_feedback_trains_almost_like_dense(student, rng):
    """50 steps at 1%: error feedback closes most of the gap that top-k without it leaves."""
    size, rate, steps = 4, 0.05, 50
    problem = network_problem(rng, size, (24, 32, 6))
    full, without = (
        loss_of(problem, train_here(problem, reduce, rate, steps)[0])
        for reduce in (dense, largest_alone(0.01))
    )
    group = student.group(
        size, drivers.train_network, kind="top k", options={"fraction": 0.01},
        weights=problem["weights"], rate=rate, steps=steps,
        each=[{"x": x, "y": y} for x, y in zip(problem["x"], problem["y"], strict=True)],
    )  # fmt: skip
    losses = [loss_of(problem, weights) for weights in group.results]
    assert len(set(losses)) == 1, f"the ranks end with different weights: losses {losses}"
    count = sum(w.size for w in problem["weights"])
    sent = around([steps * 8 * kept(count, 0.01) * (size - 1)] * size)
    assert_equal(group.sent, sent, name="bytes of the training")
    closed = (without - losses[0]) / (without - full)
    student.measure(
        Measure(name="gap to dense closed by feedback, top 1%", value=100 * closed, unit="%")
    )
    assert closed >= 0.6, (
        f"loss {losses[0]:.3f}: dense {full:.3f}, top-k without feedback {without:.3f}; {closed:.0%} of "
        "the gap is closed, at least 60% are asked"
    )
