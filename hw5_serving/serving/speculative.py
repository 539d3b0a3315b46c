"""Task 5.4: tokens guessed cheaply, verified by the target in one step; the answer is exact."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from serving.model import Llama
from serving.sampling import distribution, draw
from serving.sequence import SamplingParams, Sequence

Generator = torch.Generator | None
SALT = 0x5BEC_0DED  # parts a draft's random numbers from those of a request with the same seed


@dataclass(frozen=True)
class Proposal:
    """Guessed tokens; probs (tokens, vocab): what each was drawn from, None if none was drawn."""

    tokens: list[int]
    probs: Tensor | None = None


class Proposer(Protocol):
    """What the engine asks for guesses, before each step, for every request that decodes."""

    def propose(self, sequence: Sequence, count: int) -> Proposal:
        """At most `count` tokens that may follow; the sequence is only read."""
        ...

    def forget(self, request_id: int) -> None:
        """The request has ended; unknown ones are passed over."""
        ...


def propose_by_lookup(
    tokens: Items[int], count: int, longest: int = 3, shortest: int = 1
) -> list[int]:
    """`count` tokens that followed the text's last n-gram where it stood before; no match: [].

    The largest n from `shortest` to `longest` that is found counts, of its earlier places the
    latest (prompt lookup, Saxena, 2023). The place may overlap the end; what follows it goes on
    into the guess itself where the text ends, as in LZ77: after 5, 7, 7 come 7, 7, 7. One pass over
    the text.
    """
    raise NotImplementedError("task 5.4: propose_by_lookup")


def propose_by_draft(
    next_probs: Callable[[list[int]], Tensor],
    tokens: Items[int],
    count: int,
    generator: Generator = None,
) -> Proposal:
    """`count` tokens drawn one after the other from a draft model, with what they were drawn from.

    next_probs: text -> (vocab,) probabilities of its next token.
    """
    raise NotImplementedError("task 5.4: propose_by_draft")


def verify(
    proposed: Items[int], target: Tensor, draft: Tensor | None = None, generator: Generator = None
) -> list[int]:
    """Tokens that may be appended: the accepted proposals and one more.

    proposed: k tokens; target: (k + 1, vocab) probabilities of the target model, row i after the
    first i proposals (one-hot rows for greedy). draft: (k, vocab), what each proposal was drawn
    from; None where nothing was drawn (prompt lookup: probability 1 on the proposal). Proposal x is
    kept with probability min(1, p(x) / q(x)); at the first that is not, the token is drawn from
    max(p - q, 0), normalised (Leviathan et al., 2023), and the rest is dropped. Each token then has
    the target's distribution, whatever was proposed.
    """
    raise NotImplementedError("task 5.4: verify")


class DraftText:
    """Given: keys and values of one text, as a small model has computed them; no blocks."""

    def __init__(self, model: Llama) -> None:
        sizes = model.sizes
        self.model = model
        self.tokens: list[int] = []
        empty = torch.zeros(0, sizes.num_kv_heads, sizes.head_dim, dtype=model.norm.weight.dtype)
        self.keys = [empty] * sizes.num_layers
        self.values = [empty] * sizes.num_layers

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` tokens."""
        del self.tokens[length:]
        self.keys = [part[:length] for part in self.keys]
        self.values = [part[:length] for part in self.values]

    @torch.inference_mode()
    def extend(self, tokens: Items[int]) -> Tensor:
        """Compute further tokens, one at least; the logits (vocab,) after the last."""
        first, count = len(self.tokens), len(tokens)
        own = torch.arange(first, first + count)
        seen = torch.arange(first + count)[None] <= own[:, None]

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            self.keys[layer] = torch.cat([self.keys[layer], key])
            self.values[layer] = torch.cat([self.values[layer], value])
            heads = [x.transpose(0, 1)[None] for x in (query, self.keys[layer], self.values[layer])]
            mixed = F.scaled_dot_product_attention(*heads, attn_mask=seen, enable_gqa=True)
            return mixed[0].transpose(0, 1)

        hidden = self.model(torch.tensor(tokens), own, attend)
        self.tokens.extend(tokens)
        return self.model.compute_logits(hidden[-1])


class LookupProposer:
    """Guesses from the request's own text; the best there is where an answer repeats its prompt."""

    def __init__(self, longest: int = 3, shortest: int = 1) -> None:
        self.longest = longest
        self.shortest = shortest

    def propose(self, sequence: Sequence, count: int) -> Proposal:
        """What followed the last tokens before; see propose_by_lookup."""
        found = propose_by_lookup(sequence.token_ids, count, self.longest, self.shortest)
        return Proposal(found)

    def forget(self, request_id: int) -> None:
        """Nothing is kept."""


class DraftProposer:
    """Guesses from a small model with the target's vocabulary.

    texts: by request, what the draft has computed, its rejected guesses included. generators: by
    request; made from its seed, but with other numbers than the ones `verify` draws: a guess that
    depends on the number by which it is judged makes the answer inexact.
    """

    def __init__(self, model: Llama) -> None:
        self.model = model.eval()
        self.vocab_size = model.sizes.vocab_size  # the engine refuses another one than its own
        self.texts: dict[int, DraftText] = {}
        self.generators: dict[int, torch.Generator] = {}

    def next_probs(self, request_id: int, text: list[int], sampling: SamplingParams) -> Tensor:
        """(vocab,) what the draft draws the token after `text` from, as `sampling` asks.

        What was computed for this request before is used as far as its tokens are those of `text`:
        guesses may have been rejected, and tokens come since. Only what is missing is computed; the
        last token always is: its logits are needed.
        """
        raise NotImplementedError("task 5.4: DraftProposer.next_probs")

    def propose(self, sequence: Sequence, count: int) -> Proposal:
        """Tokens drawn from the draft, with the request's temperature; none past its positions."""
        request_id, sampling = sequence.request_id, sequence.sampling
        if request_id not in self.generators:
            generator = torch.Generator()
            if sampling.seed is None:
                generator.seed()
            else:
                generator.manual_seed(sampling.seed ^ SALT)
            self.generators[request_id] = generator
        return propose_by_draft(
            lambda text: self.next_probs(request_id, text, sampling),
            sequence.token_ids,
            min(count, self.model.sizes.max_positions - sequence.num_tokens),
            self.generators[request_id],
        )

    def forget(self, request_id: int) -> None:
        """Let go of the request's keys, values and random numbers."""
        raise NotImplementedError("task 5.4: DraftProposer.forget")
