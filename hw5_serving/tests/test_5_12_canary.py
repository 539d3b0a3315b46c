"""Task 5.12: sticky routing, evidence that may be looked at any time, rollback, drift."""

from __future__ import annotations

import drivers_canary as drivers
import numpy as np
import scipy.special
import scipy.stats
from canary_cases import (
    all_outcomes,
    drawn_counts,
    expected_evidence,
    expected_index,
    expected_position,
    keys_like,
    probability,
)
from gradescope_utils.autograder_utils.decorators import number, weight

from autograder.testing import Measure, assert_close, assert_equal


@number("5.12")
@weight(0.6)
def test_a_key_has_its_place_in_every_process(student, rng):
    """The stated hash, again in a second process; another rollout's name gives another place."""
    keys = keys_like(rng, 2000)
    wanted = np.array([expected_position(key, "blue") for key in keys])
    got = student.run(drivers.positions, keys=keys, salt="blue")
    assert_equal(got, wanted, name="places", hint="Python's hash() differs in every process")
    again = student.call(
        student.fresh(), drivers.positions, {"keys": keys[:50], "salt": "blue"}, None
    )
    assert_equal(again, wanted[:50], name="places in a second process")
    other = student.run(drivers.positions, keys=keys[:500], salt="green")
    assert_equal(other, np.array([expected_position(key, "green") for key in keys[:500]]),
                 name="places in another rollout")  # fmt: skip


@number("5.12")
@weight(0.6)
def test_the_share_is_kept_and_nobody_leaves_as_it_grows(student, rng):
    """Of 100,000 keys the stated share, within one point; a grown share holds the smaller one."""
    keys, steps = keys_like(rng, 100_000), [0.01, 0.1, 0.5, 0.9]
    got = np.array(student.run(drivers.routes, keys=keys, name="blue", steps=steps), bool)
    assert got.shape == (4, len(keys)), f"routes of shape {got.shape} came for 4 steps"
    for share, inside in zip(steps, got, strict=True):
        # Standard deviation ≤ sqrt(0.25 / 100,000) = 0.16 points: one point is 6.3 of them, 3e-10.
        assert abs(inside.mean() - share) <= 0.01, (
            f"{inside.mean():.2%} of the keys go to the canary, {share:.0%} should"
        )
    left = got[:-1] & ~got[1:]
    assert not left.any(), (
        f"{int(left.sum())} keys went back to the stable version as the share grew: compare one "
        "place per key with the share"
    )
    place = np.array([expected_position(key, "blue") for key in keys[:3000]])
    assert_equal(got[1][:3000], place < 0.1, name="keys inside a share of 0.1")


@number("5.12")
@weight(0.8)
def test_the_evidence_is_the_stated_one(student, rng):
    """Block after block against likelihoods; blocks with one version only wait; 10^6 requests."""
    runs = []
    for share, rate in ((0.1, 0.02), (0.5, 0.3), (0.9, 0.001)):
        runs.append(drawn_counts(rng, 1, 40, 25, share, rate, 2 * rate)[0].tolist())
    runs.append([[5, 1, 0, 0], [7, 0, 0, 0], [0, 0, 3, 2], [0, 0, 4, 0], [0, 0, 0, 0], [6, 1, 0, 0]])
    runs.append([[0, 0, 4, 4], [0, 0, 5, 5], [20, 0, 0, 0], [1, 1, 1, 0]])
    runs.append([[500_000, 5000, 500_000, 60_000]] * 2)
    got = student.run(drivers.evidence, blocks=runs, options={})
    for place, (own, run) in enumerate(zip(got, runs, strict=True)):
        wanted = expected_evidence(run)
        # Sums of ≤ 10^6 · |log| < 10^7 in float64.
        assert_close(np.array(own), np.array(wanted), rtol=1e-9, atol=1e-8,
                     name=f"log evidence by block, run {place}",
                     hint="bet with the rate seen *before* the block; join waiting blocks")  # fmt: skip


@number("5.12")
@weight(0.6)
def test_nobody_wins_on_average_where_the_versions_are_equal(student, rng):
    """Every outcome of two blocks, weighted with its probability: expected evidence ≤ 1."""
    rates = [0.01, 0.1, 0.3, float(rng.uniform(0.4, 0.9))]
    options = {"prior_bad": 3.0, "prior_requests": 10.0, "lifts": [3.0]}
    for sizes in ([[3, 2], [1, 3]], [[6, 1], [2, 2]], [[1, 5], [4, 1]]):
        runs = all_outcomes(sizes)
        won = np.exp([run[-1] for run in student.run(drivers.evidence, blocks=runs, options=options)])
        for rate in rates:
            mean = float(np.sum(won * [probability(run, rate, rate) for run in runs]))
            assert 0 < mean <= 1 + 1e-9, (
                f"blocks {sizes}, both rates {rate:.3g}: the evidence is {mean:.6g} on average; above "
                "1, it grows by itself where nothing is wrong (and 1/alpha promises nothing)"
            )
        worse = float(np.sum(won * [probability(run, 0.3, 0.5625) for run in runs]))
        assert worse > 1.05, f"a canary as bad as was bet on gives {worse:.3g} on average, > 1.05 asked"


