"""What ranks say to each other with: send, receive, barrier. Given.

Everything in this homework is written against `Communicator`. `connect()` gives the one that fits
where the code runs: behind the switch of the tests, under `torchrun` (gloo on CPUs, nccl on GPUs),
or a world of one.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


class CommunicationError(RuntimeError):
    """The group has ended: a deadlock, another rank's failure, or sizes that do not match."""


class Work(ABC):
    """A send or a receive that was started."""

    @abstractmethod
    def wait(self) -> None:
        """Return when it is done: what was to be received is there, what was sent may change.

        Raises CommunicationError.
        """


@dataclass
class Counters:
    """What this rank has sent: bytes and calls by peer."""

    bytes_to: dict[int, int] = field(default_factory=dict)
    calls_to: dict[int, int] = field(default_factory=dict)

    def add(self, peer: int, size: int) -> None:
        """One more message of `size` bytes to `peer`."""
        self.bytes_to[peer] = self.bytes_to.get(peer, 0) + size
        self.calls_to[peer] = self.calls_to.get(peer, 0) + 1

    @property
    def total_bytes(self) -> int:
        """Bytes sent to all peers."""
        return sum(self.bytes_to.values())


class Communicator(ABC):
    """One rank's view of a group of `size` ranks; `rank` is its own place in it.

    Between two ranks, messages with the same tag arrive in the order in which they were sent. A
    receive states its size by the tensor it fills: dtype and number of elements must be those of
    the message. `send` returns when the other side has received; `isend` returns at once.
    """

    rank: int
    size: int
    counters: Counters

    def send(self, tensor: Tensor, to: int, tag: int = 0) -> None:
        """Hand the tensor's elements to rank `to`; returns when it has them.

        Two ranks that both send to each other first, and receive afterwards, wait for ever.
        """
        self._start_send(tensor, to, tag, synchronous=True).wait()

    def recv(self, tensor: Tensor, source: int, tag: int = 0) -> None:
        """Fill `tensor` in place with the next message of rank `source`."""
        self.irecv(tensor, source, tag).wait()

    def isend(self, tensor: Tensor, to: int, tag: int = 0) -> Work:
        """Start a send. The tensor must not change before `wait()` returns."""
        return self._start_send(tensor, to, tag, synchronous=False)

    @abstractmethod
    def _start_send(self, tensor: Tensor, to: int, tag: int, synchronous: bool) -> Work: ...

    @abstractmethod
    def irecv(self, tensor: Tensor, source: int, tag: int = 0) -> Work:
        """Start a receive: `tensor` is filled, in place, when `wait()` returns."""

    @abstractmethod
    def barrier(self) -> None:
        """Return when every rank of the group has called it."""

    @abstractmethod
    def subgroup(self, ranks: Sequence[int]) -> Communicator | None:
        """A communicator of some ranks, by their places here; None on ranks that are not in it.

        Every rank of the group calls it, in the same order, as with torch's `new_group`.
        """

    def note(self, text: str) -> None:
        """Put a line into the record of events, where there is one."""

    def close(self) -> None:
        """The rank needs the group no more."""


class WorldOfOne(Communicator):
    """A group of one rank: there is nobody to send to."""

    def __init__(self) -> None:
        self.rank, self.size, self.counters = 0, 1, Counters()

    def _start_send(self, tensor: Tensor, to: int, tag: int, synchronous: bool) -> Work:
        raise CommunicationError(f"there is no rank {to} in a world of one")

    def irecv(self, tensor: Tensor, source: int, tag: int = 0) -> Work:
        raise CommunicationError(f"there is no rank {source} in a world of one")

    def barrier(self) -> None:
        return

    def subgroup(self, ranks: Sequence[int]) -> Communicator | None:
        return self if 0 in ranks else None


def connect() -> Communicator:
    """The communicator of this process; raises CommunicationError where there is none to join."""
    from distributed_training.local_channel import LocalCommunicator, local_place

    place = local_place()
    if place is not None:
        return LocalCommunicator(*place)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 or "TORCHELASTIC_RUN_ID" in os.environ:
        from distributed_training.torch_channel import TorchCommunicator

        return TorchCommunicator.start("nccl" if torch.cuda.is_available() else "gloo")
    return WorldOfOne()


def check_message(tensor: Tensor, peer: int, communicator: Communicator) -> None:
    """What no back end can send; raises ValueError with what to do."""
    if not 0 <= peer < communicator.size or peer == communicator.rank:
        raise ValueError(
            f"rank {communicator.rank} of {communicator.size} names rank {peer} as its peer"
        )
    if not tensor.is_contiguous():
        raise ValueError(f"a tensor of shape {tuple(tensor.shape)} is not contiguous")
