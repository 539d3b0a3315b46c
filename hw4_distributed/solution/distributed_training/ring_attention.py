"""Task 4.10: attention over a sequence that is divided among the ranks (Liu et al., 2023)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from distributed_training.communicator import Communicator


def _pass_on(ranks: Communicator, tensors: list[Tensor]) -> list[Tensor]:
    """Given: send these to the next rank; the previous rank's, of the same shapes."""
    following, previous = (ranks.rank + 1) % ranks.size, (ranks.rank - 1) % ranks.size
    received = [torch.empty_like(tensor) for tensor in tensors]
    work = [ranks.isend(tensor, following) for tensor in tensors]
    work += [ranks.irecv(tensor, previous) for tensor in received]
    for begun in work:
        begun.wait()
    return received


def _allowed(
    queries: int, keys: int, rank: int, source: int, device: torch.device
) -> Tensor | None:
    """Given: what queries of chunk `rank` may see of chunk `source`; None for all of it.

    Chunks are equally long and in the order of ranks, so an earlier chunk may be seen whole, the
    own one up to the diagonal, and a later one not at all (which the caller leaves out).
    """
    if source < rank:
        return None
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril()


class _RingAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, query: Tensor, key: Tensor, value: Tensor, ranks: Communicator, causal: bool
    ) -> Tensor:
        """The output, of query's shape, by a softmax that goes on from one visiting pair to the next.

        Step t works on the keys and values of rank (rank − t) mod size, then passes them on. Saved for
        backward are this rank's own query, key, value, the output, and for each query the log of
        Σ exp(score) over all that it sees; nothing of what came from others.
        """
        # BEGIN SOLUTION 4.10
        scale = query.shape[-1] ** -0.5
        output = torch.zeros_like(query)
        top = query.new_full(query.shape[:-1], -torch.inf)  # the largest score so far
        total = query.new_zeros(query.shape[:-1])  # Σ exp(score − top)
        visiting = [key.contiguous(), value.contiguous()]
        for step in range(ranks.size):
            source = (ranks.rank - step) % ranks.size
            if not causal or source <= ranks.rank:
                scores = query @ visiting[0].transpose(-1, -2) * scale
                if causal:
                    scores = _masked(scores, ranks.rank, source)
                higher = torch.maximum(top, scores.amax(-1))
                weights = (scores - higher[..., None]).exp()
                shrink = (top - higher).exp()
                total = total * shrink + weights.sum(-1)
                output = output * shrink[..., None] + weights @ visiting[1]
                top = higher
            if step + 1 < ranks.size:
                visiting = _pass_on(ranks, visiting)
        output = output / total[..., None]
        context.save_for_backward(query, key, value, output, top + total.log())
        context.ranks, context.causal = ranks, causal
        return output
        # END SOLUTION

    @staticmethod
    def backward(context: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of query, key and value, and None for ranks and causal.

        Keys and values go round as in forward, each pair with its gradients, to which every rank adds
        its share; a weight is exp(score − the log that was saved). After the last step the gradients
        alone are passed on once more, to the rank that they belong to.
        """
        # BEGIN SOLUTION 4.10
        query, key, value, output, log_total = context.saved_tensors
        ranks, scale = context.ranks, query.shape[-1] ** -0.5
        weighted = (upstream * output).sum(-1, keepdim=True)
        query_gradient = torch.zeros_like(query)
        visiting = [key.contiguous(), value.contiguous()]
        gradients = [torch.zeros_like(chunk) for chunk in visiting]  # they travel with their chunk
        for step in range(ranks.size):
            source = (ranks.rank - step) % ranks.size
            if not context.causal or source <= ranks.rank:
                scores = query @ visiting[0].transpose(-1, -2) * scale
                if context.causal:
                    scores = _masked(scores, ranks.rank, source)
                weights = (scores - log_total[..., None]).exp()
                gradients[1] = gradients[1] + weights.transpose(-1, -2) @ upstream
                slope = weights * (upstream @ visiting[1].transpose(-1, -2) - weighted) * scale
                query_gradient += slope @ visiting[0]
                gradients[0] = gradients[0] + slope.transpose(-1, -2) @ query
            if step + 1 < ranks.size:
                *visiting, gradients[0], gradients[1] = _pass_on(ranks, [*visiting, *gradients])
        if ranks.size > 1:  # one more step, and every chunk's gradients are home
            gradients = _pass_on(ranks, gradients)
        return query_gradient, gradients[0], gradients[1], None, None
        # END SOLUTION


def _masked(scores: Tensor, rank: int, source: int) -> Tensor:
    """Given: −inf where a query may not see a key."""
    allowed = _allowed(*scores.shape[-2:], rank, source, scores.device)
    return scores if allowed is None else scores.masked_fill(~allowed, -torch.inf)


def ring_attention(
    query: Tensor, key: Tensor, value: Tensor, ranks: Communicator, causal: bool = True
) -> Tensor:
    """Attention of this rank's queries over the keys and values of all ranks.

    query, key, value: (batch, heads, time / size, head_dim), rank r's chunk r of the sequence, of
    the same shape on all ranks, however they lie in memory. A chunk is a rank's keys, or its values.
    Keys and values go once round the ring: a rank holds its own two chunks and two that visit, and
    while it passes those on, the next two as they come. In backward they go round again, with their
    gradients, which take one step more to be home; so a rank sends 2·(size − 1) chunks forward and
    4·(size − 1) + 2 backward. Chunks that causality hides altogether are passed on and not computed. Returns query's shape; differentiable.
    """
    return _RingAttention.apply(query, key, value, ranks, causal)
