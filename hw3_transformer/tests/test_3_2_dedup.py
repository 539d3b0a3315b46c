"""Task 3.2: near-duplicates: shingles, MinHash, bands, exact confirmation, clusters."""

from __future__ import annotations

import drivers_data as drivers
import numpy as np
from data_cases import (
    changed,
    check_deduplication,
    check_pairs,
    check_shingles,
    components,
    exact_pairs,
    near_duplicates,
)
from gradescope_utils.autograder_utils.decorators import number, weight

from autograder.testing import Hint, Measure, assert_close, assert_equal


@number("3.2")
@weight(0.5)
def test_shingles_are_the_same_in_every_process(student, rng):
    """shingles gives exactly the numbers of the specification; jaccard compares such sets."""
    letters = ["a", "b", "Cat", "sat", "on"]
    texts = [
        "The cat  sat on\nthe mat", "the CAT sat on the mat", "two words", "one", "", "  \n ",
        "again and again and again and again",
        *(" ".join(rng.choice(letters, int(rng.integers(3, 40)))) for _ in range(10)),
    ]  # fmt: skip
    check_shingles(student, texts, [3, 2])
    sets = [np.unique(rng.integers(0, 60, n).astype(np.uint64)) for n in (0, 1, 20, 40, 40, 80)]
    pairs = [(a, b) for a in sets for b in sets]
    got = student.run(drivers.jaccards, pairs=[list(pair) for pair in pairs])
    for value, (a, b) in zip(got, pairs, strict=True):
        one, other = set(a.tolist()), set(b.tolist())
        wanted = len(one & other) / len(one | other) if one | other else 1.0
        assert_close(value, wanted, rtol=1e-12, name=f"jaccard of sets of {len(a)} and {len(b)}")


@number("3.2")
@weight(0.5)
def test_signatures_estimate_the_similarity(student, rng):
    """The share of equal entries in two signatures is the Jaccard similarity, within 0.1."""
    # By Hoeffding, the share of 1,024 independent entries is off by 0.1 or more with a probability
    # of at most 2 exp(-2 * 1024 * 0.01) = 2.6e-9, for each of 15 pairs; multiply-shift hashing is
    # not fully independent, and over 300 seeds its deviation was the binomial one within 1%.
    # One function for all entries makes them agree all or none.
    cases = [(0, 300), (30, 200), (150, 150), (400, 40), (250, 0)]  # common, own of each
    sets = []
    for common, own in cases:
        x = rng.integers(2**64, size=common + 2 * own, dtype=np.uint64)
        sets += [np.sort(x[: common + own]), np.sort(np.r_[x[:common], x[common + own :]])]
    seeds = rng.integers(2**31, size=3).tolist()
    got = student.run(drivers.signatures, sets=sets, permutations=1024, seeds=[*seeds, seeds[0]])
    for matrix in got:
        assert getattr(matrix, "dtype", None) == np.uint32, "signatures are an array of uint32"
        assert matrix.shape == (len(sets), 1024), f"shape {matrix.shape}, expected (10, 1024)"
        for place, (common, own) in enumerate(cases):
            share = float(np.mean(matrix[2 * place] == matrix[2 * place + 1]))
            wanted = common / (common + 2 * own)
            assert abs(share - wanted) <= 0.1, (
                f"two sets of similarity {wanted:.2f} agree in {share:.2f} of 1,024 entries\n"
                "hint: a hash function of its own for each entry, and the least value over the set"
            )
    assert_equal(got[3], got[0], name="signatures with the same seed, made again")
    assert np.mean(got[0][0] == got[1][0]) < 0.05, "another seed gave the same signature"


