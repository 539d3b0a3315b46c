"""Task 3.10, hidden: what lies outside the mask, empty responses, chance, updates, whole steps."""

from __future__ import annotations

import drivers_reinforcement as drivers
import numpy as np
from generation_cases import assert_frequencies
from gradescope_utils.autograder_utils.decorators import number, weight
from lora_cases import folded, random_adapter
from preference_cases import Asked, last_hidden, random_rows
from reinforcement_cases import (
    TINY,
    Learner,
    advantages_by_definition,
    assert_rows,
    assert_same_shapes,
    both_sides,
    clipped_gain,
    grpo_step,
    pair_case,
    poisoned,
    ppo_step,
    random_mask,
    rollout_log_probs,
    row_means,
    row_weights,
)
from tiny_model import Sizes, random_weights, tensors

from autograder.testing import assert_close, assert_equal

FIVE = Sizes(
    vocab_size=5, hidden_size=16, num_layers=1, num_heads=2, num_kv_heads=1, intermediate_size=24
)


@number("3.10")
@weight(0.5)
def test_gae_at_its_limits(student, rng):
    """Nothing outside the stretch matters; λ = 0, λ = 1, γ = 0; no gradient into the values."""
    for gamma, lam in ((0.9, 0.8), (0.95, 0.0), (0.9, 1.0), (0.0, 1.0)):
        mask = random_mask(rng, 4, 10)
        rewards, values = rng.normal(0, 1, (2, 4, 10))
        arrays = {
            "rewards": poisoned(rng, rewards, mask), "values": poisoned(rng, values, mask),
            "mask": mask,
        }  # fmt: skip
        got = student.run(drivers.estimate, arrays=arrays, gamma=gamma, lam=lam)
        expected = advantages_by_definition(rewards, values, mask, gamma, lam)
        assert_close(got["advantages"], expected, rtol=1e-9, atol=1e-10, name="advantages")
        returns = np.where(mask, expected + values, 0)
        assert_close(got["returns"], returns, rtol=1e-9, atol=1e-10, name="returns")
        assert not got["recorded"], f"{got['recorded']} carry a graph into the values"


@number("3.10")
@weight(1)
def test_what_lies_outside_the_mask_never_matters(student, rng):
    """nan, inf and 1e300 there change no loss and no gradient; an empty mask gives 0."""
    mask, clip = random_mask(rng, 5, 12), 0.25
    log_ratio, advantages = both_sides(rng, mask.shape, clip)
    old, reference = rng.normal(-3, 1, (2, *mask.shape))
    now, by_row = old + log_ratio, rng.choice([-1.0, 1.0], 5) * rng.uniform(0.5, 1, 5)
    good = {"log_probs": now, "old_log_probs": old, "reference_log_probs": reference}
    bad = {name: poisoned(rng, array, mask) for name, array in good.items()}
    ppo = {
        "log_probs": bad["log_probs"], "old_log_probs": bad["old_log_probs"],
        "advantages": poisoned(rng, advantages, mask), "mask": mask,
    }  # fmt: skip
    got = student.run(drivers.loss_of, name="ppo_clip_loss", arrays=ppo, options={"clip": clip})
    gain, slope = clipped_gain(log_ratio, advantages, clip)
    _same(got, -gain[mask].mean(), np.where(mask, -slope / mask.sum(), 0), "log_probs")
    grpo = {**bad, "advantages": by_row, "mask": mask}
    options = {"clip": clip, "beta": 0.4}
    got = student.run(drivers.loss_of, name="grpo_loss", arrays=grpo, options=options)
    gain, slope = clipped_gain(log_ratio, np.broadcast_to(by_row[:, None], mask.shape), clip)
    gap = reference - now
    value = -row_means(gain - 0.4 * (np.exp(gap) - gap - 1), mask)
    _same(got, value, -(slope - 0.4 * (1 - np.exp(gap))) * row_weights(mask), "log_probs")
    values, old_values, returns = rng.normal(0, 1, (3, *mask.shape))
    arrays = {"values": values, "old_values": old_values, "returns": returns}
    arrays = {n: poisoned(rng, a, mask) for n, a in arrays.items()} | {"mask": mask}
    got = student.run(
        drivers.loss_of, name="clipped_value_loss", arrays=arrays, options={"clip": 0.3}
    )
    near = np.clip(values, old_values - 0.3, old_values + 0.3)
    plain, bound = (values - returns) ** 2, (near - returns) ** 2
    moves = mask & ((plain > bound) | (values == near))
    slope = np.where(moves, (values - returns) / mask.sum(), 0)
    _same(got, 0.5 * np.maximum(plain, bound)[mask].mean(), slope, "values")
    got = student.run(
        drivers.spread, kl=0.2, arrays={
            "scores": np.zeros(5), "log_probs": bad["log_probs"],
            "reference_log_probs": bad["reference_log_probs"], "mask": mask,
        },
    )  # fmt: skip
    assert_close(got["rewards"], np.where(mask, 0.2 * gap, 0), rtol=1e-9, name="token_rewards")
    nothing = {**ppo, "mask": np.zeros_like(mask)}
    got = student.run(drivers.loss_of, name="ppo_clip_loss", arrays=nothing, options={"clip": clip})
    assert got["loss"] == 0 and not got["gradients"], f"no entry: {got}; expected 0 and no gradient"
    white = student.run(drivers.whitened, advantages=poisoned(rng, advantages, mask), mask=mask)
    inside = advantages[mask]
    expected = np.where(mask, (advantages - inside.mean()) / inside.std(), 0)
    assert_close(white, expected, rtol=1e-6, atol=1e-9, name="whitened advantages")
    for same in (np.full((1, 1), 3.5), np.full((2, 7), 0.1), np.full((3, 5), 1e5 / 3)):
        every = same.astype(np.float32)
        white = student.run(drivers.whitened, advantages=every, mask=np.ones(same.shape, bool))
        assert_equal(
            white, np.zeros_like(every), name=f"whitened: {same.size} times {same.flat[0]:g}",
            hint="rounding divided by rounding is not small",
        )  # fmt: skip