@number("5.12")
@weight(1)
def test_looked_at_all_the_time_it_seldom_errs_and_finds_the_bad_one(student, rng):
    """1,000 A/A runs of 100 looks: ≤ 2% roll back. A canary at 10% against 2% is found by 4,000."""
    # Rejections of an exact test are Binomial(1000, ≤ 0.005): more than 20 with 7.2e-8. A z-test at
    # 0.5% at each of these looks rejects in 5.3% (40,000 simulated runs): ≤ 20 of 1,000 with 8e-7.
    equal = drawn_counts(rng, 1000, 100, 20, 0.5, 0.2, 0.2)
    first = np.array(student.run(drivers.first_rejections, runs=equal, options={}))
    assert first.shape == (1000,), f"{first.shape} answers for 1,000 runs"
    false = int((first >= 0).sum())
    student.measure(Measure(name="false rollbacks of 1,000 A/A runs", value=float(false)))
    assert false <= 20, f"{false} of 1,000 runs in which nothing differs are rolled back, at most 20"
    # Of 40,000 simulated runs 0.07% need more than 4,000 requests. Even at 1% more than 20 of 200
    # would be Binomial(200, 0.01) > 20: 2.5e-15.
    bad = drawn_counts(rng, 200, 200, 20, 0.1, 0.02, 0.1)
    first = np.array(student.run(drivers.first_rejections, runs=bad, options={}))
    found = first[first >= 0]
    assert len(found) >= 180, (
        f"{200 - len(found)} of 200 canaries with five times the errors are not rolled back within "
        "4,000 requests, at most 20 may stay"
    )
    student.measure(Measure(name="requests to a rollback, median", value=float(20 * np.median(found) + 20)))


@number("5.12")
@weight(0.6)
def test_a_rollout_goes_up_or_back(student, rng):
    """Step by step to promotion; bad outcomes roll back, for all keys, and it stays so."""
    keys = keys_like(rng, 300)
    place = np.array([expected_position(key, "blue") for key in keys])
    fine = [["record", "stable", False, 30], ["record", "canary", False, 10], ["look"]]
    story = student.run(drivers.rollout_story, events=[*fine[:2], fine[2], *fine, *fine], name="blue",
                        steps=[0.1, 0.4, 0.8], requests_per_step=10, keys=keys)  # fmt: skip
    assert_equal([s["share"] for s in story], [0.1, 0.1, 0.4, 0.4, 0.4, 0.8, 0.8, 0.8, 1.0],
                 name="shares while all goes well", hint="a step ends at a look")  # fmt: skip
    assert_equal(story[-1]["state"], "promoted", name="the state after the last step")
    assert_equal(story[-1]["history"], [[10, "running", 0.4], [20, "running", 0.8], [30, "promoted", 1.0]],
                 name="the history")  # fmt: skip
    for entry in story:
        assert_equal(np.array(entry["canary"]), place < entry["share"], name="who gets the canary")
    bad = [["record", "stable", False, 30], ["record", "canary", True, 10], ["look"],
           ["record", "canary", False, 500], ["record", "stable", True, 500], ["look"]]  # fmt: skip
    story = student.run(drivers.rollout_story, events=bad, name="blue", steps=[0.5, 0.9],
                        requests_per_step=10, keys=keys)  # fmt: skip
    assert_equal([s["state"] for s in story], ["running"] * 2 + ["rolled back"] * 4,
                 name="the states of a bad canary",
                 hint="evidence goes before the end of a step; what comes late changes nothing")  # fmt: skip
    for entry in story[2:]:
        assert_equal([entry["share"], sum(entry["canary"])], [0.0, 0], name="after a rollback")
        assert_close(entry["evidence"], story[2]["evidence"], rtol=0, name="evidence after it")
    assert_equal(story[-1]["history"], [[10, "rolled back", 0.0]], name="the history of a rollback")


@number("5.12")
@weight(0.6)
def test_distances_of_samples(student, rng):
    """The stability index and Kolmogorov–Smirnov against scipy, ties and empty bins included."""
    samples = [[rng.standard_normal(300), rng.standard_normal(80) + 0.5],
               [rng.integers(0, 4, 200).astype(float), rng.integers(1, 6, 90).astype(float)],
               [np.zeros(30), np.ones(7)], [rng.random(50), rng.random(50) + 9],
               [rng.standard_normal(40), np.array([0.1, -np.inf, np.inf])]]  # fmt: skip
    for own, (reference, values) in zip(
        student.run(drivers.stability_indices, cases=samples, bins=8), samples, strict=True
    ):
        edges = np.unique(np.quantile(reference, np.arange(1, 8) / 8))
        assert_close(own["edges"], edges, rtol=1e-12, atol=1e-12, name="edges")
        bounds = np.concatenate([[-np.inf], edges, [np.inf]])
        counted = [[int(((v > a) & (v <= b)).sum()) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
                   for v in (reference, np.maximum(values, -1e300))]  # fmt: skip
        assert_equal(own["reference"], np.array(counted[0]), name="the reference by bin")
        assert_equal(own["values"], np.array(counted[1]), name="the values by bin")
        assert_close(own["index"], expected_index(*counted), rtol=1e-9, atol=1e-12, name="index")
    wanted = [float(scipy.stats.ks_2samp(a, b, method="asymp").statistic) for a, b in samples[:4]]
    assert_close(np.array(student.run(drivers.two_samples, cases=samples[:4])), np.array(wanted),
                 rtol=1e-12, atol=1e-12, name="largest distances")  # fmt: skip
    cases = [[float(s), n, m] for s in (0.0, 0.01, 0.1, 0.3, 0.7, 1.0) for n, m in ((40, 60), (9, 2000))]
    wanted = [scipy.special.kolmogorov(s * np.sqrt(n * m / (n + m))) for s, n, m in cases]
    assert_close(np.array(student.run(drivers.p_values, cases=cases)), np.array(wanted), rtol=1e-8,
                 atol=1e-13, name="p-values")  # fmt: skip
