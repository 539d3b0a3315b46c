"""Task 3.10: reinforcement learning from rewards: GAE, PPO's clipped objective, GRPO.

Rows are prompts with a response, and `mask` is True at the response's tokens. What lies outside the
mask never matters, nan and inf included: not to a value, and not to a gradient, which is 0 there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from language_model.model import Llama
from language_model.modes import in_eval_mode
from language_model.preference import RewardHead, as_reference, token_log_probs
from language_model.rollouts import Rollout, roll_out

# The tokens of a prompt and of a response to it -> a number.
Reward = Callable[[Sequence[int], Sequence[int]], float]


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Given: the mean over True entries; 0, with a zero gradient, where there are none."""
    return values.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)


def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (Schulman et al., 2016): advantages and returns.

    rewards, values, mask: (rows, time); mask is True at the steps of an episode, one stretch in
    each row; the value after an episode's last step is 0. With δ_t = r_t + γ·V_{t+1} − V_t:
    A_t = δ_t + γλ·A_{t+1}; returns are A + V. Both 0 outside the mask, and both constants: no
    gradient flows into the values.
    """
    # BEGIN SOLUTION 3.10
    rewards, values = rewards.detach(), values.detach()
    advantages = torch.zeros_like(values)
    following_value = values.new_zeros(len(values))
    following_advantage = values.new_zeros(len(values))
    for t in reversed(range(values.shape[1])):
        inside = mask[:, t]
        delta = rewards[:, t] + gamma * following_value - values[:, t]
        advantage = delta + gamma * lam * following_advantage
        advantages[:, t] = torch.where(inside, advantage, 0.0)
        following_value = torch.where(inside, values[:, t], 0.0)
        following_advantage = advantages[:, t]
    return advantages, torch.where(mask, advantages + values, 0.0)
    # END SOLUTION


def whiten(advantages: Tensor, mask: Tensor, eps: float = 1e-8) -> Tensor:
    """Advantages of mean 0 and deviation 1 over the mask's True entries, 0 outside it.

    The deviation divides by the number of entries; a single entry, or equal ones, become exactly 0:
    the mean of seven times 0.1 is not 0.1 in floating point, and a deviation that is all rounding
    would make advantages of the size of 1 out of nothing.
    """
    # BEGIN SOLUTION 3.10
    inside = advantages[mask]
    inside = inside - inside[:1]  # equal entries are 0 from here on, not nearly
    centred = inside - inside.mean()
    white = centred / (centred.square().mean().sqrt() + eps)
    return torch.zeros_like(advantages).masked_scatter(mask, white)
    # END SOLUTION


def ppo_clip_loss(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, mask: Tensor, clip: float
) -> Tensor:
    """−mean(min(ρ·A, clamp(ρ, 1 − clip, 1 + clip)·A)) over the mask (Schulman et al., 2017).

    All (rows, time); ρ = exp(log_probs − old_log_probs). Old log-probabilities and advantages are
    constants. Returns a scalar.
    """
    # BEGIN SOLUTION 3.10
    ratio = (log_probs - old_log_probs.detach()).masked_fill(~mask, 0.0).exp()
    advantages = advantages.detach()
    clipped = ratio.clamp(1 - clip, 1 + clip)
    return -masked_mean(torch.minimum(ratio * advantages, clipped * advantages), mask)
    # END SOLUTION


def clipped_value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, clip: float
) -> Tensor:
    """½·mean(max((V − R)², (V_clipped − R)²)) over the mask.

    V_clipped is V kept within `clip` of the old value, as in the code of Schulman et al. (2017).
    All (rows, time); only `values` gets a gradient. Returns a scalar.
    """
    # BEGIN SOLUTION 3.10
    values = values.masked_fill(~mask, 0.0)
    old_values, returns = old_values.detach(), returns.detach()
    returns = returns.masked_fill(~mask, 0.0)
    old_values = old_values.masked_fill(~mask, 0.0)
    near = old_values + (values - old_values).clamp(-clip, clip)
    worse = torch.maximum((values - returns).square(), (near - returns).square())
    return 0.5 * masked_mean(worse, mask)
    # END SOLUTION


def token_rewards(
    scores: Tensor, log_probs: Tensor, reference_log_probs: Tensor, mask: Tensor, kl: float
) -> Tensor:
    """Rewards by token (Ouyang et al., 2022): −kl·(log π − log π_ref) at each, plus the response's
    score at its last token.

    scores: (rows,); the others (rows, time). 0 outside the mask, and in all of a row whose response
    is empty; a constant.
    """
    # BEGIN SOLUTION 3.10
    rewards = (-kl * (log_probs - reference_log_probs)).detach().masked_fill(~mask, 0.0)
    after = torch.cat([mask[:, 1:], torch.zeros_like(mask[:, :1])], dim=1)
    ends = mask & ~after
    return rewards + torch.where(ends, scores.detach()[:, None], 0.0)
    # END SOLUTION


def group_advantages(rewards: Tensor, group_size: int, eps: float = 1e-6) -> Tensor:
    """(r − mean of its group) / (deviation of its group + eps) (Shao et al., 2024).

    rewards: (rows,), the rows of a group beside each other. The deviation divides by group_size; a
    group of equal rewards gives exact zeros, whatever the rewards are (see `whiten`). Returns
    (rows,). Raises ValueError where rows is no multiple of group_size.
    """
    # BEGIN SOLUTION 3.10
    if len(rewards) % group_size:
        raise ValueError(f"{len(rewards)} rewards do not fall into groups of {group_size}")
    groups = rewards.detach().view(-1, group_size)
    groups = groups - groups[:, :1]
    centred = groups - groups.mean(1, keepdim=True)
    return (centred / (centred.square().mean(1, keepdim=True).sqrt() + eps)).view(-1)
    # END SOLUTION


def kl_estimate(log_probs: Tensor, reference_log_probs: Tensor) -> Tensor:
    """exp(d) − d − 1 with d = log π_ref − log π: unbiased under π, and never negative (Schulman,
    2020, "Approximating KL divergence", k3)."""
    # BEGIN SOLUTION 3.10
    difference = reference_log_probs.detach() - log_probs
    return difference.exp() - difference - 1
    # END SOLUTION


def grpo_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    clip: float,
    reference_log_probs: Tensor | None = None,
    beta: float = 0.0,
) -> Tensor:
    """Group-relative policy optimisation (Shao et al., 2024, equation 3): a scalar.

    log_probs, old_log_probs, mask: (rows, time); advantages: (rows,), the same for every token of a
    response. For each token min(ρ·A, clamp(ρ)·A) − β·kl_estimate; the mean over a response's tokens
    first, then over the responses that have any; negated. At the first step after sampling the
    value is that of advantages alone, often exactly 0, and its gradient is not.
    """
    # BEGIN SOLUTION 3.10
    log_probs = log_probs.masked_fill(~mask, 0.0)  # before any arithmetic: 0 · nan is nan
    ratio = (log_probs - old_log_probs.detach()).masked_fill(~mask, 0.0).exp()
    signal = advantages.detach()[:, None]
    gain = torch.minimum(ratio * signal, ratio.clamp(1 - clip, 1 + clip) * signal)
    if reference_log_probs is not None and beta != 0.0:
        near = reference_log_probs.masked_fill(~mask, 0.0)
        gain = gain - beta * kl_estimate(log_probs, near)
    counts = mask.sum(1)
    by_response = gain.masked_fill(~mask, 0.0).sum(1) / counts.clamp(min=1)
    return -by_response.sum() / (counts > 0).sum().clamp(min=1)
    # END SOLUTION


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor, max_norm: float) -> float:
    """Given: one clipped step of the optimizer; the loss as a number."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    torch.nn.utils.clip_grad_norm_(trained, max_norm)
    optimizer.step()
    return loss.item()


