"""The communicator of the tests: each rank's only channel is a socket to a switch. Given.

The switch belongs to whoever started the ranks. It pairs sends with receives, counts them, and ends
the group with a sentence when every rank waits for another.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Sequence

import torch
from torch import Tensor

from distributed_training.communicator import (
    CommunicationError,
    Communicator,
    Counters,
    Work,
    check_message,
)

FRAME = struct.Struct("<BiqQQ")  # kind, peer, tag, request, length
SEND, SYNCHRONOUS_SEND, RECEIVE, WAIT, BARRIER, NOTE = 1, 2, 3, 4, 5, 6
DONE, FAILED = 64, 65
_GROUP_SHIFT = 32  # a tag's upper half is the number of the subgroup

# Where several ranks are threads of one process (a debugger), each has its own place.
threads = threading.local()


def local_place() -> tuple[int, int, int] | None:
    """(rank, size, descriptor of the switch) of this process, or None where there is no switch."""
    if getattr(threads, "place", None):
        return threads.place
    names = ("LLM_SYSTEMS_RANK", "LLM_SYSTEMS_WORLD_SIZE", "LLM_SYSTEMS_SWITCH")
    values = [os.environ.get(name) for name in names]
    return tuple(map(int, values)) if all(values) else None  # type: ignore[return-value, arg-type]


class _Channel:
    """The socket, shared by a communicator and its subgroups, and by the threads of this rank."""

    def __init__(self, descriptor: int) -> None:
        self.socket = socket.socket(fileno=os.dup(descriptor))
        self.requests = 0
        self.subgroups = 0
        self.receiving: dict[int, Tensor] = {}
        self.done: set[int] = set()
        self.failure = ""
        self.writing = threading.Lock()
        # One thread reads for all: it wakes the others when something has come.
        self.changed = threading.Condition()
        self.reading = False

    def write(
        self, kind: int, peer: int, tag: int, length: int,
        data: memoryview | None = None, target: Tensor | None = None,
    ) -> int:  # fmt: skip
        """Send a frame; returns its request's number. target: what a receive is to fill."""
        with self.writing:
            self.requests += 1
            request = self.requests
            if target is not None:
                self.receiving[request] = target
            self._send(FRAME.pack(kind, peer, tag, request, length), data)
        return request

    def wait(self, request: int) -> None:
        """Read until `request` is done; what comes for others is kept."""
        with self.changed:
            if request in self.done:
                self.done.discard(request)
                return
        with self.writing:
            self._send(FRAME.pack(WAIT, -1, 0, request, 0), None)
        while True:
            with self.changed:
                if request in self.done:
                    self.done.discard(request)
                    return
                if self.failure:
                    raise CommunicationError(self.failure)
                if self.reading:
                    self.changed.wait()
                    continue
                self.reading = True
            self._read_one()

    def _read_one(self) -> None:
        done, failure = 0, ""
        try:
            done = self._read()
        except CommunicationError as error:
            failure = str(error)
        except OSError:
            failure = "the group has ended"
        with self.changed:
            self.reading = False
            self.done.add(done)
            self.failure = self.failure or failure
            self.changed.notify_all()

    def _read(self) -> int:
        kind, _, _, request, length = FRAME.unpack(self._exactly(bytearray(FRAME.size)))
        if kind == FAILED:
            raise CommunicationError(self._exactly(bytearray(length)).decode())
        target = self.receiving.pop(request, None)
        if target is not None and length:
            self._exactly(_bytes_of(target))
        return request

    def _exactly(self, buffer: bytearray | memoryview) -> bytearray | memoryview:
        view = memoryview(buffer)
        while view:
            count = self.socket.recv_into(view)
            if not count:
                raise CommunicationError("the group has ended")
            view = view[count:]
        return buffer

    def _send(self, head: bytes, data: memoryview | None) -> None:
        try:
            self.socket.sendall(head)
            if data is not None and len(data):
                self.socket.sendall(data)
        except OSError:
            raise CommunicationError(self.failure or "the group has ended") from None


def _bytes_of(tensor: Tensor) -> memoryview:
    """The memory of a contiguous CPU tensor."""
    flat = tensor.detach().view(-1)
    return memoryview(flat.view(torch.uint8).numpy()) if flat.numel() else memoryview(b"")


class _LocalWork(Work):
    def __init__(self, channel: _Channel, request: int) -> None:
        self.channel, self.request, self.finished = channel, request, False

    def wait(self) -> None:
        if not self.finished:
            self.channel.wait(self.request)
            self.finished = True


class _Copied(Work):
    """A send whose bytes are in the switch already."""

    def wait(self) -> None:
        return


class LocalCommunicator(Communicator):
    """Ranks behind one switch. members: the switch's ranks of this group, by place."""

    def __init__(
        self,
        rank: int,
        size: int,
        switch: int | _Channel,
        members: Sequence[int] | None = None,
        group: int = 0,
    ) -> None:
        self.rank, self.size, self.counters = rank, size, Counters()
        self._channel = switch if isinstance(switch, _Channel) else _Channel(switch)
        self._members = list(members) if members is not None else list(range(size))
        self._group = group

    def _tag(self, tag: int) -> int:
        if not 0 <= tag < 1 << 31:
            raise ValueError(f"tag {tag} is not in [0, 2^31)")
        return (self._group << _GROUP_SHIFT) | tag

    def _start_send(self, tensor: Tensor, to: int, tag: int, synchronous: bool) -> Work:
        check_message(tensor, to, self)
        data = _bytes_of(tensor.cpu())
        kind = SYNCHRONOUS_SEND if synchronous else SEND
        request = self._channel.write(kind, self._members[to], self._tag(tag), len(data), data)
        self.counters.add(to, len(data))
        return _LocalWork(self._channel, request) if synchronous else _Copied()

    def irecv(self, tensor: Tensor, source: int, tag: int = 0) -> Work:
        check_message(tensor, source, self)
        size = tensor.numel() * tensor.element_size()
        request = self._channel.write(
            RECEIVE, self._members[source], self._tag(tag), size, target=tensor
        )
        return _LocalWork(self._channel, request)

    def barrier(self) -> None:
        self._channel.wait(self._channel.write(BARRIER, self.size, self._tag(0), 0))

    def subgroup(self, ranks: Sequence[int]) -> Communicator | None:
        self._channel.subgroups += 1
        if self.rank not in ranks:
            return None
        members = [self._members[rank] for rank in ranks]
        place = list(ranks).index(self.rank)
        return LocalCommunicator(
            place, len(members), self._channel, members, self._channel.subgroups
        )

    def note(self, text: str) -> None:
        data = memoryview(text.encode()[:1000])
        self._channel.write(NOTE, -1, 0, len(data), data)

    def close(self) -> None:
        self._channel.socket.close()
