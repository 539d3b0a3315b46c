"""Task 3.9: log-probabilities of responses, DPO with one copy of the base, reward heads."""

from __future__ import annotations

import drivers_preference as drivers
import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight
from lora_cases import folded, random_adapter
from preference_cases import (
    SMALL,
    Asked,
    last_hidden,
    liked_pairs,
    log_sigmoid,
    random_asked,
    random_rows,
    sigmoid,
    token_log_probs,
)
from tiny_model import random_weights

from autograder.testing import Hint, Measure, assert_close, assert_equal, reported_by_worker

SHIFT = "the logits at t − 1 predict the token at t"
ONE_MODEL = "reward 0: the reference is the policy; are the adapters off in it?"


@number("3.9")
@weight(1)
def test_log_probs_of_responses(student, rng):
    """By token and summed, for rows of mixed lengths; 0 outside the responses."""
    weights = random_weights(rng, SMALL)
    for temperature in (1.0, 0.7):
        asked = random_asked(rng)
        got = student.run(
            drivers.log_probs, sizes=SMALL.fields(), weights=weights, temperature=temperature,
            **asked.fields(),
        )  # fmt: skip
        expected = token_log_probs(weights, SMALL, asked, temperature)
        assert (got["mask"] == (expected != 0)).all(), "the oracle's own responses are misplaced"
        assert_close(
            got["tokens"], expected, rtol=1e-5, atol=1e-6,
            name=f"log p by token at temperature {temperature}", hint=SHIFT,
        )  # fmt: skip
        whole = token_log_probs(weights, SMALL, asked).sum(1)
        assert_close(
            got["sequences"], whole, rtol=1e-5, name="log p of whole responses",
            hint="a sum over the response's tokens, at temperature 1: no mean, no prompt tokens",
        )  # fmt: skip
        assert np.isfinite(got["gradient"]).all() and np.any(got["gradient"]), (
            "the log-probabilities must carry a finite gradient, and not zero"
        )


@number("3.9")
@reported_by_worker
@weight(0.5)
def test_logits_are_made_for_response_tokens_only(student, rng):
    """One row of logits for each response token: at 49,152 tokens a row, prompts cost most."""
    weights = random_weights(rng, SMALL)
    asked = Asked(random_rows(rng, [9, 12]), random_rows(rng, [2, 3]))
    rows = student.run(
        drivers.rows_of_logits, sizes=SMALL.fields(), weights=weights, **asked.fields()
    )
    assert rows == 5, (
        f"{rows} rows of logits were made for responses of 2 and 3 tokens; expected 5: choose the "
        "hidden states that predict a response token, then call model.logits"
    )


@number("3.9")
@weight(1)
def test_dpo_loss_is_the_closed_form(student, rng):
    """−log σ(β·(difference of log-ratios)), its gradient, its implicit rewards."""
    for pairs, beta, smoothing in ((1, 0.1, 0.0), (6, 0.5, 0.0), (5, 0.3, 0.2)):
        policy, reference = rng.normal(-20, 5, (2, pairs)), rng.normal(-20, 5, (2, pairs))
        got = student.run(
            drivers.loss_of, policy=policy, reference=reference, beta=beta,
            label_smoothing=smoothing,
        )  # fmt: skip
        ratio = beta * (policy - reference)
        margin = ratio[0] - ratio[1]
        losses = -(1 - smoothing) * log_sigmoid(margin) - smoothing * log_sigmoid(-margin)
        slope = -beta * (sigmoid(-margin) - smoothing) / pairs
        about = f"{pairs} pairs, β = {beta}, label_smoothing {smoothing}"
        assert got["shape"] == [], f"the loss has shape {got['shape']}; a scalar is expected"
        assert_close(got["loss"], losses.mean(), rtol=1e-9, name=f"loss, {about}")
        assert_close(
            got["policy gradient"], np.stack([slope, -slope]), rtol=1e-8, atol=1e-12,
            name=f"gradient of the policy's log-probabilities, {about}",
        )  # fmt: skip
        assert_close(got["chosen"], ratio[0], rtol=1e-9, name=f"rewards of the chosen, {about}")
        assert_close(got["rejected"], ratio[1], rtol=1e-9, name=f"rewards of the rejected, {about}")
        assert got["detached"], "the rewards are for the record: detach them"


@number("3.9")
@reported_by_worker
@weight(0.5)
def test_a_new_adapter_is_its_own_reference(student, rng):
    """With B = 0 the loss is log 2 to the last digits, and its gradient moves B and not A."""
    weights = random_weights(rng, SMALL)
    prompts = random_rows(rng, [3, 1, 4])
    sides = {"chosen": random_rows(rng, [2, 5, 1]), "rejected": random_rows(rng, [4, 2, 3])}
    got = student.run(
        drivers.step, sizes=SMALL.fields(), weights=weights, adapter={}, rank=3, alpha=6.0,
        beta=0.2, prompts=prompts, **sides,
    )  # fmt: skip
    assert_close(
        got["loss"], np.log(2), rtol=1e-6, name="the loss of a new adapter",
        hint=Hint(values="policy and reference are one model here: the margin is 0", dtype=""),
    )  # fmt: skip
    moved = sorted(n for n, g in got["gradients"].items() if np.abs(g).max() > 1e-7)
    assert moved and all(name.endswith(".lora_b") for name in moved), (
        f"gradients that are not zero: {moved or 'none'}; expected those of every lora_b. The "
        "reference's log-probabilities are a constant, the policy's are not"
    )
    assert len(moved) == 2 * SMALL.num_layers, f"only {moved} got a gradient"
    assert got["training"], "the model was left in eval mode"