@dataclass(frozen=True)
class GRPOSettings:
    """How `grpo_step` samples and learns; beta > 0 needs a model with adapters."""

    group_size: int = 8
    max_new_tokens: int = 16
    temperature: float = 1.0
    clip: float = 0.2
    beta: float = 0.0
    epochs: int = 1
    max_norm: float = 1.0
    stop_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class PolicyStep:
    """What a step saw: the rewards (rows,), the loss of each epoch, and the rollout.

    rewards: what `reward` gave for each response, with GRPO and with PPO: one score a response,
    not the rewards by token that PPO makes of it, and without any KL penalty.
    """

    rewards: Tensor
    losses: list[float]
    rollout: Rollout


def grpo_step(
    model: Llama,
    optimizer: torch.optim.Optimizer,
    prompts: Sequence[Sequence[int]],
    reward: Reward,
    settings: GRPOSettings,
    generator: torch.Generator | None = None,
) -> PolicyStep:
    """Sample a group for each prompt, score it, and take `settings.epochs` steps on it.

    The old log-probabilities are the ones recorded while sampling; the reference's come from the
    model with its adapters off, once. Gradients are clipped to `max_norm`.
    """
    # BEGIN SOLUTION 3.10
    rollout = roll_out(
        model, prompts, settings.group_size, settings.max_new_tokens, settings.temperature,
        settings.stop_ids, generator,
    )  # fmt: skip
    asked = [prompt for prompt in prompts for _ in range(settings.group_size)]
    scores = [float(reward(p, r)) for p, r in zip(asked, rollout.tokens, strict=True)]
    rewards = rollout.log_probs.new_tensor(scores)
    advantages = group_advantages(rewards, settings.group_size)
    reference = None
    if settings.beta:
        with as_reference(model):
            reference = token_log_probs(model, rollout.responses, settings.temperature)
    losses = []
    for _ in range(settings.epochs):
        log_probs = token_log_probs(model, rollout.responses, settings.temperature)
        loss = grpo_loss(
            log_probs, rollout.log_probs, advantages, rollout.responses.mask, settings.clip,
            reference, settings.beta,
        )  # fmt: skip
        losses.append(_descend(optimizer, loss, settings.max_norm))
    return PolicyStep(rewards, losses, rollout)
    # END SOLUTION


