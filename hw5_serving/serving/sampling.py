"""Given: the distribution a next token is drawn from, and the draw."""

from __future__ import annotations

import torch
from torch import Tensor

from serving.sequence import SamplingParams


def distribution(logits: Tensor, params: SamplingParams) -> Tensor:
    """Probabilities (rows, vocab) of logits (rows, vocab), in float64; one-hot where greedy."""
    if params.temperature == 0:
        chosen = torch.argmax(logits, dim=-1)
        return torch.nn.functional.one_hot(chosen, logits.shape[-1]).double()
    probs = torch.softmax(logits.double() / params.temperature, dim=-1)
    if params.top_k or params.top_p < 1:
        ranked, ids = torch.sort(probs, dim=-1, descending=True, stable=True)
        if params.top_k:
            ranked[..., params.top_k :] = 0
        ranked = ranked / ranked.sum(-1, keepdim=True)
        if params.top_p < 1:
            ahead = torch.cumsum(ranked, dim=-1) - ranked
            ahead[..., 0] = -1  # the most probable one always stays
            ranked = torch.where(ahead < params.top_p, ranked, torch.zeros_like(ranked))
        probs = torch.zeros_like(probs).scatter_(-1, ids, ranked)
    return probs / probs.sum(-1, keepdim=True)


def draw(probs: Tensor, generator: torch.Generator | None = None) -> int:
    """One token id of probabilities (vocab,); a one-hot row draws no random number."""
    top = int(torch.argmax(probs))
    if float(probs[top]) == 1.0:
        return top
    return int(torch.multinomial(probs, 1, generator=generator))
