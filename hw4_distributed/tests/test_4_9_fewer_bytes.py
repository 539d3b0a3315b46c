"""Task 4.9: an int8 all-reduce that is right on average, and local SGD."""

from __future__ import annotations

import drivers_collectives
import drivers_compression as drivers
import numpy as np
from compression_cases import check_each_piece
from gradescope_utils.autograder_utils.decorators import number, weight
from quantized_cases import (
    GROUP,
    assert_int8,
    bound_of_int8,
    group_maxima,
    int8_traffic,
    local_sgd_here,
)
from traffic import all_reduce_bytes, around, in_words, messages, pieces, sent_bytes

from autograder.testing import Measure, assert_close, assert_equal


@number("4.9")
@weight(0.7)
def test_numbers_lie_on_the_grid_of_their_group(student, rng):
    """A scale is its group's largest magnitude over 127; each value goes to one of two neighbours."""
    vectors = [
        rng.standard_normal(1000) * 10.0 ** rng.uniform(-6, 6, 1000), np.zeros(300),
        np.r_[np.zeros(GROUP), rng.standard_normal(9)], rng.standard_normal(GROUP), np.array([-3.5]),
        1e-30 * rng.standard_normal(20), np.zeros(0),
    ]  # fmt: skip
    for values, group in [*((v, GROUP) for v in vectors), (vectors[0], 64), (vectors[0][:70], 7)]:
        values = values.astype(np.float32)
        numbers, back, scales = student.run(
            drivers.quantized, values=values, repeats=3, seed=int(rng.integers(1000)), group=group
        )
        name = f"{len(values)} elements in groups of {group}"
        assert numbers.shape == back.shape == (3, len(values)), f"{name}: shape {numbers.shape}"
        maxima = group_maxima(values.astype(np.float64), group)
        assert_close(scales, np.tile(maxima[::group] / 127, (3, 1)), rtol=1e-6, atol=0,
                     name=f"{name}: scales")  # fmt: skip
        step = maxima / 127
        assert_close(back, numbers * step, rtol=1e-5, atol=0, name=f"{name}: what comes back")
        off = np.abs(back - values) - step * (1 + 1e-4)
        assert (off <= 0).all(), (
            f"{name}: {int((off > 0).sum())} values are further than one step of the grid from theirs"
        )
        largest = np.abs(values) == maxima
        assert_close(np.where(largest, back, 0), np.where(largest, np.tile(values, (3, 1)), 0), rtol=1e-5,
                     atol=0, name=f"{name}: the largest of each group")  # fmt: skip


@number("4.9")
@weight(0.7)
def test_rounding_is_right_on_average(student, rng):
    """400 roundings of 512 values: each value's mean, and the mean of all, within Hoeffding's bound.

    The error of a rounding lies in an interval of one step and has mean 0, so the mean of n is off by
    t steps or more with a probability of at most 2·exp(−2·n·t²). For each of 512 values with n = 400,
    t = 0.165: at most 1024 · exp(−21.78) = 3.6e-7 in all. For all of them together, n = 204,800 and
    t = 0.0062: 2 · exp(−15.74) = 2.9e-7; their squares, the same. A right answer fails by chance less than once in a million
    runs.
    """
    values = rng.uniform(-1, 1, 512).astype(np.float32)
    values[[0, 256]] = 1.0, -1.0
    _, back, _ = student.run(
        drivers.quantized, values=values, repeats=400, seed=int(rng.integers(1 << 30)), group=GROUP
    )
    errors = (np.asarray(back, np.float64) - values) * 127
    worst, all_of_them = np.abs(errors.mean(0)).max(), abs(errors.mean())
    assert worst < 0.165, (
        f"the mean of 400 roundings of one value is {worst:.3f} steps off, more than chance gives "
        "(0.165): round up with the probability of the fraction, and draw new numbers in each call"
    )
    assert all_of_them < 0.0062, f"all roundings together are {all_of_them:.4f} steps off (0.0062)"
    # Variance f·(1 − f), 1/6 on average. Squares lie in [0, 1]: off by 0.0062 as rarely as above.
    fraction = (values * 127.0) % 1
    wanted = float((fraction * (1 - fraction)).mean())
    got = float((errors**2).mean())
    assert abs(got - wanted) < 0.0063, (
        f"the mean square of the errors is {got:.4f} steps², expected {wanted:.4f}: only the two "
        "neighbours of a value may come out"
    )


