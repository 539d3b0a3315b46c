"""Task 3.10: advantages, losses of PPO and GRPO, rollouts on the cache, a task that is learned."""

from __future__ import annotations

import drivers_reinforcement as drivers
import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight
from preference_cases import random_rows
from reinforcement_cases import (
    TINY,
    TOY,
    Learner,
    advantages_by_definition,
    assert_rows,
    assert_same_shapes,
    both_sides,
    clipped_gain,
    grpo_step,
    random_mask,
    rollout_log_probs,
    row_means,
    row_weights,
)
from tiny_model import random_weights, tensors
from toy_cases import (
    SETTINGS,
    check_step,
    histories,
    rewards_of,
    toy_prompts,
    toy_reward,
    toy_table,
    toy_weights,
)

from autograder.testing import (
    Hint,
    Measure,
    as_count,
    assert_close,
    assert_equal,
    reported_by_worker,
)


@number("3.10")
@weight(1)
def test_gae_is_its_definition(student, rng):
    """A_t = Σ (γλ)^l δ_{t+l} within each row's own stretch; returns A + V; zeros outside."""
    for gamma, lam in ((0.97, 0.9), (1.0, 0.0), (1.0, 1.0)):
        rows, time = int(rng.integers(3, 6)), int(rng.integers(6, 12))
        mask = random_mask(rng, rows, time)
        rewards, values = rng.normal(0, 1, (2, rows, time)) * mask
        got = student.run(
            drivers.estimate, arrays={"rewards": rewards, "values": values, "mask": mask},
            gamma=gamma, lam=lam,
        )  # fmt: skip
        expected = advantages_by_definition(rewards, values, mask, gamma, lam)
        about = f"γ = {gamma}, λ = {lam}, stretches of {mask.sum(1).tolist()} steps"
        assert_close(
            got["advantages"], expected, rtol=1e-9, atol=1e-10, name=f"advantages, {about}",
            hint="the value after a row's last step is 0, wherever in the row that step is",
        )  # fmt: skip
        assert_close(
            got["returns"], np.where(mask, expected + values, 0), rtol=1e-9, atol=1e-10,
            name=f"returns, {about}",
        )  # fmt: skip


@number("3.10")
@weight(0.5)
def test_advantages_are_centred(student, rng):
    """Within a group, and over a mask: mean 0, deviation 1; nothing to compare gives zeros."""
    for groups, size in ((1, 4), (5, 3), (3, 8)):
        rewards = rng.normal(2, 1.5, (groups, size)) + 10 * np.arange(groups)[:, None]
        got = student.run(drivers.grouped, rewards=rewards.ravel(), group_size=size)
        centred = rewards - rewards.mean(1, keepdims=True)
        assert_close(
            got["advantages"], (centred / (rewards.std(1, keepdims=True) + 1e-6)).ravel(),
            rtol=1e-8, name=f"advantages of {groups} groups of {size}",
            hint="mean and deviation of each group by itself; the deviation divides by group_size",
        )  # fmt: skip
        assert not got["recorded"], "advantages are constants: detach the rewards"
    same = np.repeat([0.1, 0.7, 1e4 / 3], 7).astype(np.float32)
    got = student.run(drivers.grouped, rewards=same, group_size=7)
    assert_equal(
        got["advantages"], np.zeros(21), name="advantages of three groups of equal rewards",
        hint="the mean of seven times 0.1 is not 0.1 in float32, and rounding divided by rounding "
        "is not small: subtract the group's first reward before anything else",
    )  # fmt: skip
    student.raises(drivers.grouped, "ValueError", rewards=np.ones(7), group_size=3)
    mask = random_mask(rng, 4, 9)
    values = rng.normal(3, 2, mask.shape)
    inside = values[mask]
    white = np.where(mask, (values - inside.mean()) / inside.std(), 0)
    got = student.run(drivers.whitened, advantages=values, mask=mask)
    assert_close(got, white, rtol=1e-6, atol=1e-9, name="whitened advantages")


