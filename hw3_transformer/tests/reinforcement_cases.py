"""Oracles of task 3.10: sums by definition, losses by cases, whole steps by autograd in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from generation_cases import detection
from preference_cases import Rows
from tiny_model import Sizes, Weights, random_weights, reference_hidden, reference_logits, tensors
from torch import Tensor

TINY = Sizes(
    vocab_size=11, hidden_size=16, num_layers=2, num_heads=4, num_kv_heads=2, intermediate_size=24
)
# The toy task: after [9, d], a response of three tokens says what follows d, thrice, in a table.
TOY = Sizes(
    vocab_size=10, hidden_size=32, num_layers=2, num_heads=4, num_kv_heads=2, intermediate_size=96,
    max_positions=64,
)  # fmt: skip


def random_mask(rng: np.random.Generator, rows: int, time: int) -> np.ndarray:
    """(rows, time) bool: a stretch in each row that starts after column 0; the first has one entry,
    the second reaches the end."""
    starts = rng.integers(1, time - 1, rows)
    ends = starts + 1 + rng.integers(0, time - starts)
    ends[0], ends[1] = starts[0] + 1, time
    places = np.arange(time)
    return (places >= starts[:, None]) & (places < ends[:, None])


def poisoned(rng: np.random.Generator, array: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The array with nan, infinities and huge numbers wherever the mask is False."""
    bad = rng.choice([np.nan, np.inf, -np.inf, 1e300, -1e300], array.shape)
    return np.where(mask, array, bad)


def advantages_by_definition(
    rewards: np.ndarray, values: np.ndarray, mask: np.ndarray, gamma: float, lam: float
) -> np.ndarray:
    """A_t = Σ_l (γλ)^l δ_{t+l}, summed anew for each t over the steps that are left."""
    result = np.zeros(values.shape)
    for row, inside in enumerate(mask):
        steps = np.flatnonzero(inside)
        for t in steps:
            for later in steps[steps >= t]:
                after = values[row, later + 1] if later + 1 in steps else 0.0
                delta = rewards[row, later] + gamma * after - values[row, later]
                result[row, t] += (gamma * lam) ** (later - t) * delta
    return result


def clipped_gain(
    log_ratio: np.ndarray, advantages: np.ndarray, clip: float
) -> tuple[np.ndarray, np.ndarray]:
    """PPO's objective of each token and its slope in log π, by cases."""
    ratio = np.exp(log_ratio)
    stopped = ((advantages > 0) & (ratio > 1 + clip)) | ((advantages < 0) & (ratio < 1 - clip))
    bound = np.where(advantages > 0, 1 + clip, 1 - clip)
    return np.where(stopped, bound, ratio) * advantages, np.where(stopped, 0.0, ratio * advantages)


def both_sides(rng: np.random.Generator, shape: tuple[int, int], clip: float) -> Any:
    """Log-ratios and advantages: every case of the clip occurs, and none is at its edge."""
    ratio = rng.choice([1 - 2 * clip, 1 - clip / 2, 1 + clip / 2, 1 + 2 * clip], shape)
    ratio = ratio * rng.uniform(0.95, 1.05, shape)
    advantages = rng.choice([-1.0, 1.0], shape) * rng.uniform(0.3, 2.0, shape)
    return np.log(ratio), advantages


def row_means(values: np.ndarray, mask: np.ndarray) -> float:
    """The mean over each row's True entries, then over the rows that have any."""
    return float(np.mean([v[m].mean() for v, m in zip(values, mask, strict=True) if m.any()]))


def row_weights(mask: np.ndarray) -> np.ndarray:
    """What each entry counts for in `row_means`."""
    counts = mask.sum(1, keepdims=True)
    return np.where(mask, 1.0 / np.maximum(counts, 1), 0.0) / (counts > 0).sum()


def rollout_log_probs(
    weights: dict[str, Tensor], sizes: Sizes, ids: np.ndarray, mask: np.ndarray, temperature: float
) -> Tensor:
    """(rows, time): log p of the masked tokens by a full forward pass; 0 elsewhere."""
    given = torch.tensor(ids)
    logits = reference_logits(weights, sizes, given)[:, :-1] / temperature
    chosen = logits.log_softmax(-1).gather(2, given[:, 1:, None])[..., 0]
    chosen = torch.cat([chosen.new_zeros(len(given), 1), chosen], dim=1)
    return torch.where(torch.tensor(mask), chosen, 0.0)


def assert_same_shapes(state: dict[str, Any], like: Mapping[str, np.ndarray]) -> None:
    """A worker's arrays are those that train: only then are they computed with."""
    shapes, wanted = ({n: np.shape(a) for n, a in s.items()} for s in (state, like))
    assert shapes == wanted, f"what trains has shapes {shapes}, expected {wanted}"