def _same(got, value, slope, name):
    """A loss, and its gradient of the one argument that has one."""
    about = "with nan and inf outside the mask"
    assert_close(got["loss"], value, rtol=1e-9, name=f"the loss {about}")
    assert_close(
        got["gradients"][name], slope, rtol=1e-8, atol=1e-12, name=f"gradient of {name} {about}",
        hint="fill what is outside the mask before you compute with it: 0 · nan is nan in backward",
    )  # fmt: skip
    assert sorted(got["gradients"]) == [name], f"gradients reached {sorted(got['gradients'])}"


@number("3.10")
@weight(0.5)
def test_grpo_with_empty_responses_and_a_reference(student, rng):
    """Responses without a token count for nothing; β pulls also at an advantage of 0."""
    mask, clip = random_mask(rng, 6, 10), 0.2
    mask[[2, 4]] = False
    log_ratio, _ = both_sides(rng, mask.shape, clip)
    old, reference = rng.normal(-3, 1, (2, *mask.shape))
    now = old + log_ratio
    for size, beta in ((1.0, 0.0), (0.0, 0.7), (1.0, 0.1)):
        advantages = size * rng.normal(0, 1, 6)
        given = {
            "log_probs": now, "old_log_probs": old, "advantages": advantages, "mask": mask,
            "reference_log_probs": reference,
        }  # fmt: skip
        options = {"clip": clip, "beta": beta}
        got = student.run(drivers.loss_of, name="grpo_loss", arrays=given, options=options)
        each = np.broadcast_to(advantages[:, None], mask.shape)
        gain, slope = clipped_gain(log_ratio, each, clip)
        gap = reference - now
        gain, slope = gain - beta * (np.exp(gap) - gap - 1), slope - beta * (1 - np.exp(gap))
        about = f"β = {beta}, 2 of 6 responses empty"
        assert_close(got["loss"], -row_means(gain, mask), rtol=1e-9, name=f"grpo_loss, {about}")
        assert_close(
            got["gradients"]["log_probs"], -slope * row_weights(mask), rtol=1e-8, atol=1e-12,
            name=f"gradient of grpo_loss, {about}",
        )  # fmt: skip
        assert sorted(got["gradients"]) == ["log_probs"], f"gradients: {sorted(got['gradients'])}"
    scores = student.run(
        drivers.spread, kl=0.0, arrays={
            "scores": np.full(6, 5.0), "log_probs": now, "reference_log_probs": old, "mask": mask,
        },
    )["rewards"]  # fmt: skip
    assert_equal(scores.sum(1), np.where(mask.any(1), 5.0, 0.0), name="token_rewards by row")


