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
    raise NotImplementedError("task 4.9: quantize")


def dequantize(numbers: Tensor, scales: Tensor, group: int = GROUP) -> Tensor:
    """(n,) float32 from what `quantize` gives."""
    raise NotImplementedError("task 4.9: dequantize")


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
    raise NotImplementedError("task 4.9: int8_all_reduce")


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
        raise NotImplementedError("task 4.9: Int8Reducer.__call__")

    def state_dict(self) -> dict[str, Any]:
        """The state of this rank's generator, None before the first call."""
        return {"generator": None if self.generator is None else self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken, on the same rank."""
        raise NotImplementedError("task 4.9: Int8Reducer.load_state_dict")