@dataclass(frozen=True)
class PPOSettings(GRPOSettings):
    """How `ppo_step` learns: GRPO's settings, and those of rewards and values by token."""

    group_size: int = 1
    gamma: float = 1.0
    lam: float = 0.95
    kl: float = 0.05
    value_clip: float = 0.2
    value_weight: float = 0.5


def ppo_step(
    model: Llama,
    value_head: RewardHead,
    optimizer: torch.optim.Optimizer,
    prompts: Sequence[Sequence[int]],
    score: Callable[[Rollout], Tensor],
    settings: PPOSettings,
    generator: torch.Generator | None = None,
) -> PolicyStep:
    """One step of PPO: sample, score, rewards by token, GAE, then `settings.epochs` updates.

    The value of the prefix before response token t is `value_head` at t − 1. score: (rows,) rewards
    of a rollout, from a `RewardHead` trained on preferences, for example. Scores and old values are
    taken once, in eval mode. The reference's log-probabilities come from the model with its
    adapters off (kl = 0 needs none). Advantages are whitened over all tokens of the batch; the loss
    is PPO's plus `value_weight` times the values', and gradients are clipped to `max_norm`.
    """
    # BEGIN SOLUTION 3.10
    rollout = roll_out(
        model, prompts, settings.group_size, settings.max_new_tokens, settings.temperature,
        settings.stop_ids, generator,
    )  # fmt: skip
    responses, mask = rollout.responses, rollout.responses.mask
    with torch.no_grad(), in_eval_mode(model):
        old_values = _values(model, value_head, rollout)
        scores = score(rollout).to(old_values.dtype)
    reference = rollout.log_probs
    if settings.kl:
        with as_reference(model):
            reference = token_log_probs(model, responses, settings.temperature)
    rewards = token_rewards(scores, rollout.log_probs, reference, mask, settings.kl)
    advantages, returns = gae(rewards, old_values, mask, settings.gamma, settings.lam)
    advantages = whiten(advantages, mask)
    losses = []
    for _ in range(settings.epochs):
        log_probs = token_log_probs(model, responses, settings.temperature)
        loss = ppo_clip_loss(log_probs, rollout.log_probs, advantages, mask, settings.clip)
        values = _values(model, value_head, rollout)
        loss = loss + settings.value_weight * clipped_value_loss(
            values, old_values, returns, mask, settings.value_clip
        )
        losses.append(_descend(optimizer, loss, settings.max_norm))
    return PolicyStep(scores, losses, rollout)
    # END SOLUTION


def _values(model: Llama, value_head: RewardHead, rollout: Rollout) -> Tensor:
    """Given: (rows, time), at a response token's place the value of what stands before it."""
    responses = rollout.responses
    before = value_head(model.hidden_states(responses.ids)[:, :-1])
    values = torch.cat([before.new_zeros(len(before), 1), before], dim=1)
    return values.masked_fill(~responses.mask, 0.0)
