"""Task 4.8: PowerSGD: exact where it must be, near the SVD where it can, every byte counted."""

from __future__ import annotations

import drivers_compression as drivers
import numpy as np
from compression_cases import (
    best_of_rank,
    check_each_piece,
    check_projected,
    check_vectors,
    dense,
    each_of,
    from_mean,
    loss_of,
    network_problem,
    of_rank,
    power_traffic,
    same_on_all,
    split,
    train_here,
)
from gradescope_utils.autograder_utils.decorators import number, weight
from traffic import all_reduce_bytes, around, in_words

from autograder.testing import Measure, assert_close, assert_equal


@number("4.8")
@weight(0.8)
def test_orthonormal_columns_of_any_scale(student, rng):
    """PᵀP = 1, the same span column by column; long and very short columns; the input stays."""
    matrices = [rng.standard_normal(shape) * scale for shape, scale in (
        ((40, 4), 1.0), ((9, 9), 3.0), ((500, 1), 1.0), ((64, 8), 1e-12), ((64, 3), 1e12), ((30, 2), 1e-25),
    )]  # fmt: skip
    nearly = rng.standard_normal((50, 1)) + 1e-3 * rng.standard_normal((50, 5))
    matrices = [m.astype(np.float32) for m in [*matrices, nearly]]
    got = student.run(drivers.orthonormal_columns, matrices=matrices)
    for matrix, p in zip(matrices, got, strict=True):
        name = f"{matrix.shape}, columns of length {np.linalg.norm(matrix[:, 0].astype(float)):.0e}"
        assert_close(p.T.astype(float) @ p, np.eye(p.shape[1]), rtol=0, atol=3e-6, name=f"PᵀP of {name}",
                     hint="a fixed eps, added to a length, swallows short columns; and take off the "
                     "earlier columns twice, the second time what rounding left")  # fmt: skip
        exact, r = np.linalg.qr(matrix.astype(np.float64))
        exact = exact * np.sign(np.diag(r))
        # Columns 1e-3 apart: float32's 6e-8 of their length is 6e-5 of what is left, a few times.
        assert_close(
            p, exact, rtol=0, atol=2e-3 if matrix is matrices[-1] else 2e-4, name=f"P of {name}"
        )


@number("4.8")
@weight(1)
def test_a_mean_of_low_rank_comes_back_whole(student, rng):
    """Each rank's matrix of full rank, their mean of rank r: it comes back, as by an SVD.

    Several matrices of one shape in a bucket, four dimensions, vectors between them. One call is
    enough but for rounding: a random Q may happen to stand nearly upright on the rows of the mean.
    So the same gradients are sent twice; the second call starts from the Q of the first.
    """
    shapes = [[(12, 9), (7,), (12, 9), (12, 9), (5, 2, 3, 3)], [(20, 16), (1, 6), (3, 3)]]
    for size, rank in ((1, 2), (2, 1), (3, 3), (4, 2)):
        means = [[of_rank(rng, shape, rank) for shape in bucket] for bucket in shapes]
        steps = [[from_mean(rng, size, mean) for mean in means]] * 2
        group = student.group(
            size, drivers.reduce_steps, each=each_of(steps), kind="power",
            options={"rank": rank, "error_feedback": False}, shapes=shapes,
        )  # fmt: skip
        applied = same_on_all(group.results, f"{in_words(size)}, rank {rank}")[1]
        for index, bucket in enumerate(shapes):
            for place, got in enumerate(split(applied[index], bucket)):
                # Entries of the ranks' parts are below 20: 2^-24 of it, some tens of roundings.
                assert_close(
                    got, means[index][place], rtol=0, atol=1e-4,
                    name=f"{in_words(size)}, rank {rank}: parameter {place} {bucket[place]} of bucket {index}",
                    hint="P is averaged over the ranks before it is made orthonormal, each matrix of a "
                    "bucket by itself; Q = Mᵀ·P with the P that all share; vectors are averaged",
                )  # fmt: skip