@number("3.10")
@weight(1)
def test_ppo_losses_and_their_gradients(student, rng):
    """Both sides of the clip, both signs of the advantage; both branches of the value loss."""
    mask, clip = random_mask(rng, 6, 14), 0.2
    log_ratio, advantages = both_sides(rng, mask.shape, clip)
    old = rng.normal(-3, 1, mask.shape)
    given = {
        "log_probs": old + log_ratio, "old_log_probs": old, "advantages": advantages, "mask": mask,
    }  # fmt: skip
    got = student.run(drivers.loss_of, name="ppo_clip_loss", arrays=given, options={"clip": clip})
    gain, slope = clipped_gain(log_ratio, advantages, clip)
    assert got["shape"] == [], f"the loss has shape {got['shape']}; a scalar is expected"
    assert_close(
        got["loss"], -gain[mask].mean(), rtol=1e-9, name="ppo_clip_loss",
        hint="min of the two products, not the product of a clipped ratio: an advantage below 0 "
        "keeps its gradient where the ratio is above 1 + clip",
    )  # fmt: skip
    assert sorted(got["gradients"]) == ["log_probs"], (
        f"gradients reached {sorted(got['gradients'])}; only log_probs is not a constant"
    )
    assert_close(
        got["gradients"]["log_probs"], np.where(mask, -slope / mask.sum(), 0), rtol=1e-8,
        atol=1e-12, name="gradient of ppo_clip_loss",
    )  # fmt: skip
    old_values, returns = rng.normal(0, 1, (2, *mask.shape))
    values = old_values + rng.choice([-1, 1], mask.shape) * rng.choice([0.1, 0.5], mask.shape)
    near = old_values + np.clip(values - old_values, -0.3, 0.3)
    plain, bound = (values - returns) ** 2, (near - returns) ** 2
    given = {"values": values, "old_values": old_values, "returns": returns, "mask": mask}
    got = student.run(
        drivers.loss_of, name="clipped_value_loss", arrays=given, options={"clip": 0.3}
    )
    expected = 0.5 * np.maximum(plain, bound)[mask].mean()
    assert_close(got["loss"], expected, rtol=1e-9, name="clipped_value_loss",
                 hint="the larger of the two squares, halved, as a mean over the mask")  # fmt: skip
    moves = mask & ((plain > bound) | (values == near))
    assert_close(
        got["gradients"]["values"], np.where(moves, values - returns, 0) / mask.sum(), rtol=1e-8,
        atol=1e-12, name="gradient of clipped_value_loss",
    )  # fmt: skip
    assert sorted(got["gradients"]) == ["values"], f"gradients reached {sorted(got['gradients'])}"


@number("3.10")
@weight(0.5)
def test_rewards_by_token_and_the_divergence(student, rng):
    """The score at the last token of each response, −kl·(log π − log π_ref) at all; k3."""
    mask = random_mask(rng, 5, 9)
    log_probs, reference = rng.normal(-2, 1, (2, *mask.shape))
    scores = rng.normal(0, 3, 5)
    for kl in (0.0, 0.3):
        got = student.run(
            drivers.spread, kl=kl, arrays={
                "scores": scores, "log_probs": log_probs, "reference_log_probs": reference,
                "mask": mask,
            },
        )  # fmt: skip
        expected = np.where(mask, -kl * (log_probs - reference), 0)
        for row, inside in enumerate(mask):
            expected[row, np.flatnonzero(inside)[-1]] += scores[row]
        assert_close(
            got["rewards"], expected, rtol=1e-9, atol=1e-12, name=f"token_rewards with kl = {kl}",
            hint="a response's last token is its row's last True, not the last column",
        )  # fmt: skip
        assert not got["recorded"], "token rewards are constants: detach them"
    got = student.run(drivers.divergence, log_probs=log_probs, reference_log_probs=reference)
    gap = reference - log_probs
    assert_close(got["value"], np.exp(gap) - gap - 1, rtol=1e-9, name="kl_estimate",
                 hint="d = log π_ref − log π, in this order")  # fmt: skip
    assert_close(got["gradient"], 1 - np.exp(gap), rtol=1e-8, name="gradient of kl_estimate")
    assert got["constant"], "the reference's log-probabilities are constants"