@number("3.2")
@weight(0.25)
def test_bands_are_as_selective_as_the_recall_allows(student, rng):
    """collision_probability is 1 - (1 - s^r)^b, and choose_bands takes the most rows it may."""
    cases = [(128, 0.8, 0.99), (128, 0.7, 0.99), (64, 0.5, 0.9), (16, 0.95, 0.5), (1, 0.5, 0.4)]
    cases += [
        (int(rng.integers(40, 300)), float(rng.uniform(0.3, 0.95)), float(rng.uniform(0.5, 0.99)))
        for _ in range(20)
    ]
    got = student.run(drivers.bands, cases=[*cases, (2, 0.1, 0.9)])
    for (permutations, threshold, recall), found in zip(cases, got[:-1], strict=True):
        about = f"choose_bands({permutations}, {threshold:.3f}, {recall:.3f})"
        fits = [
            (permutations // rows, rows)
            for rows in range(1, permutations + 1)
            if 1 - (1 - threshold**rows) ** (permutations // rows) >= recall
        ]
        assert not found["raised"], f"{about} raised ValueError, but {fits[-1]} is possible"
        answer = (found["bands"], found["rows"])
        assert answer == fits[-1], f"{about} is (bands, rows) = {answer}, expected {fits[-1]}"
        curve = 1 - (1 - np.linspace(0, 1, 11) ** answer[1]) ** answer[0]
        assert_close(found["curve"], curve, rtol=1e-9, atol=1e-12, name="collision_probability")
    assert got[-1]["raised"], "two permutations can't find a similarity of 0.1 with recall 0.9"


@number("3.2")
@weight(1)
def test_candidates_hold_the_similar_pairs_and_little_else(student, rng, figure):
    """At least 95% of the pairs above the threshold are among at most 1% of all pairs."""
    # Each similar pair is a candidate with a probability of at least 0.9998: that is what the bands
    # chosen for a recall of 0.99 give, 32 of 4 rows. Of about 200 pairs, nearly all in clusters of
    # two, 10 or more are missed with a probability below 1e-20. False candidates share one of 12
    # boilerplates, 0.7% of all pairs each; that two of these link all their texts (each by a band
    # whose four least hashes are in it) has a probability below 1e-12.
    threshold = 0.7
    texts = near_duplicates(rng, 500, 300)
    similar = exact_pairs(texts, threshold)
    assert len(similar) > 100, "the case is not what it should be"
    got = student.run(
        drivers.candidates, texts=texts, permutations=128, threshold=threshold, recall=0.99,
        seed=int(rng.integers(2**31)),
    )  # fmt: skip
    found = check_pairs(got, len(texts))
    recall = len(found & similar.keys()) / len(similar)
    share = len(found) / (len(texts) * (len(texts) - 1) / 2)
    student.measure(Measure(name="recall of similar pairs", value=recall, unit="", full=0.95))
    student.measure(Measure(name="candidates / all pairs", value=share, unit="", full=0.01))
    assert share <= 0.01, (
        f"{share:.1%} of all pairs are candidates; 1% is allowed\n"
        "hint: two documents must agree in all rows of a band, not in one entry"
    )
    assert recall >= 0.95, (
        f"{recall:.1%} of the {len(similar)} pairs of similarity {threshold} and more are "
        "candidates; 95% are asked\nhint: one band in which they agree is enough"
    )


@number("3.2")
@weight(0.75)
def test_the_first_of_each_cluster_is_kept(student, rng):
    """deduplicate confirms candidates, links chains, and keeps the first of each cluster."""
    # At recall 0.9999999 the threshold's bands miss a pair with a probability of 1e-7, and pairs
    # more similar than the threshold far less often; some 100 pairs are above it.
    threshold = 0.6
    texts = near_duplicates(rng, 120, 70)
    chain = [texts[int(rng.integers(len(texts)))].split()]
    for _ in range(5):
        chain.append(changed(rng, chain[-1], 0.05))
    texts += [" ".join(words) for words in chain]
    texts += [texts[3], texts[7].upper(), texts[3]]
    # Close to the threshold from below: a band often matches, the exact similarity must refuse.
    texts += [" ".join(changed(rng, text.split(), 0.11)) for text in texts[:60]]
    texts = [texts[i] for i in rng.permutation(len(texts))]
    got = student.run(
        drivers.deduplicated, texts=texts, threshold=threshold, permutations=256,
        recall=0.9999999, seed=int(rng.integers(2**31)),
    )  # fmt: skip
    check_deduplication(got, texts, threshold)
    # Two of four shingles in common, exactly the threshold; and two of five.
    texts = ["a b c d e", "v w x", "a b c d f", "k l m n", "k l m o p q", "X Y Z"]
    got = student.run(
        drivers.deduplicated, texts=texts, threshold=0.5, permutations=256, recall=0.9999999,
        seed=int(rng.integers(2**31)),
    )  # fmt: skip
    check_deduplication(got, texts, 0.5)
    graphs = [(n, rng.integers(0, n, (n // 2, 2))) for n in (2, 10, 50, 400)]
    for (count, pairs), found in zip(
        graphs, student.run(drivers.clusters, cases=graphs), strict=True
    ):
        assert_equal(
            found, components(count, pairs.tolist()), name=f"clusters of {count}",
            hint=Hint("the least member of each connected component; link roots, not members"),
        )  # fmt: skip
