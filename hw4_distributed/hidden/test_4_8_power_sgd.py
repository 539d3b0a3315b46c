"""Task 4.8, hidden: what warm starts bring, dead columns, a resumed run, DataParallel."""

from __future__ import annotations

import drivers_compression as drivers
import numpy as np
from compression_cases import (
    check_projected,
    each_of,
    from_mean,
    of_rank,
    power_traffic,
    same_on_all,
    split,
)
from gradescope_utils.autograder_utils.decorators import number, weight
from traffic import in_words, pieces, sent_bytes

from autograder.testing import assert_close, assert_equal


@number("4.8")
@weight(0.9)
def test_warm_starts_come_to_the_svd(student, rng):
    """The same gradients twelve times, no feedback: the error of the best rank-r matrix, and less
    each time; without a warm start it stays where one power step ends."""
    size, rank, shape = 2, 3, (24, 18)
    u, v = (np.linalg.qr(rng.standard_normal((n, 18)))[0] for n in shape)
    # Each of the r kept is at least 2.5 times the largest left out: twelve steps of two products
    # shrink what is wrong by 2.5^24 = 3.6e9, so that even an unlucky first Q does not matter.
    spectrum = np.concatenate([[3.0, 2.4, 2.0], 0.8 * 0.97 ** np.arange(15)])
    mean = (u * spectrum) @ v.T
    gradients = from_mean(rng, size, [mean])
    best = np.sqrt((spectrum[rank:] ** 2).sum())
    errors = {}
    for warm in (True, False):
        options = {"rank": rank, "error_feedback": False, "warm_start": warm}
        group = student.group(size, drivers.reduce_steps, each=each_of([[gradients]] * 12), kind="power",
                              options=options, shapes=[[shape]])  # fmt: skip
        applied = same_on_all(group.results, f"warm start {warm}")
        errors[warm] = [float(np.linalg.norm(s[0].reshape(shape) - mean)) / best for s in applied]
    assert errors[True][-1] < 1.003, (
        f"after twelve warm steps the error is {errors[True][-1]:.4f} times that of the SVD, expected "
        "less than 1.003: each step starts from the last one's Q"
    )
    assert min(errors[True]) > 0.9999, "below the SVD's error: that is not a matrix of rank 3"
    assert all(a > b - 1e-4 for a, b in zip(errors[True], errors[True][1:], strict=False)), (
        f"the errors do not fall from step to step: {errors[True]}"
    )
    cold = float(np.mean(errors[False]))
    assert cold > errors[True][-1] + 0.003, (
        f"without a warm start the error is {cold:.4f} times the SVD's on average, as with one: each "
        "call must start from new random numbers"
    )


@number("4.8")
@weight(0.9)
def test_zero_and_poor_gradients_do_not_end_it(student, rng):
    """Zero gradients, then rank 1, then rank 3, tiny ones, zero again: each comes back, without nan.

    Each gradient is sent twice, and the second answer is looked at: a random Q may happen to stand
    nearly upright on a gradient's rows (by a factor of ε with a probability of about ε), and what
    the first step then loses to rounding, the second, which starts from its Q, does not.
    """
    shapes = [[(16, 12), (10, 9)]]
    for size, rank in ((1, 3), (2, 3), (3, 4)):
        means = [
            [np.zeros(s) for s in shapes[0]], [of_rank(rng, s, 1) for s in shapes[0]],
            [of_rank(rng, s, 3) for s in shapes[0]], [1e-9 * of_rank(rng, s, 2) for s in shapes[0]],
            [np.zeros(s) for s in shapes[0]], [1e-9 * of_rank(rng, s, 3) for s in shapes[0]],
        ]  # fmt: skip
        steps = []
        for mean in means:
            flat = np.concatenate([part.reshape(-1) for part in mean]).astype(np.float32)
            steps += [[[flat] * size]] * 2
        options = {"rank": rank, "error_feedback": False}
        group = student.group(size, drivers.reduce_steps, each=each_of(steps), kind="power",
                              options=options, shapes=shapes)  # fmt: skip
        applied = same_on_all(group.results, f"{in_words(size)}")
        assert all(np.isfinite(np.asarray(step[0])).all() for step in applied), "nan or infinite"
        for place_of_mean, mean in enumerate(means):
            step = 2 * place_of_mean + 1
            for place, got in enumerate(split(applied[step][0], shapes[0])):
                scale = max(np.abs(mean[place]).max(), 1e-30)
                assert_close(
                    got / scale, mean[place] / scale, rtol=0, atol=1e-4,
                    name=f"{in_words(size)}, step {step}: parameter {place} of rank at most 3, over {scale:.0e}",
                    hint="a column of Q that is zero stays zero for ever (P = M·0): start it anew; "
                    "and a length of 1e-9 is a length",
                )  # fmt: skip


