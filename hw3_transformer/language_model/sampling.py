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
    raise NotImplementedError("task 3.6: filter_logits")


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
    raise NotImplementedError("task 3.6: sample")
