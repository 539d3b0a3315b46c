"""Task 4.10: a mixture of experts, the experts divided among the ranks (Lepikhin et al., 2021)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from distributed_training.collectives import all_to_all
from distributed_training.communicator import Communicator
from distributed_training.model import SwiGLU
from distributed_training.partition import chunk_bounds


class Exchange(torch.autograd.Function):
    """Rows to the ranks that want them; backward sends the gradients the way back."""

    @staticmethod
    def forward(
        context: Any, rows: Tensor, outgoing: list[int], incoming: list[int], ranks: Communicator
    ) -> Tensor:
        """rows: (Σ outgoing, width), those for rank 0 first -> (Σ incoming, width), by sender."""
        # BEGIN SOLUTION 4.10
        context.outgoing, context.incoming, context.ranks = outgoing, incoming, ranks
        return torch.cat(all_to_all(ranks, list(rows.contiguous().split(outgoing)), incoming))
        # END SOLUTION

    @staticmethod
    def backward(context: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        """As forward, with the two counts exchanged."""
        # BEGIN SOLUTION 4.10
        parts = list(upstream.contiguous().split(context.incoming))
        return torch.cat(all_to_all(context.ranks, parts, context.outgoing)), None, None, None
        # END SOLUTION


def route(logits: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """The top_k experts of each token, and their weights: a softmax over those chosen.

    logits: (tokens, experts). Of equal logits the lower expert comes first. Returns (tokens, top_k)
    int64 and (tokens, top_k) in the type of logits, differentiable.
    """
    # BEGIN SOLUTION 4.10
    experts = torch.sort(logits, dim=-1, descending=True, stable=True).indices[:, :top_k]
    return experts, logits.gather(1, experts).softmax(-1)
    # END SOLUTION


class MixtureOfExperts(nn.Module):
    """A SwiGLU for each expert, of which this rank has `chunk_bounds(experts, size)[rank]`.

    router: (experts, hidden_size), the same on every rank; the caller averages its gradient over
    ranks like any other's. Each rank routes its own tokens; a token goes once to every rank that has
    at least one of its experts' places: one row for each (token, expert), no more and no fewer, and
    nothing is dropped. Rows to the own rank are not sent.
    """

    def __init__(
        self, hidden_size: int, intermediate_size: int, experts: int, top_k: int,
        ranks: Communicator,
    ) -> None:  # fmt: skip
        super().__init__()
        self.ranks, self.top_k, self.count = ranks, top_k, experts
        self.bounds = chunk_bounds(experts, ranks.size)
        self.start, self.stop = self.bounds[ranks.rank]
        self.router = nn.Parameter(torch.empty(experts, hidden_size))
        self.experts = nn.ModuleDict(
            {str(e): SwiGLU(hidden_size, intermediate_size) for e in range(self.start, self.stop)}
        )

    def forward(self, x: Tensor) -> Tensor:
        """x: (…, hidden_size) -> the same shape: each token's experts, weighted and summed."""
        # BEGIN SOLUTION 4.10
        tokens = x.reshape(-1, x.shape[-1])
        chosen, weights = route(tokens @ self.router.T, self.top_k)
        expert = chosen.reshape(-1)
        order = torch.sort(expert, stable=True).indices  # by expert, and so by rank
        source = order // self.top_k
        counts = torch.bincount(expert, minlength=self.count)
        per_rank = [counts[start:stop] for start, stop in self.bounds]
        mine = self.stop - self.start
        theirs = all_to_all(
            self.ranks, [part.contiguous() for part in per_rank], [mine] * self.ranks.size
        )
        outgoing = [int(part.sum()) for part in per_rank]
        incoming = [int(part.sum()) for part in theirs]
        arrived = Exchange.apply(tokens[source], outgoing, incoming, self.ranks)
        done = self._apply_experts(arrived, torch.stack(theirs))
        returned = Exchange.apply(done, incoming, outgoing, self.ranks)
        weighted = returned * weights.reshape(-1)[order][:, None]
        return torch.zeros_like(tokens).index_add(0, source, weighted).view(x.shape)
        # END SOLUTION

    def _apply_experts(self, rows: Tensor, counts: Tensor) -> Tensor:
        """Each row through its expert. rows: by sender, then by expert; counts: (size, mine)."""
        # BEGIN SOLUTION 4.10
        expert = torch.arange(self.start, self.stop).repeat(len(counts))
        expert = expert.repeat_interleave(counts.reshape(-1))
        result = torch.zeros_like(rows)
        for name, module in self.experts.items():
            places = (expert == int(name)).nonzero()[:, 0]
            result = result.index_add(0, places, module(rows[places]))
        return result
        # END SOLUTION


def balance_loss(logits: Tensor, chosen: Tensor) -> Tensor:
    """experts · Σ f_e · p_e of this rank's tokens (Fedus et al., 2022): 1 where all is even.

    f_e: the share of (token, place) pairs that went to e; p_e: the mean router probability of e.
    The gradient flows through p alone.
    """
    # BEGIN SOLUTION 4.10
    experts = logits.shape[-1]
    share = torch.bincount(chosen.reshape(-1), minlength=experts).to(logits.dtype) / chosen.numel()
    return experts * (share * logits.softmax(-1).mean(0)).sum()
    # END SOLUTION