@number("4.8")
@weight(1)
def test_two_all_reduces_of_thin_factors(student, rng):
    """Bytes and messages to the byte: P with all that is not compressed, then Q; 48 times fewer."""
    block = [(768, 256), (256, 256), (256,), (1024, 256), (256, 1024)]
    for size, rank, shapes in (
        (2, 4, [[(768, 256)]]), (4, 4, [block]), (3, 2, [[(9, 7), (5,), (3, 2)], [(6,)], [(10, 8, 2)]]),
    ):  # fmt: skip
        steps = [[[rng.standard_normal(sum(int(np.prod(s)) for s in bucket)).astype(np.float32)
                   for _ in range(size)] for bucket in shapes]]  # fmt: skip
        steps = steps * (2 if len(shapes) > 1 else 1)
        group = student.group(
            size, drivers.reduce_steps, each=each_of(steps), kind="power", options={"rank": rank},
            shapes=shapes,
        )  # fmt: skip
        wanted = [power_traffic(bucket, rank, size) for bucket in shapes] * len(steps)
        check_each_piece(group, size, wanted, f"{in_words(size)}, rank {rank}")
        applied = same_on_all(group.results, f"{in_words(size)}")
        for index, bucket in enumerate(shapes):
            check_projected(applied[0][index], steps[0][index], bucket, rank,
                            f"{in_words(size)}, bucket {index}, first call")  # fmt: skip
        if len(shapes) == 1:
            count = len(steps[0][0][0])
            ratio = float(sum(all_reduce_bytes(count, size, 4)) / group.sent.sum())
            assert ratio >= 20, (
                f"{ratio:.1f}x fewer bytes than the dense mean; at least 20x are asked"
            )
            what = "768 × 256" if size == 2 else "a block of width 256"
            student.measure(Measure(name=f"fewer bytes at rank 4, {what}", value=ratio))


@number("4.8")
@weight(1)
def test_what_a_step_leaves_out_is_not_lost(student, rng):
    """Applied + the mean of what is left = the sum of the gradients, after every number of steps.

    What is left is M − P·Qᵀ of each rank: orthogonal to what was applied, in the mean.
    """
    shapes = [[(14, 10), (6,), (14, 10)]]
    for size, rank, rounds in ((1, 2, 5), (2, 1, 6), (4, 3, 5)):
        steps = [
            [[rng.standard_normal(286).astype(np.float32) for _ in range(size)]]
            for _ in range(rounds)
        ]
        group = student.group(
            size, drivers.reduce_steps, each=each_of(steps), kind="power", options={"rank": rank},
            shapes=shapes,
        )  # fmt: skip
        name = f"{in_words(size)}, rank {rank}"
        applied = [split(s[0], shapes[0]) for s in same_on_all(group.results, name)]
        for place in (0, 2):
            for who, result in enumerate(group.results):
                assert str(place) in result["left"][0], (
                    f"{name}: rank {who} keeps no error of parameter {place}: `errors` has it under "
                    "(bucket.index, place)"
                )
            errors = [np.asarray(r["left"][0][str(place)], np.float64) for r in group.results]
            total = np.sum(
                [np.mean([split(g, shapes[0])[place] for g in s[0]], 0) for s in steps], 0
            )
            done = np.sum([np.asarray(s[place], np.float64) for s in applied], 0)
            # About 10 roundings a step of numbers below 16.
            assert_close(done + np.mean(errors, 0), total, rtol=0, atol=1e-4,
                         name=f"{name}: applied and left, parameter {place}",
                         hint="what this rank's corrected matrix has beyond P·Qᵀ is added to its next "
                         "gradient; all of it, and once")  # fmt: skip
            last = np.asarray(applied[-1][place], np.float64)
            for values in np.linalg.svd(last)[1][rank:]:
                assert values < 1e-4, f"{name}: the result has more than {rank} singular values"
            overlap = np.abs(last.T @ np.mean(errors, 0)).max()
            assert overlap < 1e-3, (
                f"{name}: what is left still has a part in P's columns: {overlap:.2g}"
            )
        check_vectors(applied, steps, shapes[0], 1, name)


@number("4.8")
@weight(1)
def test_feedback_trains_almost_like_dense(student, rng):
    """50 steps at rank 1: error feedback closes most of the gap that rank 1 without it leaves."""
    size, rate, steps = 4, 0.05, 50
    problem = network_problem(rng, size, (24, 32, 6))
    full, without = (
        loss_of(problem, train_here(problem, reduce, rate, steps)[0])
        for reduce in (dense, best_of_rank(1))
    )
    group = student.group(
        size, drivers.train_network, kind="power", options={"rank": 1},
        weights=problem["weights"], rate=rate, steps=steps,
        each=[{"x": x, "y": y} for x, y in zip(problem["x"], problem["y"], strict=True)],
    )  # fmt: skip
    losses = [loss_of(problem, weights) for weights in group.results]
    assert len(set(losses)) == 1, f"the ranks end with different weights: losses {losses}"
    # P and the biases in one all-reduce, Q in the other.
    both = np.array([all_reduce_bytes(n, size, 4) for n in (32 + 6 + 32 + 6, 24 + 32)]).sum(0)
    assert_equal(group.sent, around((both * steps).tolist()), name="bytes of the training")
    closed = (without - losses[0]) / (without - full)
    student.measure(
        Measure(name="gap to dense closed by feedback, rank 1", value=100 * closed, unit="%")
    )
    assert closed >= 0.6, (
        f"loss {losses[0]:.3f}: dense {full:.3f}, rank 1 without feedback {without:.3f}; {closed:.0%} of "
        "the gap is closed, at least 60% are asked"
    )
