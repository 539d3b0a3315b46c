"""Task 5.4: tokens guessed cheaply, verified by the target model in one step; the answer is exact."""

from __future__ import annotations

from collections.abc import Callable, Sequence as Items

import torch
from torch import Tensor


def propose_by_lookup(
    tokens: Items[int], count: int, longest: int = 3, shortest: int = 1
) -> list[int]:
    """Up to `count` tokens that followed the text's last n-gram where it stood before.

    Tries n from `longest` down to `shortest`; of several earlier places the latest counts
    (prompt lookup, Saxena, 2023). The earlier place may overlap the end. No match: [].
    """
    raise NotImplementedError("task 5.4: propose_by_lookup")


def propose_by_draft(
    next_probs: Callable[[list[int]], Tensor],
    tokens: Items[int],
    count: int,
    generator: torch.Generator | None = None,
) -> tuple[list[int], Tensor]:
    """`count` tokens drawn one after the other from a draft model, and what they were drawn from.

    next_probs: text -> (vocab,) probabilities. Returns the tokens and (count, vocab) probabilities.
    """
    raise NotImplementedError("task 5.4: propose_by_draft")


def verify(
    proposed: Items[int],
    target: Tensor,
    draft: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> list[int]:
    """Tokens that may be appended: the accepted proposals and one more.

    proposed: k tokens; target: (k + 1, vocab) probabilities of the target model, row i after the
    first i proposals (one-hot rows for greedy). draft: (k, vocab), what each proposal was drawn
    from; None where nothing was drawn (prompt lookup: probability 1 on the proposal). Proposal x is
    kept with probability min(1, p(x) / q(x)); at the first that is not, the token is drawn from
    max(p - q, 0), normalised (Leviathan et al., 2023). Each token then has the target's
    distribution, whatever was proposed.
    """
    raise NotImplementedError("task 5.4: verify")
