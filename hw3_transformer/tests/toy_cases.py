"""The task that 3.10 learns from rewards alone: its start, its exact reward, and each step redone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from reinforcement_cases import TOY, Learner, grpo_step
from tiny_model import Weights, random_weights, reference_logits, tensors

from autograder.testing.compare import as_array

BETAS = (0.9, 0.99)  # those of `drivers_reinforcement.toy`'s Adam
SETTINGS = {"group_size": 16, "temperature": 1.0, "clip": 0.2, "epochs": 1, "max_norm": 1.0}


def toy_weights(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A start for the toy task: norms of ones, small weights, smaller where they write into x."""
    made = random_weights(rng, TOY, 0.05)
    for name, array in made.items():
        if array.ndim == 1:
            array[:] = 1.0
        elif name.endswith(("output.weight", "down.weight")):
            array *= (2 * TOY.num_layers) ** -0.5
    return made


def toy_prompts(rng: np.random.Generator, steps: int, batch: int) -> np.ndarray:
    """(steps, batch, 2)."""
    digits = rng.integers(0, 8, (steps, batch))
    return np.stack([np.full_like(digits, 9), digits], axis=-1)


def toy_table(rng: np.random.Generator) -> list[int]:
    """What follows each of eight digits: one cycle through all, another one in each run."""
    order = rng.permutation(8)
    following = np.zeros(8, np.int64)
    following[order] = np.roll(order, -1)
    return following.tolist()


def toy_reward(weights: Weights, following: Sequence[int]) -> np.ndarray:
    """(8,): the expected reward after each digit, exactly: a sum over all responses."""
    first, second = np.divmod(np.arange(100), 10)
    ids = np.stack([
        np.stack([np.full(100, 9), np.full(100, digit), first, second], axis=1)
        for digit in range(8)
    ])  # fmt: skip
    with torch.no_grad():
        logits = reference_logits(tensors(weights), TOY, torch.tensor(ids.reshape(-1, 4)))
        p = logits.softmax(-1).numpy().reshape(8, 100, 4, 10)[:, :, 1:]
    total = np.zeros(8)
    for digit in range(8):
        one, two, three = (p[digit, :, i] for i in range(3))
        begun = one[np.arange(100), first] * two[np.arange(100), second]  # (pair,)
        a = following[digit]
        b = following[a]
        right = (first == a) + 0.0 + (second == b) + three[:, following[b]]
        total[digit] = float((begun * right).sum()) / 3
    return total


def rewards_of(prompts: np.ndarray, tokens: np.ndarray, following: Sequence[int]) -> np.ndarray:
    """(rows,): prompts (batch, 2), tokens (batch * group, 3)."""
    table = np.array([*following, -1, -1])
    last = np.repeat(prompts[:, 1], len(tokens) // len(prompts))
    right = np.zeros(len(tokens))
    for column in tokens.T:
        last = table[last]
        right += column == last
    return right / 3


def histories(got: Mapping[str, Any], weights: Weights, prompts: np.ndarray) -> None:
    """Everything has the shape it must have: numbers of a worker are computed with only then."""
    steps, batch, _ = prompts.shape
    tokens = as_array(got["tokens"], "responses", ())
    shape = (steps, batch * SETTINGS["group_size"], 3)
    assert tokens.shape == shape and tokens.dtype == np.int64, (
        f"responses of shape {tokens.shape} ({tokens.dtype}), expected {shape}"
    )
    assert tokens.min() >= 0 and tokens.max() < TOY.vocab_size, "tokens outside the vocabulary"
    for part in "wmv":
        shapes = {name: np.shape(array) for name, array in got[part].items()}
        wanted = {name: (steps + 1, *array.shape) for name, array in weights.items()}
        assert shapes == wanted, f"weights or moments of other shapes: {shapes}"
    for name, array in weights.items():
        assert np.array_equal(got["w"][name][0], array), f"{name} is another one at the start"


def check_step(
    got: Mapping[str, Any], step: int, prompts: np.ndarray, following: Sequence[int], rate: float
) -> None:
    """What one recorded step did to Adam's moments and to the weights is what GRPO's formula does.

    The gradient is made here, in float64, from the responses and their rewards. Of the weights,
    exactly what Adam makes of the moments that came back: no rounding is blown up.
    """
    before = {name: array[step] for name, array in got["w"].items()}
    learner = Learner.of(TOY, before)
    start = learner.state()
    tokens = got["tokens"][step]
    rewards = rewards_of(prompts[step], tokens, following)
    asked = np.repeat(prompts[step], SETTINGS["group_size"], axis=0)
    ids = np.concatenate([asked, tokens], axis=1)
    mask = np.zeros(ids.shape, bool)
    mask[:, 2:] = True
    grpo_step(learner, ids, mask, rewards, 1.0, SETTINGS)  # at rate 1 the step is the gradient
    gradient = {name: start[name] - after for name, after in learner.state().items()}
    missed, size, own = np.zeros(2), np.zeros(2), np.zeros(2)
    for name, g in gradient.items():
        for place, (part, beta, new) in enumerate(zip("mv", BETAS, (g, g * g), strict=True)):
            old, now = (got[part][name][i].astype(np.float64) for i in (step, step + 1))
            missed[place] += float(((now - beta * old - (1 - beta) * new) ** 2).sum())
            size[place] += float((((1 - beta) * new) ** 2).sum())
            own[place] += float((old**2).sum())
    far = np.sqrt(missed) > 0.01 * np.sqrt(size) + 1e-5 * np.sqrt(own) + 1e-12
    assert not far.any(), (
        f"step {step} of grpo_step did not follow the gradient of GRPO on its own responses: "
        f"Adam's moments are {np.sqrt(missed)} off, the gradient adds {np.sqrt(size)}"
    )
    turn = step + 1
    for name, array in before.items():
        m, v = (got[part][name][turn].astype(np.float64) for part in "mv")
        root = np.sqrt(v / (1 - BETAS[1] ** turn)) + 1e-8
        wanted = array - rate * m / (1 - BETAS[0] ** turn) / root
        error = float(np.abs(got["w"][name][turn] - wanted).max())
        assert error <= 1e-6 * max(1.0, float(np.abs(wanted).max())), (
            f"step {step}: {name} is not what the optimizer makes of its moments ({error:.2g} off)"
        )
