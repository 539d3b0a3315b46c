"""Task 5.12, hidden: other alphas and lifts, manual rollback, drift over many windows."""

from __future__ import annotations

import drivers_canary as drivers
import numpy as np
from canary_cases import (
    all_outcomes,
    drawn_counts,
    expected_evidence,
    expected_reports,
    keys_like,
    probability,
)
from gradescope_utils.autograder_utils.decorators import number, weight

from autograder.testing import assert_close, assert_equal


@number("5.12")
@weight(0.8)
def test_evidence_with_other_stakes(student, rng):
    """Other lifts and priors; a better canary never gains by being better."""
    lifts, prior = (1.2, 3.0, 20.0), (2.0, 7.0)
    runs = [drawn_counts(rng, 1, 60, 9, share, 0.1, 0.15)[0].tolist() for share in (0.05, 0.4)]
    options = {"lifts": list(lifts), "prior_bad": prior[0], "prior_requests": prior[1]}
    got = student.run(drivers.evidence, blocks=runs, options=options)
    for own, run in zip(got, runs, strict=True):
        assert_close(np.array(own), np.array(expected_evidence(run, lifts, prior)), rtol=1e-9,
                     atol=1e-9, name="log evidence by block")  # fmt: skip
    runs = all_outcomes([[2, 3], [3, 1]])
    won = np.exp([run[-1] for run in student.run(drivers.evidence, blocks=runs, options=options)])
    for rate, better in ((0.3, 0.1), (0.6, 0.5), (0.05, 0.01)):
        mean = float(np.sum(won * [probability(run, rate, better) for run in runs]))
        assert 0 < mean <= 1 + 1e-9, f"a better canary gives evidence {mean:.6g} on average, above 1"


@number("5.12")
@weight(0.8)
def test_a_rollout_with_late_and_manual_events(student, rng):
    """One evidence over all steps; a manual rollback is final; after promotion it is an error."""
    keys = keys_like(rng, 50)
    part = [["record", "stable", False, 19], ["record", "stable", True, 1],
            ["record", "canary", False, 11], ["record", "canary", True, 1], ["look"]]  # fmt: skip
    story = student.run(drivers.rollout_story, events=[*part, *part, *part], name="n",
                        steps=[0.2, 0.3, 0.5, 1.0], requests_per_step=12, keys=keys)  # fmt: skip
    wanted = expected_evidence([[20, 1, 12, 1]] * 3)
    got = np.array([story[i]["evidence"] for i in (4, 9, 14)])
    assert_close(got, np.array(wanted), rtol=1e-9, atol=1e-12,
                 name="evidence after each step", hint="it goes on over the steps")  # fmt: skip
    events = [["record", "canary", False, 5], ["rollback", "by hand"], ["rollback", "again"],
              ["record", "canary", False, 50], ["look"], ["record", "other", False, 1]]  # fmt: skip
    story = student.run(drivers.rollout_story, events=events, name="n", steps=[0.2],
                        requests_per_step=5, keys=keys)  # fmt: skip
    assert_equal([s["state"] for s in story], ["running"] + ["rolled back"] * 5, name="states")
    assert_equal(story[-1]["history"], [[5, "rolled back", 0.0]], name="the history")
    assert_equal(story[-1]["raised"], "ValueError", name="what an unknown version raises")
    events = [["record", "stable", False, 5], ["record", "canary", False, 5], ["look"],
              ["rollback", "too late"], ["record", "canary", True, 900], ["look"]]  # fmt: skip
    story = student.run(drivers.rollout_story, events=events, name="n", steps=[0.2],
                        requests_per_step=5, keys=keys)  # fmt: skip
    assert_equal([s["state"] for s in story[2:]], ["promoted"] * 4, name="states once promoted")
    assert_equal(story[3]["raised"], "RuntimeError", name="what a rollback after promotion raises")


@number("5.12")
@weight(1)
def test_drift_window_after_window(student, rng):
    """Reports against scipy however the values come in; an alarm needs surety and size."""
    reference = np.concatenate([rng.standard_normal(700), np.zeros(100)])
    stream = np.concatenate([rng.standard_normal(310), rng.standard_normal(500) + 0.8, np.zeros(45)])
    cuts = [0, 0, 7, 49, 50, 51, 260, 600, 855]
    calls = [stream[a:b] for a, b in zip(cuts[:-1], cuts[1:], strict=True)]
    for limit in (0.1, 0.9):
        options = {"window": 50, "alpha": 0.02, "index_limit": limit}
        got = student.run(drivers.watched, reference=reference, calls=calls, options=options)
        wanted = expected_reports(reference, stream, 50, 0.02, limit)
        counts = [stop // 50 - start // 50 for start, stop in zip(cuts[:-1], cuts[1:], strict=True)]
        assert_equal([len(own) for own in got], counts, name="reports by call")
        assert_close(np.array(sum(got, [])), np.array(wanted), rtol=1e-8, atol=1e-13,
                     name="window, index, statistic, p-value, alarm",
                     hint="window i may spend 6 alpha / (pi i)^2")  # fmt: skip
        assert {row[-1] for row in wanted} == {0, 1}, "the case should have alarms and none"


@number("5.12")
@weight(0.6)
def test_nan_is_refused_whole(student, rng):
    """NaN among live values: ValueError, and nothing of that call is kept."""
    reference, good = rng.standard_normal(60), rng.standard_normal(20)
    refused, statistics = student.run(drivers.refused_then, reference=reference,
                                      bad=np.array([5.0, np.nan, 5.0]), good=good, window=20)  # fmt: skip
    assert refused, "NaN was taken: it compares with nothing, and every bin and order is wrong"
    wanted = [r[2] for r in expected_reports(reference, good, 20, 0.01, 0.1)]
    assert_close(np.array(statistics), np.array(wanted), rtol=1e-12, name="the window after NaN")
    student.raises(drivers.watched, "ValueError", reference=np.array([1.0, np.nan]), calls=[],
                   options={"window": 5})  # fmt: skip