@number("3.10")
@weight(0.75)
def test_responses_are_drawn_from_the_policy(student, rng):
    """Pairs of tokens by chi-square, whole groups independent; one seed, one rollout."""
    # Twice 4,000 pairs in 25 classes: a right sampler fails with probability 2e-7 in all. One that
    # ignores the temperature, or draws the second token without the first, is caught with more
    # than 0.999, each time: `pair_case` draws a model for which that is so.
    weights, prompts, right = pair_case(rng, FIVE, 0.6, 4000)
    policy = student.session(drivers.policy, sizes=FIVE.fields(), weights=weights)
    call = {"prompts": prompts, "group_size": 4000, "max_new_tokens": 2, "temperature": 0.6}
    drawn = policy.call("tokens_only", seed=int(rng.integers(2**31)), **call)
    assert drawn.shape == (8000, 2), f"tokens of shape {drawn.shape}; 8,000 responses of 2 expected"
    for place in range(2):
        pairs = drawn[place * 4000 : (place + 1) * 4000] @ np.array([5, 1])
        assert_frequencies(pairs, right[place], f"pairs of tokens after prompt {place}")
    call |= {"group_size": 16, "max_new_tokens": 6}
    first, again, other = (policy.call("sample", seed=s, **call) for s in (5, 5, 6))
    assert_equal(again["ids"], first["ids"], name="ids of two rollouts of one seed")
    assert first["ids"].shape != other["ids"].shape or (first["ids"] != other["ids"]).any(), (
        "two seeds gave the same responses: the generator is not used"
    )
    assert first["global untouched"], "torch's global generator was used beside the one given"


@number("3.10")
@weight(0.5)
def test_rollouts_after_an_update_are_the_new_policys(student, rng):
    """No keys or values survive a call; dropout is off while sampling; every flag is put back."""
    sizes, rank = TINY, 2
    first, second = random_weights(rng, sizes, 0.3), random_weights(rng, sizes, 0.3)
    prompts = random_rows(rng, [6, 4], sizes.vocab_size)
    call = {"prompts": prompts, "group_size": 4, "max_new_tokens": 4, "temperature": 1.3}
    policy = student.session(drivers.policy, sizes=sizes.fields(), weights=first)
    for weights in (first, second):
        policy.call("load", weights=weights)
        got = policy.call("sample", seed=3, **call)
        assert_rows(got, prompts, 4)
        assert_close(
            got["log_probs"],
            rollout_log_probs(tensors(weights), sizes, got["ids"], got["mask"], 1.3).numpy(),
            rtol=1e-5, atol=1e-6, name="log p after an update of the weights",
            hint="keys and values of the old weights belong to another policy",
        )  # fmt: skip
    adapter = random_adapter(rng, sizes, rank, ["query", "value"])
    policy = student.session(
        drivers.policy, sizes=sizes.fields(), weights=first, adapter=adapter, rank=rank, alpha=3.0,
        dropout=0.5,
    )  # fmt: skip
    got = policy.call("sample", seed=3, **call)
    both = folded(first, adapter, rank, 3.0)
    assert_close(
        got["log_probs"],
        rollout_log_probs(tensors(both), sizes, got["ids"], got["mask"], 1.3).numpy(),
        rtol=1e-5, atol=1e-6, name="log p of an adapter with dropout in training mode",
        hint="sample in eval mode: the policy that acts has no dropout",
    )  # fmt: skip
    assert got["flags kept"], "a module's own training flag was not put back"
    assert got["grad"], "gradients were left switched off"
    for wrong in ({"temperature": 0.0}, {"prompts": [[1], []]}, {"max_new_tokens": 0}):
        student.raises(
            drivers.sampled_once, "ValueError", sizes=sizes.fields(), weights=first,
            options={**call, **wrong},
        )  # fmt: skip


