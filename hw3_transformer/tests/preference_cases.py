"""What the tests of tasks 3.9 and 3.10 compare with: responses, and numbers by another way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tiny_model import Sizes, Weights, reference_hidden, reference_logits, tensors

SMALL = Sizes(
    vocab_size=31, hidden_size=32, num_layers=2, num_heads=4, num_kv_heads=2, intermediate_size=48
)
Rows = list[list[int]]


@dataclass(frozen=True)
class Asked:
    """Prompts and answers of mixed lengths."""

    prompts: Rows
    answers: Rows

    @property
    def time(self) -> int:
        """The longest prompt with its answer."""
        return max(len(p) + len(a) for p, a in zip(self.prompts, self.answers, strict=True))

    def fields(self) -> dict[str, Any]:
        """As they cross to a driver."""
        return {"prompts": self.prompts, "answers": self.answers}


def random_rows(rng: np.random.Generator, lengths: list[int], vocab: int = 31) -> Rows:
    """A row of tokens for each length."""
    return [rng.integers(0, vocab, n).tolist() for n in lengths]


def random_asked(rng: np.random.Generator, rows: int = 5, least: int = 1) -> Asked:
    """Prompts of 1 to 6 tokens, answers of `least` to 7; the first answer is a single token."""
    answers = [max(least, 1), *rng.integers(least, 8, rows - 1).tolist()]
    return Asked(
        random_rows(rng, rng.integers(1, 7, rows).tolist()), random_rows(rng, answers)
    )


def token_log_probs(
    weights: Weights, sizes: Sizes, asked: Asked, temperature: float = 1.0
) -> np.ndarray:
    """(rows, longest) in float64, one row at a time, so that padding can play no part."""
    result = np.zeros((len(asked.prompts), asked.time))
    made = tensors(weights)
    for place, (prompt, answer) in enumerate(zip(asked.prompts, asked.answers, strict=True)):
        if not answer:
            continue
        ids = torch.tensor([[*prompt, *answer]])
        with torch.no_grad():
            logits = reference_logits(made, sizes, ids)[0, len(prompt) - 1 : -1] / temperature
        chosen = logits.log_softmax(-1)[torch.arange(len(answer)), torch.tensor(answer)]
        result[place, len(prompt) : len(prompt) + len(answer)] = chosen.numpy()
    return result


def last_hidden(weights: Weights, sizes: Sizes, asked: Asked) -> np.ndarray:
    """(rows, hidden_size): what stands at each answer's last token, one row at a time."""
    made = tensors(weights)
    with torch.no_grad():
        return np.stack([
            reference_hidden(made, sizes, torch.tensor([[*p, *a]]))[0, -1].numpy()
            for p, a in zip(asked.prompts, asked.answers, strict=True)
        ])  # fmt: skip


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(−x)), without overflow."""
    return np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), 1 - 1 / (1 + np.exp(-np.abs(x))))


def log_sigmoid(x: np.ndarray) -> np.ndarray:
    """log σ(x), exact far out on both sides."""
    return np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))


def fitted_head(gaps: np.ndarray, steps: int, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """A head's weight after `steps` of Adam on −log σ(gap · weight), from zeros; the losses.

    gaps: (pairs, hidden_size), hidden states of the chosen answers less those of the rejected ones.
    """
    weight = torch.zeros(gaps.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([weight], lr=rate)
    losses = []
    for _step in range(steps):
        loss = torch.log1p(torch.exp(-torch.tensor(gaps) @ weight)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return weight.detach().numpy(), np.array(losses)


def liked_pairs(
    rng: np.random.Generator, count: int, liked: list[int], others: list[int]
) -> tuple[Rows, Rows, Rows]:
    """Prompts, and answers of which the chosen one has more tokens that are liked."""
    prompts, chosen, rejected = [], [], []
    for _ in range(count):
        prompts.append(rng.choice(others, int(rng.integers(2, 5))).tolist())
        length = int(rng.integers(3, 6))
        more = int(rng.integers(2, length + 1))
        for side, number in ((chosen, more), (rejected, int(rng.integers(0, more - 1)))):
            answer = [*rng.choice(liked, number), *rng.choice(others, length - number)]
            side.append(rng.permutation(answer).tolist())
    return prompts, chosen, rejected
