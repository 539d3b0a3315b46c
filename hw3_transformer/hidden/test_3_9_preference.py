"""Task 3.9, hidden: far margins, the reference in training mode, one copy, ratings, reward heads."""

from __future__ import annotations

import drivers_preference as drivers
import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight
from lora_cases import folded, oracle_logits, random_adapter
from preference_cases import (
    SMALL,
    Asked,
    fitted_head,
    last_hidden,
    liked_pairs,
    log_sigmoid,
    random_rows,
    sigmoid,
)
from tiny_model import Sizes, random_weights

from autograder.testing import Measure, assert_close, assert_equal, reported_by_worker

# 123 MB of embedding: a second copy of the base can't hide.
LARGE = Sizes(
    vocab_size=60_000, hidden_size=512, num_layers=1, num_heads=8, num_kv_heads=4,
    intermediate_size=512,
)  # fmt: skip


@number("3.9")
@weight(0.5)
def test_margins_far_out_stay_finite(student, rng):
    """Log-ratios of ±1e4 and equal ones: finite loss, finite gradient, the right one."""
    policy = np.array([[-1e4, 0.0, -3.0, -2e4], [0.0, -1e4, -3.0, -2e4]])
    reference = np.zeros((2, 4))
    for beta, smoothing in ((1.0, 0.0), (0.1, 0.25)):
        got = student.run(
            drivers.loss_of, policy=policy, reference=reference, beta=beta,
            label_smoothing=smoothing,
        )  # fmt: skip
        margin = beta * (policy[0] - policy[1])
        losses = -(1 - smoothing) * log_sigmoid(margin) - smoothing * log_sigmoid(-margin)
        slope = -beta * (sigmoid(-margin) - smoothing) / 4
        assert_close(got["loss"], losses.mean(), rtol=1e-9, name="the loss at margins of ±1e4")
        assert_close(
            got["policy gradient"], np.stack([slope, -slope]), rtol=1e-8, atol=1e-12,
            name="the gradient at margins of ±1e4",
        )  # fmt: skip


@number("3.9")
@weight(0.5)
def test_the_reference_is_the_base_in_eval_mode(student, rng):
    """Inside: no adapter, no dropout of any module, no graph. Afterwards all is as it was."""
    weights, rank, alpha = random_weights(rng, SMALL), 2, 4.0
    adapter = random_adapter(rng, SMALL, rank, ["query", "value"])
    ids = rng.integers(0, SMALL.vocab_size, (2, 7))
    got = student.run(
        drivers.reference_mode, sizes=SMALL.fields(), weights=weights, adapter=adapter, rank=rank,
        alpha=alpha, ids=ids,
    )  # fmt: skip
    plain = oracle_logits(weights, SMALL, ids)
    assert_close(
        got["inside"], plain, rtol=1e-3, atol=1e-3, name="logits inside as_reference",
        hint="adapters off, and every module in eval mode: dropout makes the reference a die",
    )  # fmt: skip
    adapted = oracle_logits(folded(weights, adapter, rank, alpha), SMALL, ids)
    assert_close(got["after"], adapted, rtol=1e-3, atol=1e-3, name="logits after as_reference")
    assert not got["recorded"], "the reference's logits carry a graph"
    assert got["kept"], "a module's own training flag was not put back, or an error was swallowed"
    assert got["trains"], "after as_reference nothing gets a gradient any more"


@number("3.9")
@reported_by_worker
@weight(0.5)
def test_dropout_reaches_the_policy_and_not_the_reference(student, rng):
    """In training mode the policy drops, so two seeds differ; a new adapter still gives log 2."""
    weights, rank = random_weights(rng, SMALL), 3
    adapter = random_adapter(rng, SMALL, rank, ["query", "value"])
    prompts = random_rows(rng, [3, 2])
    asked = {
        "sizes": SMALL.fields(), "weights": weights, "rank": rank, "alpha": 6.0, "beta": 0.3,
        "prompts": prompts, "chosen": random_rows(rng, [3, 2]),
        "rejected": random_rows(rng, [1, 4]), "dropout": 0.4,
    }  # fmt: skip
    first, second = (student.run(drivers.step, adapter=adapter, seed=s, **asked) for s in (1, 2))
    assert first["loss"] != second["loss"], "the policy's dropout is off while it trains"
    fresh = student.run(drivers.step, adapter={}, seed=1, **asked)
    assert_close(fresh["loss"], np.log(2), rtol=1e-6, name="the loss of a new adapter with dropout")