@number("4.8")
@weight(0.7)
def test_a_resumed_run_gives_the_same_bits(student, rng):
    """The state through a file into a new reducer after step 1 of 4; and seeds make a difference."""
    shapes, size = [[(11, 9), (4,), (11, 9)], [(8, 6)]], 3
    sizes = [202, 48]
    steps = [[[rng.standard_normal(n).astype(np.float32) for _ in range(size)] for n in sizes]
             for _ in range(4)]  # fmt: skip
    for options in ({"rank": 2}, {"rank": 1, "warm_start": False, "seed": 5}):
        runs = [
            same_on_all(
                student.group(size, drivers.reduce_steps, each=each_of(steps), kind="power",
                              options=options, shapes=shapes, resume_after=after).results,
                f"{options}, resumed after step {after}",
            )
            for after in (-1, 1)
        ]  # fmt: skip
        for index, bucket in enumerate(shapes):
            check_projected(runs[0][0][index], steps[0][index], bucket, options["rank"],
                            f"{options}: bucket {index}, first call")  # fmt: skip
        for step in range(4):
            for index in range(2):
                assert_equal(runs[1][step][index], runs[0][step][index],
                             name=f"{options}: step {step}, bucket {index}, resumed after step 1")  # fmt: skip


@number("4.8")
@weight(0.7)
def test_plugged_into_data_parallel(student, rng):
    """Two batches through DataParallel's buckets: the mean less what rank 1 leaves, equal everywhere."""
    from drivers_models import WIDTH

    size, seed = 3, int(rng.integers(1000))
    batches = [[{"x": rng.standard_normal((4, WIDTH)).astype(np.float32), "y": rng.standard_normal((4, 3))}]
               * 2 for _ in range(size)]  # fmt: skip
    group = student.group(
        size, drivers.step_data_parallel, each=[{"batches": b} for b in batches], kind="power",
        options={"rank": 1}, seed=seed, bucket_bytes=1 << 20,
    )  # fmt: skip
    mean = gradients_in_float64(seed, [rank[0] for rank in batches])
    for rank, result in enumerate(group.results):
        for place, wanted in enumerate(mean):
            first, second = (np.asarray(step[place], np.float64) for step in result["gradients"])
            name = f"rank {rank}, parameter {place} {wanted.shape}"
            assert np.array_equal(first, np.asarray(group.results[0]["gradients"][0][place])), name
            if wanted.ndim < 2:
                assert_close(first, wanted, rtol=1e-4, atol=1e-6, name=name)
                continue
            # P·Pᵀ·mean: as long as its inner product with the mean.
            assert_close((first * wanted).sum(), (first**2).sum(), rtol=1e-3, atol=1e-6,
                         name=f"{name}: ⟨result, mean⟩ against |result|²")  # fmt: skip
            spectrum = np.linalg.svd(first)[1]
            assert spectrum[0] > 0 and spectrum[1] < 1e-4 * spectrum[0], f"{name} is not of rank 1"
            # Twice the gradient, less what is left: nearer to twice the mean than one step to one.
            off = np.linalg.norm(first + second - 2 * wanted), np.linalg.norm(first - wanted)
            assert off[0] < 2 * off[1], f"{name}: the second step does not make up for the first"
    shapes = [part.shape for part in reversed(mean)]
    for piece in pieces(group, size, 3)[1:3]:
        assert_equal(sent_bytes(piece), power_traffic(shapes, 1, size)[0], name="bytes of one step")


def gradients_in_float64(seed: int, batches: list[dict]) -> list[np.ndarray]:
    """The mean over the batches of the gradients of the tests' "wide" module."""
    import torch
    from drivers_models import build_module, loss_of

    module = build_module("wide", seed, "float32").double()
    for batch in batches:
        (
            loss_of(module(torch.tensor(batch["x"])), torch.tensor(batch["y"])) / len(batches)
        ).backward()
    return [p.grad.numpy() for p in module.parameters()]