@number("3.10")
@weight(0.75)
def test_epochs_of_grpo_over_an_adapter(student, rng):
    """Old log-probabilities stay, the reference is the base, gradients are clipped."""
    weights, rank, alpha = random_weights(rng, TINY, 0.2), 2, 3.0
    adapter = random_adapter(rng, TINY, rank, ["query", "value"], 0.2)
    table = rng.normal(0, 1, TINY.vocab_size)
    own = {"weights": weights, "adapter": adapter, "rank": rank, "alpha": alpha}
    policy = student.session(drivers.policy, sizes=TINY.fields(), **own, rate=0.4)
    learner = Learner.of(TINY, **own)
    for beta, epochs, max_norm in ((0.3, 3, 1e6), (0.0, 2, 0.02)):
        settings = {
            "group_size": 4, "max_new_tokens": 5, "temperature": 1.2, "clip": 0.1, "beta": beta,
            "epochs": epochs, "max_norm": max_norm,
        }  # fmt: skip
        prompts = random_rows(rng, [3, 2, 5], TINY.vocab_size)
        got = policy.call("grpo", seed=11, prompts=prompts, table=table, **settings)
        assert_rows(got, prompts, 4)
        rewards = np.array([table[r].mean() for r in got["tokens"]])
        before = learner.state()
        losses, _ = grpo_step(learner, got["ids"], got["mask"], rewards, 0.4, settings)
        _steps(got, losses, before, learner.state(), f"β = {beta}, {epochs} epochs")


def _steps(got, losses, before, after, about):
    """Losses and what trains, as the tests' own learner has them."""
    assert_close(
        np.array(got["losses"]), np.array(losses), rtol=1e-4, atol=1e-6,
        name=f"the loss of each epoch, {about}",
        hint="old log-probabilities are those recorded while sampling, in every epoch",
    )  # fmt: skip
    assert_same_shapes(got["state"], after)
    for name, expected in after.items():
        assert_close(
            got["state"][name] - before[name], expected - before[name], rtol=1e-3,
            atol=1e-4 * float(np.abs(expected - before[name]).max()) + 1e-9,
            name=f"the steps of {name}, {about}",
        )  # fmt: skip


@number("3.10")
@weight(1)
def test_a_step_of_ppo_with_values_and_a_reward_model(student, rng):
    """Values of prefixes, scores of a reward head at the last token, kl to the base, two losses."""
    weights, rank, alpha = random_weights(rng, TINY, 0.2), 2, 3.0
    adapter = random_adapter(rng, TINY, rank, ["query", "value"], 0.2)
    judge, judge_head = random_weights(rng, TINY, 0.2), rng.normal(0, 1, TINY.hidden_size)
    own = {"weights": weights, "adapter": adapter, "rank": rank, "alpha": alpha,
           "head": rng.normal(0, 0.3, TINY.hidden_size)}  # fmt: skip
    policy = student.session(drivers.policy, sizes=TINY.fields(), **own, rate=0.1)
    learner = Learner.of(TINY, **own)
    for kl, epochs, max_norm in ((0.4, 2, 1e6), (0.0, 1, 0.05)):
        settings = {
            "group_size": 2, "max_new_tokens": 6, "temperature": 0.9, "clip": 0.1, "kl": kl,
            "epochs": epochs, "max_norm": max_norm, "gamma": 0.98, "lam": 0.9, "value_clip": 0.15,
            "value_weight": 0.7, "stop_ids": [1, 4],
        }  # fmt: skip
        prompts = random_rows(rng, [3, 2, 5], TINY.vocab_size)
        got = policy.call(
            "ppo", seed=5, prompts=prompts, scorer=judge, sizes=TINY.fields(), head=judge_head,
            **settings,
        )  # fmt: skip
        assert_rows(got, prompts, 2)
        asked = Asked([p for p in prompts for _ in range(2)], got["tokens"])
        scores = last_hidden(judge, TINY, asked) @ judge_head
        assert_close(got["rewards"], scores, rtol=1e-5, atol=1e-6, name="scores of the rollout")
        before = learner.state()
        losses, _ = ppo_step(learner, got["ids"], got["mask"], scores, 0.1, settings)
        _steps(got, losses, before, learner.state(), f"kl = {kl}, {epochs} epochs")
