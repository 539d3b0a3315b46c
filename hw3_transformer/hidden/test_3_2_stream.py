"""Task 3.2, hidden: edges of the stream: uniform orders, damaged files, many shards, refusals."""

from __future__ import annotations

import drivers_data as drivers
import numpy as np
from data_cases import check_sample, corpus_of, global_steps, random_samples
from gradescope_utils.autograder_utils.decorators import number, weight
from scipy import stats

from autograder.testing import assert_equal


@number("3.2")
@weight(0.5)
def test_orders_are_uniform(student, rng):
    """Over many epochs every index is equally often at every place, and after every other one."""
    # Sums of permutation matrices over equal bins, centred and scaled, are chi-square with
    # (bins - 1)**2 degrees of freedom times size / (size - 1). Each of eight p-values is below
    # 1e-9 with that probability, if the orders are random. A Feistel network of one round has 0.
    for size, bins, epochs in ((3, 3, 600), (7, 7, 600), (40, 10, 600), (600, 10, 60)):
        seed = int(rng.integers(2**31))
        orders = student.run(drivers.orders, size=size, seed=seed, epochs=epochs)
        assert_equal(np.sort(orders), np.tile(np.arange(size), (epochs, 1)), name="sorted orders")
        place = np.tile(np.arange(size), epochs) * bins // size
        index = orders.ravel() * bins // size
        freedom = (bins - 1) ** 2
        p = _p_value(place, index, bins, freedom, (size - 1) / size)
        assert p > 1e-9, (
            f"size {size}, {epochs} epochs: not every index is equally likely at every place "
            f"(p = {p:.1g})"
        )
        if size < 600:
            continue
        # Neighbours: the same table but for a bias of 1/599, which 36,000 pairs do not show.
        after = (orders * bins // size)[:, 1:].ravel()
        p = _p_value((orders * bins // size)[:, :-1].ravel(), after, bins, freedom, 1.0)
        assert p > 1e-9, (
            f"what stands at a place depends on what stands before it (p = {p:.1g})\n"
            "hint: more rounds, each with a key of its own"
        )
    # Shapes are kept; positions outside are refused, also negative ones.
    (got,) = student.run(drivers.permuted, cases=[[50, 1, 1, np.arange(50).reshape(5, 10)]])
    assert got.shape == (5, 10), f"shape {got.shape} for positions of shape (5, 10)"
    (got,) = student.run(drivers.permuted, cases=[[0, 1, 1, None]])
    assert got.shape == (0,), "the order of nothing is empty"
    for wrong in ([50], [-1]):
        student.raises(drivers.permuted, "IndexError", cases=[[50, 1, 1, np.array(wrong)]])


def _p_value(
    rows: np.ndarray, columns: np.ndarray, bins: int, freedom: int, scale: float
) -> float:
    """Of the chi-square statistic, times `scale`, of how often rows and columns come together."""
    counts = np.zeros((bins, bins))
    np.add.at(counts, (rows, columns), 1)
    expected = len(rows) / bins**2
    return float(stats.chi2.sf(scale * ((counts - expected) ** 2 / expected).sum(), freedom))


@number("3.2")
@weight(0.5)
def test_damaged_files_are_named(student, rng):
    """A file that is cut, too long, missing or changed is refused, by its name."""
    corpus = corpus_of(random_samples(rng, 60, most=3), shard_bytes=500)
    shard = int(rng.integers(1, 3))
    for kind in ("tokens", "documents", "samples"):
        name = f"shard-{shard:05d}.{kind}"
        for damage in ("-1", "-2", "8", "missing"):
            student.raises(
                drivers.open_damaged, "CorpusError", naming=name, corpus=corpus, name=name,
                damage=damage,
            )  # fmt: skip
        student.raises(
            drivers.open_damaged, "CorpusError", naming=name, corpus=corpus, name=name,
            damage="flipped", verify=True,
        )  # fmt: skip
    student.run(drivers.open_damaged, corpus=corpus, name=name, damage="0", verify=True)
    student.raises(
        drivers.open_damaged, "CorpusError", corpus=corpus, name="manifest.json", damage="-20"
    )
    student.raises(
        drivers.open_damaged, "CorpusError", corpus=corpus, name="manifest.json", damage="missing"
    )


@number("3.2")
@weight(0.5)
def test_odd_corpora_and_states(student, rng):
    """Many shards, empty documents and samples, more ranks than samples, states that don't fit."""
    samples = random_samples(rng, 120, most=3)
    samples[5] = [np.zeros(0, np.int64)]
    samples[6] = []
    samples[7] = [np.zeros(0, np.int64), np.array([7, 65_535]), np.zeros(0, np.int64)]
    indices = [*range(120), 3, 119, 6, 5]
    for shard_bytes in (1, 1 << 20):  # a shard for nearly every sample, or one for all
        corpus = corpus_of(samples, shard_bytes=shard_bytes)
        got = student.run(drivers.read_samples, corpus=corpus, indices=indices)
        found = drivers.unflat(got["tokens"], got["lengths"], got["counts"])
        for index, sample in zip(indices, found, strict=True):
            check_sample(sample, samples[index], f"sample {index}")
    for index in (-1, 120):
        student.raises(drivers.read_samples, "IndexError", corpus=corpus, indices=[index])
    only_empty = corpus_of([[np.zeros(0, np.int64)]] * 3)
    got = student.run(drivers.read_samples, corpus=only_empty, indices=[2])
    assert got["lengths"] == [0], "a corpus of empty documents has empty documents"
    few = random_samples(rng, 3)
    got = student.run(
        drivers.stepped, corpus=corpus_of(few), batch_size=2, seed=int(rng.integers(2**31)),
        plan=[[5, 4]], indices=[[4, 1, 0, 1], [4, 1, 0, 2], [4, 1, 1, 2], [0, 0, 4, 5]],
    )  # fmt: skip
    steps = global_steps(got["steps"], few)
    assert [len(step) for step in steps] == [2, 1, 2, 1], "five ranks, two samples a step"
    for epoch in (steps[0] + steps[1], steps[2] + steps[3]):
        assert sorted(epoch) == [0, 1, 2], f"an epoch of three samples has {epoch}"
    assert [len(i) for i in got["indices"]] == [1, 1, 0, 0], "the slices of indices(4, 1)"
    assert_equal(got["indices"][0], got["indices"][1], name="indices(4, 1), one rank and two")
    usual = {"corpus": corpus_of(few), "batch_size": 2}
    for wrong in ({"batch_size": 0}, {"rank": 2, "world_size": 2}, {"rank": -1},
                  {"corpus": corpus_of([])}):  # fmt: skip
        student.raises(drivers.make_stream, "ValueError", **{**usual, **wrong})
    student.raises(drivers.make_stream, "IndexError", **usual, step=2)
    for key, value in (("batch_size", 3), ("corpus", 12345)):
        student.raises(drivers.make_stream, "ValueError", naming=key, **usual, state={key: value})
    student.run(drivers.make_stream, **usual, state={"seed": 9, "epoch": 3, "step": 1})
