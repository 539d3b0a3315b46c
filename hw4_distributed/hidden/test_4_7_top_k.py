"""Task 4.7, hidden: other types, other ties, a resumed run, a reducer inside DataParallel."""

from __future__ import annotations

import drivers_compression as drivers
import numpy as np
import torch
from compression_cases import (
    check_each_piece,
    each_of,
    kept,
    same_on_all,
    whole_numbers,
)
from gradescope_utils.autograder_utils.decorators import number, weight
from top_k_oracle import TopKOracle, largest_of
from traffic import around, in_words, pieces, sent_bytes

from autograder.testing import assert_close, assert_equal


@number("4.7")
@weight(0.4)
def test_ties_go_the_same_way_on_every_rank(student, rng):
    """Magnitudes of one and two only: which elements go is decided by their places."""
    for size, count in ((2, 64), (3, 90), (4, 257)):
        signs = [[[rng.choice([-2.0, -1.0, 1.0, 2.0], count).astype(np.float32)
                   for _ in range(size)]] for _ in range(3)]  # fmt: skip
        group = student.group(size, drivers.reduce_steps, each=each_of(signs), kind="top k",
                              options={"fraction": 0.15}, shapes=[[(count,)]])  # fmt: skip
        applied, oracle = same_on_all(group.results, f"{in_words(size)}"), TopKOracle(0.15)
        for step, (gradients,) in enumerate(signs):
            assert_close(applied[step][0], oracle(gradients), rtol=3e-7, atol=0,
                         name=f"{in_words(size)}, step {step}")  # fmt: skip
    large = np.repeat(np.float32([3.0, -4.0, 4.0]), 5000)
    places = student.run(drivers.largest_places, values=[large, large], counts=[6000, 12_000])
    for got, count in zip(places, (6000, 12_000), strict=True):
        assert_equal(
            got, largest_of(large, count).astype(np.int32), name=f"{count} of 15000 places"
        )


@number("4.7")
@weight(0.7)
def test_nothing_is_lost_in_small_types_either(student, rng):
    """bfloat16 and float64 buckets: sent in their own type; applied and left still make the sum."""
    for dtype, width in (("bfloat16", 2), ("float64", 8)):
        size, count, rounds = 2, 50, 8
        kind = getattr(torch, dtype)
        steps = []
        for _ in range(rounds):
            # In bfloat16 rank 1 has zeros only: the mean is half of what rank 0 sent, exactly.
            share = [1.0, 0.0] if width == 2 else [1.0, 1.0]
            drawn = [torch.tensor(s * rng.standard_normal(count)).to(kind) for s in share]
            steps.append([[(d.float() if width == 2 else d).numpy() for d in drawn]])
        group = student.group(size, drivers.reduce_steps, each=each_of(steps), kind="top k",
                              options={"fraction": 0.1}, shapes=[[(50,)]], dtype=dtype)  # fmt: skip
        applied = same_on_all(group.results, dtype)
        sent = around([5 * (4 + width)] * size)
        check_each_piece(group, size, [(sent, around([2] * size))] * rounds, dtype)
        done = np.sum([s[0].astype(np.float64) for s in applied], 0)
        left = np.sum([np.asarray(r["left"][0], np.float64) for r in group.results], 0) / size
        total = np.sum([np.sum(s[0], 0, dtype=np.float64) for s in steps], 0) / size
        largest = np.max([np.abs(s[0]) for s in applied], 0)
        # Some 10 additions of numbers below 16, in float32 or float64. What bfloat16 rounds away of a
        # value near 2 is 2^-8, a hundred times as much.
        bound = 4e-5 if width == 2 else 1e-13
        off = np.abs(done + left - total) - bound
        assert (off <= 0).all(), (
            f"{dtype}: {int((off > 0).sum())} elements of applied + left miss the sum of the gradients, "
            f"one by {np.abs(done + left - total).max():.2g}: keep in the residual what rounding took "
            "from the values sent, in float32"
        )
        untouched = largest == 0
        assert_close(left[untouched], total[untouched], rtol=1e-6, atol=1e-6,
                     name=f"{dtype}: what is left where nothing was sent")  # fmt: skip


@number("4.7")
@weight(0.7)
def test_a_resumed_run_gives_the_same_bits(student, rng):
    """The state through a file into a new reducer after step 2 of 5; the old one moves nothing."""
    for size in (2, 4):
        steps = whole_numbers(rng, size, [70, 33], 5)
        common = {"kind": "top k", "options": {"fraction": 0.08}, "shapes": [[(70,)], [(33,)]]}
        for after in (0, 2):
            group = student.group(size, drivers.reduce_steps, each=each_of(steps),
                                  resume_after=after, **common)  # fmt: skip
            applied = same_on_all(group.results, f"{in_words(size)}, resumed after step {after}")
            for index in range(2):
                oracle = TopKOracle(0.08)
                for step, buckets in enumerate(steps):
                    assert_equal(applied[step][index], oracle(buckets[index]).astype(np.float32),
                                 name=f"{in_words(size)}, resumed after step {after}: step {step}, "
                                 f"bucket {index}")  # fmt: skip


@number("4.7")
@weight(0.6)
def test_plugged_into_data_parallel(student, rng):
    """Three batches through DataParallel's buckets: the oracle's gradients, and as few bytes."""
    from drivers_models import WIDTH, build_module, loss_of

    size, seed, fraction = 3, int(rng.integers(1000)), 0.2
    batches = [[{"x": rng.standard_normal((4, WIDTH)).astype(np.float32), "y": rng.standard_normal((4, 3))}
                for _ in range(3)] for _ in range(size)]  # fmt: skip
    group = student.group(
        size, drivers.step_data_parallel, each=[{"batches": b} for b in batches], kind="top k",
        options={"fraction": fraction}, seed=seed, bucket_bytes=1 << 20,
    )  # fmt: skip
    module, oracle = build_module("wide", seed, "float32"), TopKOracle(fraction)
    parameters = list(reversed(list(module.parameters())))
    for step in range(3):
        own = []
        for rank in range(size):
            module.zero_grad()
            batch = batches[rank][step]
            loss_of(module(torch.tensor(batch["x"])), torch.tensor(batch["y"])).backward()
            own.append(torch.cat([p.grad.reshape(-1) for p in parameters]).numpy())
        wanted = oracle(own)
        for rank, result in enumerate(group.results):
            grads = reversed(result["gradients"][step])
            got = np.concatenate([np.asarray(g).reshape(-1) for g in grads])
            assert_close(got, wanted, rtol=1e-4, atol=1e-6, name=f"step {step}, rank {rank}")
    count = sum(p.numel() for p in parameters)
    sent = around([8 * kept(count, fraction) * (size - 1)] * size)
    for piece in pieces(group, size, 4)[1:4]:
        assert_equal(sent_bytes(piece), sent, name="bytes of one step")
