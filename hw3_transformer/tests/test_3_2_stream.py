"""Task 3.2: a corpus on disk, its order, its ranks, its resumption, its memory."""

from __future__ import annotations

import drivers_data as drivers
import numpy as np
from data_cases import (
    check_batch_samples,
    check_sample,
    corpus_of,
    global_steps,
    numbers,
    random_samples,
)
from gradescope_utils.autograder_utils.decorators import number, weight

from autograder.testing import Measure, assert_equal

MB = 1 << 20


@number("3.2")
@weight(0.5)
def test_the_order_is_random_and_takes_no_memory(student, rng):
    """Permutation: each index once, another order for each seed and epoch, of any size."""
    sizes = [1, 2, 3, 10, 255, 256, 257, 1000, 4096, int(rng.integers(5_000, 30_000))]
    seed = int(rng.integers(2**31))
    got = student.run(drivers.permuted, cases=[[n, seed, 3, None] for n in sizes])
    for n, order in zip(sizes, got, strict=True):
        assert_equal(np.sort(order), np.arange(n), name=f"the sorted order of {n}",
                     hint="each once: a result outside of range(size) goes in again")  # fmt: skip
    again, epoch, other, mixed = student.run(
        drivers.permuted,
        cases=[[4096, seed, 3, None], [4096, seed, 4, None], [4096, seed + 1, 3, None],
               [4096, seed + 1, 2, None]],
    )  # fmt: skip
    first = got[8]
    assert_equal(again, first, name="the order with the same seed and epoch")
    for order, what in ((epoch, "epoch"), (other, "seed")):
        # Random orders agree in one place on average; in 20, with a probability of 1e-18.
        assert np.sum(order == first) < 20, f"another {what} gives nearly the same order"
    assert np.sum(mixed == first) < 20, "seed + 1 in the epoch before is the same order"
    # Neighbours must not stay at one distance, as by (a * i + b) % n: 4,095 random differences
    # have about 2,600 different values.
    assert len(np.unique(np.diff(first))) > 1_500, "the order is a pattern, not a shuffle"
    assert len(np.unique(np.diff(first) % 4096)) > 1_500, "the order is a rotation with a step"
    huge, places = 10**12, rng.integers(0, 10**12, 2_000)
    (found,) = student.run(drivers.permuted, cases=[[huge, seed, 0, places]])
    assert found.min() >= 0 and found.max() < huge, "indices outside of range(10**12)"
    assert len(np.unique(found)) == len(np.unique(places)), "two positions with the same index"
    # The least and largest of 2,000 draws: within 2% of the ends but for a probability of 1e-17.
    assert found.min() < huge / 50 and found.max() > huge * 0.98, "not spread over range(10**12)"
    # Of 400,000 numbers drawn from 3e9 with replacement 27 pairs are equal on average; none is with
    # a probability of 3e-12.
    large = 3 * 10**9 - int(rng.integers(10**6))
    places = rng.choice(large // 1000, 400_000, replace=False) * 1000 + rng.integers(1000)
    (found,) = student.run(drivers.permuted, cases=[[large, seed, 1, places]])
    found = np.asarray(found)
    assert found.shape == places.shape, f"shape {found.shape} for {places.shape} positions"
    assert found.min() >= 0 and found.max() < large, f"indices outside of range({large})"
    twice = len(found) - len(np.unique(found))
    assert twice == 0, (
        f"of 400,000 positions of {large}, {twice} have the index of another one\n"
        "hint: a scrambled number modulo the size is no permutation; walk until it is inside"
    )


@number("3.2")
@weight(0.25)
def test_any_sample_by_its_index(student, rng):
    """Corpus: the documents of any sample, over shards, in the dtype on disk."""
    for vocab_size, kind in ((1 << 16, "uint16"), (70_000, "uint32")):
        samples = random_samples(rng, 150, most=4, vocab_size=vocab_size)
        indices = [*rng.permutation(150)[:60].tolist(), 0, 149, 0]
        corpus = corpus_of(samples, vocab_size, shard_bytes=800)
        got = student.run(drivers.read_samples, corpus=corpus, indices=indices)
        assert got["size"] == 150, f"len(corpus) is {got['size']}, expected 150"
        assert got["kinds"] == [kind], f"tokens of {got['kinds']}, expected {kind}"
        found = drivers.unflat(got["tokens"], got["lengths"], got["counts"])
        for index, sample in zip(indices, found, strict=True):
            check_sample(sample, samples[index], f"sample {index}")
        shards = len(got["files"]) // 3
        assert shards > 5 and f"shard-{shards - 1:05d}.tokens" in got["files"], (
            f"verify() names {got['files'][:4]}…: expected all files of the shards"
        )


@number("3.2")
@weight(0.5)
def test_ranks_share_each_batch(student, rng):
    """Over an epoch the ranks together see each sample once; the next epoch in another order."""
    samples = random_samples(rng, 53)
    seed, orders = int(rng.integers(2**31)), {}
    for batch_size, ranks in ((8, 1), (8, 4), (8, 3), (10, 4), (60, 2)):
        per_epoch = -(-53 // batch_size)
        got = student.run(
            drivers.stepped, corpus=corpus_of(samples, shard_bytes=500), batch_size=batch_size,
            seed=seed, plan=[[ranks, 2 * per_epoch]],
        )  # fmt: skip
        about = f"batch size {batch_size}, {ranks} ranks"
        assert got["per_epoch"] == per_epoch, f"{about}: {got['per_epoch']} steps per epoch"
        steps = global_steps(got["steps"], samples)
        for epoch in (0, 1):
            mine = steps[epoch * per_epoch : (epoch + 1) * per_epoch]
            sizes = [len(step) for step in mine]
            assert sizes[:-1] == [batch_size] * (per_epoch - 1), f"{about}: batches of {sizes}"
            order = [sample for step in mine for sample in step]
            assert sorted(order) == list(range(53)), (
                f"{about}: epoch {epoch} has {len(set(order))} different samples of 53\n"
                "hint: the last batch is smaller, and where it is not a multiple of the ranks, "
                "slices differ by one"
            )
            wanted = orders.setdefault(epoch, order)
            assert order == wanted, (
                f"{about}: the order of the samples differs from the one with other ranks\n"
                "hint: first the global batch, then the rank's slice of it"
            )
        for step in got["steps"]:
            counts = [len(rank["counts"]) for rank in step]
            assert max(counts) - min(counts) <= 1 and counts == sorted(counts, reverse=True), (
                f"{about}: the ranks got {counts} samples; they differ by at most one"
            )
    assert orders[0] != orders[1], "both epochs have the same order"


@number("3.2")
@weight(0.75)
def test_resumed_with_other_ranks_it_goes_on_exactly(student, rng):
    """Stopped at any step and resumed by any number of ranks, the global batches are the same."""
    samples = random_samples(rng, 45)
    corpus = corpus_of(samples, shard_bytes=500)
    seed = int(rng.integers(2**31))
    straight = student.run(
        drivers.stepped, corpus=corpus, batch_size=6, seed=seed, plan=[[1, 30]]
    )
    wanted = global_steps(straight["steps"], samples)
    # Eight steps an epoch: stops in the middle, at an epoch's last step, and after it.
    for stops in ([7, 1, 2, 5, 15], [8, 8, 14], [int(rng.integers(1, 29))]):
        plan = [[int(rng.integers(1, 6)), count] for count in stops]
        plan.append([int(rng.integers(1, 6)), 30 - sum(stops)])
        got = student.run(
            drivers.stepped, corpus=corpus, batch_size=6, seed=seed, plan=plan
        )
        for place, (found, step) in enumerate(
            zip(global_steps(got["steps"], samples), wanted, strict=True)
        ):
            assert found == step, (
                f"step {place} has samples {found}, without interruption {step}\n"
                f"(ranks, steps) between the stops: {plan}\nhint: epoch, step and seed are the "
                "state; a fresh object takes all three from it"
            )
        sizes = got["state_sizes"]
        assert max(sizes) < 400, f"a state of {max(sizes)} characters: it holds more than numbers"


@number("3.2")
@weight(0.5)
def test_memory_does_not_grow_with_the_corpus(student, rng):
    """Reading all of 200 MB needs hardly more memory than reading all of 20 MB."""
    extra = {}
    for megabytes in (20, 200):
        folder = student.run(drivers.write_large, megabytes=megabytes, shards=5)
        memory = student.memory(
            drivers.read_large, folder=folder, batch_size=64, seed=int(rng.integers(2**31)),
            allowance_mb=32,
        )  # fmt: skip
        student.run(drivers.remove_large, folder=folder)
        extra[megabytes] = memory.extra_bytes
        count = 5 * ((megabytes << 20) // (2 * drivers.DOCUMENT * 5))
        first = np.arange(count) * 31 % 65_521
        sums = np.cumsum(np.r_[0, np.arange(65_521 + drivers.DOCUMENT) % 65_521])
        wanted = np.stack([first, sums[first + drivers.DOCUMENT] - sums[first]], axis=1)
        seen = np.asarray(memory.value)
        assert seen.shape == wanted.shape, f"{len(seen)} samples were read, expected {count}"
        assert np.any(seen != wanted), "the samples came in the order of the file: not shuffled"
        assert_equal(
            seen[np.lexsort(seen.T)], wanted[np.lexsort(wanted.T)],
            name=f"[first token, sum] of the samples of {megabytes} MB, sorted",
        )  # fmt: skip
    # The small corpus needs 25 MB; one that is read with more than 48 is no measure for the other.
    growth = max(extra[200] - min(extra[20], 48 * MB), 0) / MB
    student.measure(Measure(name="memory, 200 MB against 20 MB", value=growth, unit="MB", full=64))
    assert growth <= 64, (
        f"reading 200 MB took {extra[200] / MB:.0f} MB of memory, 20 MB took "
        f"{extra[20] / MB:.0f} MB (48 are enough): {growth:.0f} MB more, where 64 are allowed\n"
        "hint: pages that were read stay mapped and count until the mapping is dropped; map a "
        "shard when it is needed, and drop mappings when more than mapped_bytes were read"
    )
