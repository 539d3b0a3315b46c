"""Task 4.7: the largest gradients only, and the rest remembered (Aji and Heafield, 2017)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from distributed_training.communicator import Communicator
from distributed_training.data_parallel import Bucket


def largest(values: Tensor, count: int) -> Tensor:
    """Places of the `count` elements of largest magnitude, in rising order: (count,) int32.

    values: one-dimensional. Of equal magnitudes the one at the lower place counts as larger, so that
    every machine picks the same. All places where there are `count` elements or fewer.
    """
    # BEGIN SOLUTION 4.7
    count = min(count, len(values))
    order = torch.sort(values.abs(), descending=True, stable=True).indices[:count]
    return order.sort().values.to(torch.int32)
    # END SOLUTION


def elements_sent(count: int, fraction: float) -> int:
    """Given: how many of `count` elements a rank sends: ⌈fraction · count⌉, and at least 1.

    0.07 · 100 is 7.000000000000001 in floating point, and still 7 here.
    """
    return max(1, math.ceil(round(fraction * count, 6)))


class TopKReducer:
    """A `Reducer`: each rank sends `fraction` of its elements, the mean is of what was sent.

    Error feedback: what a rank did not send is added to its next gradient (Stich et al., 2018). A
    bucket's message is places (int32) and values (the bucket's type) of `elements_sent` elements,
    sent round the ring so that every rank gets every other's. With fraction 1 the result is the
    dense mean. The sum over ranks is made in the order of ranks, so all end with the same bits.

    residuals: by bucket.index, what this rank has not sent yet: (elements,), float32 where the
    bucket's type is smaller. What is lost when a value is rounded to the bucket's type, to be sent,
    stays in the residual too. Sums over ranks are made in that wider type.
    """

    def __init__(self, fraction: float, error_feedback: bool = True) -> None:
        if not 0.0 < fraction <= 1.0:
            raise ValueError(f"fraction {fraction} is not in (0, 1]")
        self.fraction, self.error_feedback = fraction, error_feedback
        self.residuals: dict[int, Tensor] = {}

    def __call__(self, ranks: Communicator, bucket: Bucket) -> None:
        """Replace `bucket.flat` by the mean of what the ranks sent."""
        # BEGIN SOLUTION 4.7
        flat = bucket.flat
        if not len(flat):
            return
        wide = torch.promote_types(flat.dtype, torch.float32)
        corrected = flat.to(wide, copy=True)
        if self.error_feedback and bucket.index in self.residuals:
            corrected += self.residuals[bucket.index]
        places = largest(corrected, elements_sent(len(flat), self.fraction))
        values = corrected[places.long()].to(flat.dtype)
        total = torch.zeros_like(corrected)
        for theirs, numbers in _round_the_ring(ranks, places, values):
            total.index_add_(0, theirs.long(), numbers.to(wide))
        if self.error_feedback:
            corrected[places.long()] -= values.to(wide)
            self.residuals[bucket.index] = corrected
        flat.copy_(total / ranks.size)
        # END SOLUTION

    def state_dict(self) -> dict[str, Any]:
        """The residuals by bucket: a run that resumes without them loses what was never sent."""
        return {"residuals": {index: r.clone() for index, r in self.residuals.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over residuals of `state_dict`."""
        self.residuals = {index: r.clone() for index, r in state["residuals"].items()}


def _round_the_ring(
    ranks: Communicator, places: Tensor, values: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """Every rank's places and values, in the order of ranks; size − 1 steps of two messages."""
    # BEGIN SOLUTION 4.7
    found = {ranks.rank: (places, values)}
    following, previous = (ranks.rank + 1) % ranks.size, (ranks.rank - 1) % ranks.size
    for step in range(ranks.size - 1):
        work = [ranks.isend(part, following) for part in found[(ranks.rank - step) % ranks.size]]
        received = (torch.empty_like(places), torch.empty_like(values))
        work += [ranks.irecv(part, previous) for part in received]
        for each in work:
            each.wait()
        found[(ranks.rank - step - 1) % ranks.size] = received
    return [found[rank] for rank in range(ranks.size)]
    # END SOLUTION
