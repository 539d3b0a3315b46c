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
    ranks like any other's. Each rank routes its own tokens, as many as it has, and sends one row for
    each (token, chosen expert), no more and no fewer: nothing is dropped, nothing padded, and rows
    to the own rank do not move. How many rows come from where is told first: all_to_all of int64
    counts, one for each of the receiver's experts. Every rank takes part in both exchanges of
    backward, whether it has tokens and experts or not; x needs a gradient on all ranks or on none.
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
        if torch.is_grad_enabled() and not done.requires_grad:
            done = done.requires_grad_()  # no experts here: the others wait in backward
        returned = Exchange.apply(done, incoming, outgoing, self.ranks)
        weighted = returned * weights.reshape(-1)[order][:, None]
        return torch.zeros_like(tokens).index_add(0, source, weighted).view(x.shape)
        # END SOLUTION

    def _apply_experts(self, rows: Tensor, counts: Tensor) -> Tensor:
        """Each row through its expert. rows: by sender, then by expert; counts: (size, mine)."""
        # BEGIN SOLUTION 4.10
        if not self.experts:
            return rows
        expert = torch.arange(counts.shape[1], device=rows.device).repeat(len(counts))
        order = torch.sort(expert.repeat_interleave(counts.reshape(-1)), stable=True).indices
        parts = rows[order].split(counts.sum(0).tolist())
        done = [module(part) for module, part in zip(self.experts.values(), parts, strict=True)]
        return torch.cat(done)[order.argsort()]
        # END SOLUTION


def balance_loss(logits: Tensor, chosen: Tensor) -> Tensor:
    """experts · Σ f_e · p_e of this rank's tokens (Fedus et al., 2022): 1 where all is even.

    f_e: the share of (token, place) pairs that went to e; p_e: the mean over tokens of the softmax
    over all experts. The gradient flows through p alone. Without a token it is 0.
    """
    # BEGIN SOLUTION 4.10
    experts = logits.shape[-1]
    share = torch.bincount(chosen.reshape(-1), minlength=experts).to(logits.dtype)
    share /= max(chosen.numel(), 1)
    return experts * (share * logits.softmax(-1).sum(0)).sum() / max(len(logits), 1)
    # END SOLUTION