@number("4.9")
@weight(1)
def test_the_sum_is_within_two_roundings(student, rng):
    """Sums and means within the derived bound, the same bits on all ranks, the bytes exact."""
    for size in (1, 2, 3, 4):
        cases, wanted = [], []
        for count, average in ((size * 300 + 1, False), (size - 1, True), (2000, True), (0, False)):
            scale = 10.0 ** rng.uniform(-3, 3, count)
            tensors = [(rng.standard_normal(count) * scale).astype(np.float32) for _ in range(size)]
            cases.append({"tensors": tensors, "average": average, "dtype": "float32"})
            no_one = (np.zeros((size, size), np.int64),) * 2
            wanted.append(int8_traffic(count, size) if size > 1 else no_one)
        each = [{"cases": [{**c, "tensor": c["tensors"][r], "tensors": None} for c in cases]}
                for r in range(size)]  # fmt: skip
        group = student.group(size, drivers.int8_reduced, each=each, seed=int(rng.integers(1000)))
        for place, case in enumerate(cases):
            exact = np.sum(case["tensors"], 0, dtype=np.float64) / (size if case["average"] else 1)
            bound = bound_of_int8(case["tensors"], case["average"])
            name = f"{in_words(size)}, {len(exact)} elements, average={case['average']}"
            values = [result[place]["value"] for result in group.results]
            assert_int8(values[0], exact, bound if size > 1 else 0 * bound, f"{name}: rank 0")
            for rank, value in enumerate(values):
                assert np.array_equal(value, values[0]), (
                    f"{name}: rank {rank} and rank 0 differ: the owner of a chunk must take its own "
                    "quantised sum too"
                )
        check_each_piece(group, size, wanted, f"{in_words(size)}, int8")


@number("4.9")
@weight(0.4)
def test_three_and_a_half_times_fewer_bytes(student, rng):
    """Against the exact ring all-reduce of the same gradient, both counted by the switch."""
    size, count = 4, 40_000
    tensors = [rng.standard_normal(count).astype(np.float32) for _ in range(size)]
    cases = [{"cases": [{"tensor": t, "dtype": "float32", "average": True}]} for t in tensors]
    exact = [{"cases": [{**c["cases"][0], "operation": "ring_all_reduce"}]} for c in cases]
    small = student.group(size, drivers.int8_reduced, each=cases, seed=1)
    large = student.group(size, drivers_collectives.run_collectives, each=exact)
    ratio = float(large.sent.sum() / small.sent.sum())
    error = small.results[0][0]["value"] - np.mean(tensors, 0)
    relative = float(np.linalg.norm(error) / np.linalg.norm(np.mean(tensors, 0)))
    student.measure(Measure(name="fewer bytes with int8, 4 ranks", value=ratio))
    assert ratio >= 3.5, f"{ratio:.2f}x fewer bytes than in float32; at least 3.5x are asked"
    # Standard normal values, groups of 256: a largest magnitude of about 2.8, steps of 0.022.
    assert 0.001 < relative < 0.05, f"the relative error of the mean is {relative:.4f}"


@number("4.9")
@weight(0.8)
def test_local_sgd_takes_the_mean_every_h_steps(student, rng):
    """State after each step, what after_step says, bytes: an all-reduce a type in each H-th step."""
    for size, every in ((1, 2), (2, 1), (2, 3), (3, 2), (4, 4)):
        steps = 8
        updates = [list(rng.integers(-8, 9, (steps, 4)).astype(np.float32)) for _ in range(size)]
        starts = [float(v) for v in rng.integers(1, 9, size)]
        group = student.group(
            size, drivers.local_steps, every=every,
            each=[{"updates": u, "start": s} for u, s in zip(updates, starts, strict=True)],
        )  # fmt: skip
        oracle = local_sgd_here(updates, starts, every)
        for rank, result in enumerate(group.results):
            told = [(step + 1) % every == 0 for step in range(steps)]
            assert result["told"] == told, f"every={every}: after_step returned {result['told']}"
            for step, (got, wanted) in enumerate(zip(result["states"], oracle[rank], strict=True)):
                for name, value in wanted.items():
                    assert_close(got[name], value, rtol=2e-6, atol=1e-5,
                                 name=f"{in_words(size)}, every={every}: {name} on rank {rank} after "
                                 f"{step} steps")  # fmt: skip
        means = [np.array(all_reduce_bytes(n, size, w)) for n, w in ((19, 4), (7, 8))]
        sent = around(sum(means).tolist())
        for step, piece in enumerate(pieces(group, size, steps + 1)[1 : steps + 1]):
            due = (step + 1) % every == 0
            assert_equal(sent_bytes(piece), sent if due else 0 * sent,
                         name=f"{in_words(size)}, every={every}: bytes of step {step + 1}")  # fmt: skip
            assert_equal(messages(piece), around([4 * (size - 1) * due] * size),
                         name=f"{in_words(size)}, every={every}: messages of step {step + 1}",
                         hint="all tensors of one type in one all-reduce: two types here")  # fmt: skip
