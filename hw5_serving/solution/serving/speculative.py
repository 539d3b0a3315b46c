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
    # BEGIN SOLUTION 5.4
    text = list(tokens)
    for size in range(min(longest, len(text) - 1), shortest - 1, -1):
        tail = text[-size:]
        for place in range(len(text) - size - 1, -1, -1):
            if text[place : place + size] == tail:
                return text[place + size : place + size + count]
    return []
    # END SOLUTION


def propose_by_draft(
    next_probs: Callable[[list[int]], Tensor],
    tokens: Items[int],
    count: int,
    generator: torch.Generator | None = None,
) -> tuple[list[int], Tensor]:
    """`count` tokens drawn one after the other from a draft model, and what they were drawn from.

    next_probs: text -> (vocab,) probabilities. Returns the tokens and (count, vocab) probabilities.
    """
    # BEGIN SOLUTION 5.4
    text = list(tokens)
    rows = []
    for _ in range(count):
        rows.append(next_probs(text))
        text.append(int(torch.multinomial(rows[-1], 1, generator=generator)))
    return text[len(tokens) :], torch.stack(rows) if rows else torch.zeros(0, 0)
    # END SOLUTION


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
    # BEGIN SOLUTION 5.4
    kept: list[int] = []
    for place, token in enumerate(proposed):
        p = target[place]
        if draft is None:
            q = torch.zeros_like(p)
            q[token] = 1
        else:
            q = draft[place].to(p.dtype)
        chance = torch.rand((), generator=generator, dtype=torch.float64)
        if float(chance * q[token]) < float(p[token]):
            kept.append(int(token))
            continue
        rest = (p - q).clamp(min=0)
        kept.append(int(torch.multinomial(rest, 1, generator=generator)))
        return kept
    kept.append(int(torch.multinomial(target[len(proposed)], 1, generator=generator)))
    return kept
    # END SOLUTION