@number("3.9")
@weight(0.5)
def test_the_base_is_there_once(student, rng):
    """A step's peak stays below half of a second copy of the base (123 MB)."""
    model = student.session(drivers.large_pairs, sizes=LARGE.fields(), seed=1, rank=4, alpha=8.0)
    prompts = random_rows(rng, [3, 3], LARGE.vocab_size)
    asked = {"prompts": prompts, "chosen": random_rows(rng, [2, 2], LARGE.vocab_size),
             "rejected": random_rows(rng, [2, 2], LARGE.vocab_size)}  # fmt: skip
    model.call("train", beta=0.1, **asked)  # what torch makes at the first step is made
    held = model.resident_bytes()
    student.worker.reset_peak()
    loss = model.call("train", beta=0.1, **asked)
    extra = (student.worker.peak_bytes() - held) / 2**20
    assert np.isfinite(loss), "the loss is not finite"
    student.measure(Measure(name="a step's peak, MB; a copy of the base has 123", value=extra, full=60))
    assert extra < 60, (
        f"a step held {extra:.0f} MB more than the model, whose base has 123 MB: the reference is "
        "the same model with its adapters off, not a copy"
    )


@number("3.9")
@weight(0.5)
def test_pairs_of_ratings(student, rng):
    """Every two answers whose ratings differ enough, preferred first; ties make no pair."""
    for size, gap in ((0, 1.0), (1, 1.0), (2, 0.5), (9, 1.5), (12, 0.25)):
        ratings = np.round(rng.uniform(-4, 4, size) * 2) / 2
        expected = [
            (i, j) if ratings[i] > ratings[j] else (j, i)
            for i in range(size) for j in range(i + 1, size)
            if abs(ratings[i] - ratings[j]) >= gap
        ]  # fmt: skip
        got = student.run(drivers.pair_up, ratings=ratings, least_gap=gap)
        assert np.shape(got) == (len(expected), 2), (
            f"{np.shape(got)} from ratings {ratings.tolist()} and gap {gap}; {len(expected)} pairs"
        )
        expected = np.array(expected, np.int64).reshape(-1, 2)
        assert_equal(got, expected, name=f"pairs of ratings {ratings.tolist()}, gap {gap}")
    for gap in (0.0, -1.0):
        student.raises(drivers.pair_up, "ValueError", ratings=np.zeros(3), least_gap=gap)


@number("3.9")
@weight(0.5)
def test_bradley_terry_and_a_head_that_learns(student, rng):
    """The loss with and without margins; a trained head orders held-out pairs."""
    for margin in (0.0, 0.5, rng.uniform(0, 2, 7)):
        sides = rng.normal(0, 3, (2, 7))
        sides[:, 0] = (1e4, -1e4)
        got = student.run(
            drivers.bradley_terry, chosen=sides[0], rejected=sides[1], margin=margin
        )
        gap = sides[0] - sides[1] - margin
        assert_close(got["loss"], -log_sigmoid(gap).mean(), rtol=1e-9, name="Bradley–Terry loss")
        slope = -sigmoid(-gap) / 7
        assert_close(
            got["gradients"], np.stack([slope, -slope]), rtol=1e-8, atol=1e-12,
            name="gradients of the Bradley–Terry loss",
        )  # fmt: skip
    weights = random_weights(rng, SMALL, 0.1)
    tokens = rng.permutation(SMALL.vocab_size).tolist()
    prompts, chosen, rejected = liked_pairs(rng, 100, tokens[:8], tokens[8:])
    head = student.run(
        drivers.train_head, sizes=SMALL.fields(), weights=weights, prompts=prompts, chosen=chosen,
        rejected=rejected, steps=60, rate=0.05,
    )  # fmt: skip
    sides = [last_hidden(weights, SMALL, Asked(prompts, side)) for side in (chosen, rejected)]
    own, losses = fitted_head(sides[0] - sides[1], steps=60, rate=0.05)
    assert losses[-1] < 0.9 * losses[0], "the case teaches nothing: a fault of this test"
    assert_close(
        np.array(head["losses"]), losses, rtol=5e-3, atol=1e-4, name="the losses of 60 steps",
        hint="score reads the last token; only the head trains, and the loss is the pairs' mean",
    )  # fmt: skip
    prompts, chosen, rejected = liked_pairs(rng, 300, tokens[:8], tokens[8:])
    held = [last_hidden(weights, SMALL, Asked(prompts, side)) for side in (chosen, rejected)]
    accuracy, asked = (float((((held[0] - held[1]) @ w) > 0).mean()) for w in (head["weight"], own))
    # How much a head can know is a matter of the random model it reads: the tests' own is the bar.
    name = "held-out pairs in order by the head"
    student.measure(Measure(name=name, value=accuracy, unit="", full=asked - 0.03))
    assert accuracy >= asked - 0.03, (
        f"the trained head orders {accuracy:.0%} of held-out pairs; the same head over the same "
        f"hidden states, trained by the tests, orders {asked:.0%}"
    )
