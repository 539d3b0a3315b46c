"""Oracles of task 3.6: what a filter keeps, how often a token comes, what greedy text is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import stats
from tiny_model import Sizes, reference_logits, tensors

# Each chi-square test below fails a right sampler with this probability.
FALSE_ALARM = 1e-7


def softmax(logits: np.ndarray) -> np.ndarray:
    """Along the last axis, in float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def kept_tokens(row: np.ndarray, top_k: int, top_p: float) -> tuple[list[int], float]:
    """The ids that may be drawn, best first, and how far top_p is from the nearest sum of masses.

    One token after another is taken until enough mass is together; of equal logits, the lower id.
    """
    order = sorted((i for i in range(len(row)) if row[i] > -np.inf), key=lambda i: (-row[i], i))
    if top_k:
        order = order[:top_k]
    if top_p >= 1:
        return order, 1.0
    mass = softmax(np.array([row[i] for i in order]))
    taken, total, gap = [], 0.0, 1.0
    for token, probability in zip(order, mass, strict=True):
        taken.append(token)
        total += float(probability)
        gap = min(gap, abs(total - top_p))
        if total >= top_p:
            break
    return taken, gap


def expected_probabilities(
    row: np.ndarray, temperature: float, top_k: int = 0, top_p: float = 1.0
) -> np.ndarray:
    """How often each token should come: temperature, then top-k, then top-p."""
    tempered = row.astype(np.float64) / temperature
    kept, _ = kept_tokens(tempered, top_k, top_p)
    result = np.zeros(len(row))
    result[kept] = softmax(tempered[kept])
    return result


def assert_frequencies(ids: np.ndarray, probability: np.ndarray, about: str) -> None:
    """Pearson's chi-square against the exact probabilities, at FALSE_ALARM."""
    ids = np.asarray(ids)
    assert ids.dtype.kind in "iu", f"{about}: ids of type {ids.dtype}, expected integers"
    assert ((ids >= 0) & (ids < len(probability))).all(), f"{about}: ids outside the vocabulary"
    counts = np.bincount(ids, minlength=len(probability))
    forbidden = np.flatnonzero((probability == 0) & (counts > 0))
    assert not len(forbidden), (
        f"{about}: token {forbidden[0]} was drawn {counts[forbidden[0]]} times; it has probability 0"
    )
    kept = probability > 0
    expected = probability[kept] * len(ids)
    assert expected.min() >= 20, "too few draws for chi-square: a fault of this test"
    statistic = float(((counts[kept] - expected) ** 2 / expected).sum())
    limit = float(stats.chi2.isf(FALSE_ALARM, kept.sum() - 1))
    worst = int(np.argmax(np.abs(counts - probability * len(ids))))
    assert statistic <= limit, (
        f"{about}: chi-square is {statistic:.0f} over {len(ids)} draws; a right sampler stays "
        f"below {limit:.0f} but for 1 time in 10 million. Token {worst} came in "
        f"{counts[worst] / len(ids):.4f} of the draws, expected {probability[worst]:.4f}"
    )


def detection(probability: np.ndarray, wrong: np.ndarray, draws: int) -> float:
    """How likely `assert_frequencies` catches a sampler that draws from `wrong`."""
    if ((probability == 0) & (wrong > 0)).any():
        return 1.0 - float((1 - wrong[probability == 0].sum()) ** draws)
    kept = probability > 0
    noncentrality = draws * float(((wrong - probability)[kept] ** 2 / probability[kept]).sum())
    degrees = kept.sum() - 1
    return float(stats.ncx2.sf(stats.chi2.isf(FALSE_ALARM, degrees), degrees, noncentrality))


def random_prompts(rng: np.random.Generator, sizes: Sizes, lengths: Sequence[int]) -> list:
    """Lists of ids."""
    return [rng.integers(0, sizes.vocab_size, n).tolist() for n in lengths]


def logits_after(weights: dict, sizes: Sizes, prompt: Sequence[int], more: Sequence[int]):
    """float64 logits for the token after prompt and after each token of `more` but the last."""
    ids = torch.tensor([[*prompt, *more]])
    with torch.no_grad():
        logits = reference_logits(tensors(weights), sizes, ids)[0]
    return logits[len(prompt) - 1 :].numpy()


def assert_greedy(
    weights: dict, sizes: Sizes, prompt: Sequence[int], tokens: object, about: str,
    margin: float = 1e-3,
) -> None:  # fmt: skip
    """Each token has the largest logit after all before it, by a full forward pass in float64."""
    assert isinstance(tokens, list) and all(isinstance(t, int) for t in tokens), (
        f"{about}: expected a list of ids, got {tokens!r}"
    )
    assert all(0 <= t < sizes.vocab_size for t in tokens), f"{about}: ids outside the vocabulary"
    logits = logits_after(weights, sizes, prompt, tokens)
    for place, token in enumerate(tokens):
        best = int(logits[place].argmax())
        behind = float(logits[place, best] - logits[place, token])
        assert behind <= margin, (
            f"{about}: new token {place} is {token}; a full forward pass over the prompt of "
            f"{len(prompt)} and the {place} tokens before it gives {best}, ahead by {behind:.3g}"
        )


def stopping(tokens: Sequence[int], stops: Sequence[int]) -> list[int]:
    """The tokens before the first stop."""
    for place, token in enumerate(tokens):
        if token in stops:
            return list(tokens[:place])
    return list(tokens)