def assert_rows(got: dict[str, Any], prompts: Rows, group_size: int) -> None:
    """ids are prompts with their responses, group by group; mask says where the response is."""
    asked = [prompt for prompt in prompts for _ in range(group_size)]
    tokens = got["tokens"]
    assert len(tokens) == len(asked), (
        f"{len(tokens)} responses to {len(prompts)} prompts in groups of {group_size}"
    )
    assert all(tokens), "a response without a token: the stop token belongs to it"
    # No test asks for more than 16; what the tests compute from them grows with the square.
    assert max(map(len, tokens)) <= 64, "a response is longer than was asked for"
    longest = max(len(p) + len(r) for p, r in zip(asked, tokens, strict=True))
    shapes = {name: np.shape(got[name]) for name in ("ids", "mask", "log_probs")}
    assert set(shapes.values()) == {(len(asked), longest)}, (
        f"shapes {shapes}; ({len(asked)}, {longest}) expected: no column beyond the longest row"
    )
    for place, (prompt, response) in enumerate(zip(asked, tokens, strict=True)):
        whole = [*prompt, *response]
        assert got["ids"][place, : len(whole)].tolist() == whole, (
            f"row {place} is {got['ids'][place].tolist()}; expected prompt {prompt} and response "
            f"{response}. The rows of a prompt's group lie beside each other"
        )
        inside = np.flatnonzero(got["mask"][place]).tolist()
        expected = list(range(len(prompt), len(whole)))
        assert inside == expected, f"row {place}: mask at {inside}, the response is at {expected}"
    outside = got["log_probs"][~got["mask"]]
    assert not outside.any(), "log_probs must be 0 outside the responses"


@dataclass
class Learner:
    """A policy of the tests' own: leaves in float64, with or without adapters and a value head."""

    sizes: Sizes
    weights: dict[str, Tensor]
    leaves: dict[str, Tensor]
    scale: float = 0.0  # of the adapters; without any, the weights themselves are the leaves

    @staticmethod
    def of(
        sizes: Sizes, weights: Weights, adapter: Weights | None = None, rank: int = 1,
        alpha: float = 1.0, head: np.ndarray | None = None,
    ) -> Learner:  # fmt: skip
        """The same start as `drivers_reinforcement.policy`."""
        own = weights if adapter is None else adapter
        leaves = {n: torch.tensor(a, dtype=torch.float64) for n, a in own.items()}
        if head is not None:
            leaves |= {"value.weight": torch.tensor(head), "value.bias": torch.zeros(()).double()}
        for leaf in leaves.values():
            leaf.requires_grad_(True)
        scale = 0.0 if adapter is None else alpha / rank
        return Learner(sizes, tensors(weights), leaves, scale)

    def policy(self) -> dict[str, Tensor]:
        """The weights that act, with a graph to the leaves."""
        if not self.scale:
            return {n: t for n, t in self.leaves.items() if not n.startswith("value.")}
        acting = dict(self.weights)
        for name, low in self.leaves.items():
            if name.endswith(".lora_a"):
                path = name.removesuffix(".lora_a")
                update = self.scale * self.leaves[f"{path}.lora_b"] @ low
                acting[f"{path}.weight"] = acting[f"{path}.weight"] + update
        return acting

    def values(self, ids: np.ndarray, mask: np.ndarray) -> Tensor:
        """(rows, time): the value head at the place before each masked token, 0 elsewhere."""
        hidden = reference_hidden(self.policy(), self.sizes, torch.tensor(ids))[:, :-1]
        before = hidden @ self.leaves["value.weight"] + self.leaves["value.bias"]
        before = torch.cat([before.new_zeros(len(before), 1), before], dim=1)
        return torch.where(torch.tensor(mask), before, 0.0)

    def descend(
        self, make_loss: Callable[[], Tensor], epochs: int, rate: float, max_norm: float
    ) -> tuple[list[float], list[float]]:
        """SGD with clipped gradients; the losses, and the norms before clipping."""
        losses, norms = [], []
        for _ in range(epochs):
            loss = make_loss()
            gradients = torch.autograd.grad(loss, list(self.leaves.values()))
            norm = float(torch.cat([g.flatten() for g in gradients]).norm())
            with torch.no_grad():
                for leaf, gradient in zip(self.leaves.values(), gradients, strict=True):
                    leaf -= rate * min(1.0, max_norm / max(norm, 1e-12)) * gradient
            losses.append(float(loss.detach()))
            norms.append(norm)
        return losses, norms

    def state(self) -> dict[str, np.ndarray]:
        """The leaves as arrays, a copy."""
        return {name: leaf.detach().numpy().copy() for name, leaf in self.leaves.items()}


