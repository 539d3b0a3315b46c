"""Task 3.6: the next token from logits: greedy, temperature, top-k, top-p."""

from __future__ import annotations

import torch
from torch import Tensor


def filter_logits(logits: Tensor, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """Logits with -inf wherever a token may not be drawn: first top-k, then top-p of what is left.

    logits: (batch, vocab). top_k keeps the k largest of each row, exactly k of those that are not
    -inf already; 0 keeps all. top_p (nucleus sampling, Holtzman et al., 2020) keeps the smallest
    set of most probable tokens whose probabilities, among those that top_k left, sum to top_p or
    more, and always at least one; 1 keeps all. Of equal logits the lower token id counts as
    larger. Rows are independent. Returns a new (batch, vocab) tensor of the same type.
    Raises ValueError for top_k < 0 and for top_p outside [0, 1].
    """
    # BEGIN SOLUTION 3.6
    if top_k < 0:
        raise ValueError(f"top_k is {top_k}; it counts tokens, 0 keeps all")
    if not 0.0 <= top_p <= 1.0:
        raise ValueError(f"top_p is {top_p}; it is a probability")
    vocab = logits.shape[-1]
    if (top_k == 0 or top_k >= vocab) and top_p == 1.0:
        return logits.clone()
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)
    drop = torch.zeros_like(ordered, dtype=torch.bool)
    if top_k:
        drop[:, top_k:] = True
    if top_p < 1.0:
        # float64: a sum over a large vocabulary, compared with a threshold.
        probability = ordered.double().masked_fill(drop, -torch.inf).softmax(-1)
        before = probability.cumsum(-1) - probability  # mass of the tokens ahead of each one
        drop |= before >= top_p
        drop[:, 0] = False
    return logits.masked_fill(torch.zeros_like(drop).scatter(-1, order, drop), -torch.inf)
    # END SOLUTION


def sample(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """One token for each row, drawn from softmax(logits / temperature), filtered by top-k and top-p.

    logits: (batch, vocab) of any float type; -inf marks a token that may not be drawn. Returns
    (batch,) int64. Temperature 0 takes the largest logit, of equals the lowest id, and draws
    nothing from the generator. The temperature applies before top_p: what is kept depends on it.
    The same generator state gives the same tokens. Computed in float32 at least.
    Raises ValueError for a negative temperature, and for a row that has nan, +inf, or only -inf.
    """
    # BEGIN SOLUTION 3.6
    if not temperature >= 0:
        raise ValueError(f"temperature is {temperature}; 0 is greedy, above 0 draws")
    largest, best = logits.max(dim=-1)
    if not bool(largest.isfinite().all()):  # the maximum of a row with nan is nan
        raise ValueError("a row of logits holds nan or +inf, or allows no token at all")
    if temperature == 0:
        return best
    wide = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    # The shift changes no probability; without it a small temperature overflows.
    tempered = (wide - largest[:, None].to(wide.dtype)) / temperature
    probability = filter_logits(tempered, top_k, top_p).softmax(-1)
    return torch.multinomial(probability, 1, generator=generator)[:, 0]
    # END SOLUTION
