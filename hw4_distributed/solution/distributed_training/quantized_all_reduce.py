"""Task 4.9: an all-reduce whose messages are int8 (Alistarh et al., 2017, "QSGD", for the idea)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from distributed_training.communicator import Communicator
from distributed_training.data_parallel import Bucket
from distributed_training.partition import chunk_bounds

GROUP = 256


def quantize(
    values: Tensor, generator: torch.Generator, group: int = GROUP
) -> tuple[Tensor, Tensor]:
    """int8 numbers and a float32 scale for each `group` of elements, rounded at random.

    values: one-dimensional, finite. The scale of a group is its largest magnitude over 127, and
    value / scale is rounded up with the probability of its fraction, down otherwise: the mean of
    what comes back is the value. A group of zeros has scale 0. The last group may be short. Returns
    (n,) int8 and (⌈n / group⌉,) float32.
    """
    # BEGIN SOLUTION 4.9
    count = -(-len(values) // group)
    padded = torch.zeros(count * group, device=values.device)
    padded[: len(values)] = values.float()
    groups = padded.view(count, group)
    scales = groups.abs().amax(1) / 127.0 if count else groups.new_zeros(0)
    steps = groups / torch.where(scales > 0, scales, 1.0)[:, None]
    noise = torch.rand(steps.shape, generator=generator).to(steps.device)
    numbers = (steps + noise).floor().clamp(-127, 127).to(torch.int8)
    return numbers.view(-1)[: len(values)].contiguous(), scales
    # END SOLUTION


def dequantize(numbers: Tensor, scales: Tensor, group: int = GROUP) -> Tensor:
    """(n,) float32 from what `quantize` gives."""
    # BEGIN SOLUTION 4.9
    return numbers.float() * scales.repeat_interleave(group)[: len(numbers)]
    # END SOLUTION


def int8_all_reduce(
    ranks: Communicator, tensor: Tensor, generator: torch.Generator, average: bool = False
) -> None:
    """Replace `tensor` by an unbiased estimate of the sum over ranks, or of the mean.

    Each rank sends every other its chunk of `chunk_bounds`, quantised; sums what it got in float32,
    in the order of ranks, its own part quantised like the others'; quantises the sum (divided, where
    the mean is asked for) and sends it to all. So every element is rounded twice,
    not once a step, and all ranks end with the same bits (the owner of a chunk takes its own quantised
    sum too). Messages: int8 numbers and float32 scales, nothing else. tensor: of any shape
    and strides, filled in place. In a world of one nothing is sent, and nothing rounded.
    """
    # BEGIN SOLUTION 4.9
    if ranks.size == 1:
        return
    whole = tensor.detach()
    flat = whole.reshape(-1)  # a copy where the strides do not allow a view
    bounds = chunk_bounds(len(flat), ranks.size)
    others = [rank for rank in range(ranks.size) if rank != ranks.rank]
    mine = bounds[ranks.rank]
    parts = {
        rank: quantize(flat[start:stop], generator) for rank, (start, stop) in enumerate(bounds)
    }
    received = _exchange(ranks, {r: parts[r] for r in others}, {r: mine for r in others})
    received[ranks.rank] = parts[ranks.rank]
    total = torch.zeros(mine[1] - mine[0], device=flat.device)
    for rank in range(ranks.size):
        total += dequantize(*received[rank])
    reduced = quantize(total / ranks.size if average else total, generator)
    finished = _exchange(ranks, {r: reduced for r in others}, {r: bounds[r] for r in others})
    finished[ranks.rank] = reduced
    for rank, (start, stop) in enumerate(bounds):
        flat[start:stop] = dequantize(*finished[rank]).to(flat.dtype)
    whole.copy_(flat.view(whole.shape))
    # END SOLUTION


def _exchange(
    ranks: Communicator, outgoing: dict[int, tuple[Tensor, Tensor]],
    incoming: dict[int, tuple[int, int]],
) -> dict[int, tuple[Tensor, Tensor]]:  # fmt: skip
    """Given: send each rank its numbers and scales, receive chunks of the given bounds."""
    work = [ranks.isend(part, rank) for rank, both in outgoing.items() for part in both]
    received = {}
    device = next(iter(outgoing.values()))[0].device
    for rank, (start, stop) in incoming.items():
        count = stop - start
        numbers = torch.empty(count, dtype=torch.int8, device=device)
        received[rank] = numbers, torch.empty(-(-count // GROUP), device=device)
        work += [ranks.irecv(part, rank) for part in received[rank]]
    for begun in work:
        begun.wait()
    return received


class Int8Reducer:
    """A `Reducer` by `int8_all_reduce`; each rank rounds with random numbers of its own.

    generator: made at the first call, from `seed` and the rank; it goes on from call to call.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.generator: torch.Generator | None = None

    def __call__(self, ranks: Communicator, bucket: Bucket) -> None:
        """Replace `bucket.flat` by an estimate of the mean."""
        # BEGIN SOLUTION 4.9
        if self.generator is None:
            self.generator = torch.Generator().manual_seed(self.seed * 65_537 + ranks.rank)
        int8_all_reduce(ranks, bucket.flat, self.generator, average=True)
        # END SOLUTION

    def state_dict(self) -> dict[str, Any]:
        """The state of this rank's generator, None before the first call."""
        return {"generator": None if self.generator is None else self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken, on the same rank."""
        # BEGIN SOLUTION 4.9
        self.generator = None
        if state["generator"] is not None:
            self.generator = torch.Generator()
            self.generator.set_state(state["generator"])
        # END SOLUTION