def clipped_mean_loss(log_probs: Tensor, old: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """−min(ρA, clamp(ρ)A) for each entry, written with `where`; not yet a mean."""
    ratio = (log_probs - old).exp()
    plain, bound = ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages
    return -torch.where(plain < bound, plain, bound)


def grpo_step(
    learner: Learner, ids: np.ndarray, mask: np.ndarray, rewards: np.ndarray, rate: float,
    settings: dict[str, Any],
) -> tuple[list[float], list[float]]:  # fmt: skip
    """What `epochs` steps on a rollout should do to the learner: losses and gradient norms."""
    groups = rewards.reshape(-1, settings["group_size"])
    spread = groups.std(1, keepdims=True)
    scores = torch.tensor(((groups - groups.mean(1, keepdims=True)) / (spread + 1e-6)).ravel())
    inside, per_token = torch.tensor(mask), torch.tensor(row_weights(mask))
    temperature, beta = settings["temperature"], settings.get("beta", 0.0)

    def current(weights: dict[str, Tensor]) -> Tensor:
        return rollout_log_probs(weights, learner.sizes, ids, mask, temperature)

    with torch.no_grad():
        old, reference = current(learner.policy()), current(learner.weights)

    def loss() -> Tensor:
        log_probs = current(learner.policy())
        each = clipped_mean_loss(log_probs, old, scores[:, None], settings["clip"])
        gap = reference - log_probs
        each = each + beta * (gap.exp() - gap - 1)
        return (torch.where(inside, each, 0.0) * per_token).sum()

    return learner.descend(loss, settings["epochs"], rate, settings["max_norm"])


def ppo_step(
    learner: Learner, ids: np.ndarray, mask: np.ndarray, scores: np.ndarray, rate: float,
    settings: dict[str, Any],
) -> tuple[list[float], list[float]]:  # fmt: skip
    """The same for PPO with token rewards, GAE, whitening and a clipped value loss."""
    temperature = settings["temperature"]
    with torch.no_grad():
        old = rollout_log_probs(learner.policy(), learner.sizes, ids, mask, temperature)
        base = rollout_log_probs(learner.weights, learner.sizes, ids, mask, temperature)
        old_values = learner.values(ids, mask)
    rewards = -settings["kl"] * (old - base).numpy()
    for row, inside in enumerate(mask):
        rewards[row, np.flatnonzero(inside)[-1]] += scores[row]
    raw = advantages_by_definition(
        rewards, old_values.numpy(), mask, settings["gamma"], settings["lam"]
    )
    returns = torch.tensor(raw) + old_values
    white = torch.tensor(np.where(mask, (raw - raw[mask].mean()) / raw[mask].std(), 0.0))
    inside, bound = torch.tensor(mask), settings["value_clip"]

    def loss() -> Tensor:
        log_probs = rollout_log_probs(learner.policy(), learner.sizes, ids, mask, temperature)
        policy = clipped_mean_loss(log_probs, old, white, settings["clip"])
        values = learner.values(ids, mask)
        near = torch.maximum(torch.minimum(values, old_values + bound), old_values - bound)
        missed = torch.stack([(values - returns) ** 2, (near - returns) ** 2]).amax(0)
        return policy[inside].mean() + settings["value_weight"] * 0.5 * missed[inside].mean()

    return learner.descend(loss, settings["epochs"], rate, settings["max_norm"])


def joint_probabilities(
    weights: Weights, sizes: Sizes, prompt: Sequence[int], temperature: float
) -> np.ndarray:
    """(vocab²,): how often each pair of tokens should follow the prompt."""
    vocab = sizes.vocab_size
    ids = torch.tensor([[*prompt, token] for token in range(vocab)])
    with torch.no_grad():
        logits = reference_logits(tensors(weights), sizes, ids)[:, -2:] / temperature
    first, second = logits.softmax(-1).numpy().transpose(1, 0, 2)
    return (first[0][:, None] * second).ravel()


def pair_case(
    rng: np.random.Generator, sizes: Sizes, temperature: float, draws: int
) -> tuple[Weights, Rows, list[np.ndarray]]:
    """Weights, two prompts, and how often each pair of tokens should follow them.

    Drawn until every pair comes at least 25 times in `draws`, and chi-square would catch, with more
    than 0.999, a sampler at temperature 1 and one whose second token does not mind the first.
    """
    while True:
        weights = random_weights(rng, sizes, 0.07)
        prompts = [rng.integers(0, sizes.vocab_size, n).tolist() for n in (3, 2)]
        right = [joint_probabilities(weights, sizes, p, temperature) for p in prompts]
        if min(r.min() for r in right) * draws < 25:
            continue
        wrong = [joint_probabilities(weights, sizes, p, 1.0) for p in prompts]
        square = [r.reshape(sizes.vocab_size, -1) for r in right]
        wrong += [np.outer(s.sum(1), s.sum(0)).ravel() for s in square]
        if all(detection(right[i % 2], w, draws) > 0.999 for i, w in enumerate(wrong)):
            return weights, prompts, right