@number("3.10")
@weight(1)
def test_grpo_has_a_gradient_where_its_loss_is_zero(student, rng):
    """Right after sampling the loss is −mean of advantages, 0 here; its gradient is REINFORCE's.

    Then away from there: each response's mean first, whatever its length, on all sides of the clip.
    """
    mask, clip = random_mask(rng, 6, 14), 0.2
    old = rng.normal(-3, 1, mask.shape)
    advantages = rng.permutation([1.5, -0.5, -1.0, 2.0, -1.25, -0.75])
    given = {"log_probs": old, "old_log_probs": old, "advantages": advantages, "mask": mask}
    got = student.run(drivers.loss_of, name="grpo_loss", arrays=given, options={"clip": clip})
    assert got["shape"] == [] and abs(got["loss"]) < 1e-12, (
        f"the loss is {got['loss']} (shape {got['shape']}); with ratios of 1 it is minus the "
        "mean of the advantages, here 0: every response counts once, however long it is"
    )
    share = row_weights(mask)
    assert_close(
        got["gradients"].get("log_probs", np.zeros(mask.shape)), -advantages[:, None] * share,
        rtol=1e-9, atol=1e-12, name="gradient at a loss of 0",
        hint=Hint(values="the ratio's value is 1, but its gradient is that of log_probs: detach "
                  "the old log-probabilities only"),
    )  # fmt: skip
    log_ratio, _ = both_sides(rng, mask.shape, clip)
    given["log_probs"] = old + log_ratio
    got = student.run(drivers.loss_of, name="grpo_loss", arrays=given, options={"clip": clip})
    gain, slope = clipped_gain(log_ratio, np.broadcast_to(advantages[:, None], mask.shape), clip)
    assert_close(
        got["loss"], -row_means(gain, mask), rtol=1e-9, name="grpo_loss",
        hint="the mean over each response's tokens, then over the responses",
    )  # fmt: skip
    assert sorted(got["gradients"]) == ["log_probs"], f"gradients: {sorted(got['gradients'])}"
    assert_close(
        got["gradients"]["log_probs"], -slope * share, rtol=1e-8, atol=1e-12,
        name="gradient of grpo_loss",
    )  # fmt: skip


@number("3.10")
@weight(1)
def test_rollouts_record_what_the_policy_says(student, rng):
    """Rows, masks, stop tokens; log-probabilities equal a full forward's at the temperature."""
    weights = random_weights(rng, TINY, 0.3)
    policy = student.session(drivers.policy, sizes=TINY.fields(), weights=weights)
    stops = [3, 7]
    for temperature, stop_ids in ((1.0, []), (0.7, stops), (1.6, stops)):
        prompts = random_rows(rng, [3, 1, 5], TINY.vocab_size)
        got = policy.call(
            "sample", seed=int(rng.integers(2**31)), prompts=prompts, group_size=6,
            max_new_tokens=7, temperature=temperature, stop_ids=stop_ids,
        )  # fmt: skip
        assert_rows(got, prompts, 6)
        for tokens in got["tokens"]:
            ends = len(tokens) == 7 or (tokens[-1] in stop_ids)
            inner = [t for t in tokens[:-1] if t in stop_ids]
            assert ends and len(tokens) <= 7 and not inner, (
                f"a response is {tokens}; it ends with the first of the stop tokens {stop_ids}, "
                "which belongs to it, or after 7 tokens"
            )
        expected = rollout_log_probs(
            tensors(weights), TINY, got["ids"], got["mask"], temperature
        ).numpy()
        assert_close(
            got["log_probs"], expected, rtol=1e-5, atol=1e-6,
            name=f"log p of the sampled tokens at temperature {temperature}",
            hint=Hint(values="of the logits divided by the temperature, as sampling uses them; "
                      "each row goes on from its own prompt's cache", dtype="float32 at least"),
        )  # fmt: skip
    assert not got["recorded"], "the recorded log-probabilities carry a graph"


@number("3.10")
@weight(0.5)
@reported_by_worker
def test_the_prompt_is_prefilled_once_a_group(student, rng):
    """Positions that run: each prompt once, then one a token; none when all have ended."""
    weights = random_weights(rng, TINY)
    policy = student.session(drivers.policy, sizes=TINY.fields(), weights=weights)
    prompts, group, new = random_rows(rng, [20, 20, 20], TINY.vocab_size), 8, 5
    call = {"seed": 1, "prompts": prompts, "group_size": group, "max_new_tokens": new}
    calls = policy.call("sample", **call)["calls"]
    ran = _positions(calls)
    full = 60 + 24 * (new - 1)
    student.measure(Measure(
        name="positions run for 24 responses", value=ran, unit="", full=full,
        source="worker-reported",
    ))  # fmt: skip
    assert ran == full, (
        f"{ran} positions ran through the model; {full} are needed: the 3 prompts of 20 tokens "
        f"once, then {new - 1} tokens of 24 rows (nothing follows the last). Prefill the prompts, "
        "then repeat the cache for the group"
    )
    assert not any(c["training"] for c in calls), "sampling runs in eval mode"
    ended = policy.call("sample", **call, stop_ids=list(range(TINY.vocab_size)))["calls"]
    ran = _positions(ended)
    assert ran == 60, (
        f"{ran} positions ran where every response ended with its first token: 60 are in the prompts"
    )