@number("3.9")
@weight(1)
def test_a_step_with_an_adapter_is_that_of_two_models(student, rng):
    """Loss and rewards equal those of base and adapted model, made apart by the tests."""
    weights, rank, alpha, beta = random_weights(rng, SMALL), 2, 5.0, 0.4
    adapter = random_adapter(rng, SMALL, rank, ["query", "value"], 0.2)
    prompts = random_rows(rng, [3, 1, 4])
    sides = {"chosen": random_rows(rng, [2, 5, 1]), "rejected": random_rows(rng, [4, 2, 3])}
    got = student.run(
        drivers.step, sizes=SMALL.fields(), weights=weights, adapter=adapter, rank=rank,
        alpha=alpha, beta=beta, prompts=prompts, **sides,
    )  # fmt: skip
    both = folded(weights, adapter, rank, alpha)
    ratio = [
        beta * (token_log_probs(both, SMALL, asked) - token_log_probs(weights, SMALL, asked)).sum(1)
        for asked in (Asked(prompts, side) for side in sides.values())
    ]
    assert np.abs(ratio[0] - ratio[1]).min() > 1e-3, "the case tells nothing apart"
    nothing = max(np.abs(got[side]).max(initial=0) for side in sides) < 1e-5
    hint = ONE_MODEL if nothing else "β · (log p with the adapters on − log p with them off)"
    for side, expected in zip(sides, ratio, strict=True):
        assert_close(
            got[side], expected, rtol=1e-3, atol=1e-4, name=f"rewards of the {side}", hint=hint
        )
    loss = -log_sigmoid(ratio[0] - ratio[1]).mean()
    assert_close(got["loss"], loss, rtol=1e-3, atol=1e-5, name="the loss")


@number("3.9")
@weight(0.5)
def test_the_reward_is_read_at_the_last_token(student, rng):
    """A head's score of rows of mixed lengths; zeros to start from; a value for every prefix."""
    weights, asked = random_weights(rng, SMALL), random_asked(rng)
    head, bias = rng.standard_normal(SMALL.hidden_size), 0.75
    got = student.run(
        drivers.rewards, sizes=SMALL.fields(), weights=weights, head=head, bias=bias,
        **asked.fields(),
    )  # fmt: skip
    expected = last_hidden(weights, SMALL, asked) @ head + bias
    assert np.ptp(expected) > 0.5, "all expected scores are alike"
    # The head's parameters are float32.
    assert_close(
        got["scores"], expected, rtol=1e-4, atol=1e-4, name="scores",
        hint="read the hidden state at responses.last; what follows it is padding",
    )  # fmt: skip
    assert_equal(got["start"][0], np.zeros_like(got["start"][0]), name="a new head's weight")
    assert np.shape(got["values"]) == (5, asked.time), "one value for each position"


@number("3.9")
@weight(0.5)
def test_dpo_learns_a_preference_it_was_not_shown(student, rng):
    """After 40 steps, the implicit rewards order ≥ 70% of held-out pairs, by the tests' own sums."""
    weights = random_weights(rng, SMALL, 0.1)
    tokens = rng.permutation(SMALL.vocab_size).tolist()
    liked, others = tokens[:8], tokens[8:]
    model = student.session(
        drivers.pairs, sizes=SMALL.fields(), weights=weights, rank=4, alpha=8.0
    )
    losses = []
    for _ in range(40):
        prompts, chosen, rejected = liked_pairs(rng, 16, liked, others)
        asked = {"prompts": prompts, "chosen": chosen, "rejected": rejected}
        losses.append(model.call("train", beta=0.5, **asked))
    both = folded(weights, model.call("adapter"), 4, 8.0)
    prompts, chosen, rejected = liked_pairs(rng, 200, liked, others)
    reward = [
        (token_log_probs(both, SMALL, asked) - token_log_probs(weights, SMALL, asked)).sum(1)
        for asked in (Asked(prompts, chosen), Asked(prompts, rejected))
    ]
    # Right code reaches 0.917 ± 0.034 (500 seeds, the least 0.815): 0.7 is six deviations off. An
    # order by chance has 0.5 ± 0.035 on 200 pairs and passes with a probability of 1e-8.
    accuracy = float((reward[0] > reward[1]).mean())
    student.measure(Measure(name="held-out pairs in order after 40 steps", value=accuracy, full=0.7))
    assert accuracy >= 0.7, (
        f"{accuracy:.0%} of held-out pairs are ordered as preferred; 70% are asked. The losses went "
        f"from {losses[0]:.3f} to {losses[-1]:.3f}"
    )