def _positions(calls):
    """How many positions the calls ran, from whole numbers only."""
    return sum(as_count(c["rows"], "rows") * as_count(c["time"], "columns") for c in calls)


@number("3.10")
@weight(0.5)
def test_a_step_of_grpo_is_that_of_the_formula(student, rng):
    """One step of SGD against autograd over the tests' own model; prompts and rewards."""
    weights, table = random_weights(rng, TINY, 0.2), rng.normal(0, 1, TINY.vocab_size)
    policy = student.session(drivers.policy, sizes=TINY.fields(), weights=weights, rate=0.5)
    settings = {
        "group_size": 4, "max_new_tokens": 5, "temperature": 0.9, "clip": 0.2, "epochs": 1,
        "max_norm": 0.05, "stop_ids": [2],
    }  # fmt: skip
    prompts = random_rows(rng, [2, 4], TINY.vocab_size)
    got = policy.call("grpo", seed=7, prompts=prompts, table=table, **settings)
    assert_rows(got, prompts, 4)
    repeated = [p for p in prompts for _ in range(4)]
    asked = [[p, r] for p, r in zip(repeated, got["tokens"], strict=True)]
    assert_equal(str(got["asked"]), str(asked), name="prompts and responses that were scored")
    rewards = np.array([table[r].mean() for r in got["tokens"]])
    assert_close(got["rewards"], rewards, rtol=1e-5, name="rewards")
    learner = Learner.of(TINY, weights)
    before = learner.state()
    losses, norms = grpo_step(learner, got["ids"], got["mask"], rewards, 0.5, settings)
    assert norms[0] > 0.05, "the case clips nothing"
    assert_close(np.array(got["losses"]), np.array(losses), rtol=1e-4, atol=1e-6, name="the loss")
    assert_same_shapes(got["state"], before)
    for name, after in learner.state().items():
        assert_close(
            got["state"][name] - before[name], after - before[name], rtol=1e-3, atol=1e-7,
            name=f"the step of {name}",
        )  # fmt: skip


@number("3.10")
@weight(1)
def test_a_task_is_learned_from_rewards_alone(student, rng):
    """After [9, d], say what follows d: the policy's exact expected reward after 150 steps."""
    weights, following, rate = toy_weights(rng), toy_table(rng), 3e-3
    prompts = toy_prompts(rng, 150, 8)
    got = student.run(
        drivers.toy, sizes=TOY.fields(), weights=weights, prompts=prompts, following=following,
        group_size=SETTINGS["group_size"], seed=int(rng.integers(2**31)), rate=rate, timeout=25,
    )  # fmt: skip
    histories(got, weights, prompts)
    curve = [rewards_of(prompts[k], got["tokens"][k], following).mean() for k in range(150)]
    # Computed here from the weights that came back: a sum over all responses, nothing sampled.
    expected = {
        k: toy_reward({n: a[k] for n, a in got["w"].items()}, following)
        for k in (150, *rng.permutation(60)[:12].tolist())
    }
    after, before = expected.pop(150).mean(), toy_reward(weights, following).mean()
    student.measure(
        Measure(name="expected reward after 150 steps of GRPO", value=after, unit="", full=0.85)
    )
    shown = ", ".join(f"{r:.2f}" for r in curve[9::10])
    assert after >= 0.85, (
        f"the policy's expected reward is {after:.3f}, {before:.3f} before training; 0.85 is asked "
        f"and 0.99 is usual. The mean reward of every tenth step: {shown}"
    )
    # Twelve early steps of 128 responses each; a reward's deviation is 0.5 at most, so that of the
    # mean is 0.013: 0.08 is reached by chance with a probability of 1e-9.
    luck = np.mean([curve[k] - by[prompts[k][:, 1]].mean() for k, by in expected.items()])
    assert abs(luck) <= 0.08, (
        f"the responses of twelve early steps got {luck:.3f} more than the policy gets on average: "
        "they were not sampled from it"
    )
    for step in rng.permutation(150)[:4].tolist():
        check_step(got, step, prompts, following, rate)
