"""One rank's end at the switch: frames come in, answers go out, and every byte kept is counted.

What a rank may make the trusted process do is bounded here: how many frames it may have, how many
of them are read before another rank has its turn, and how many bytes are held for the whole group.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import deque
from collections.abc import Iterator

FRAME = struct.Struct("<BiqQQ")  # kind, peer, tag, request, length
SEND, SYNCHRONOUS_SEND, RECEIVE, WAIT, BARRIER, NOTE = 1, 2, 3, 4, 5, 6
DONE, FAILED = 64, 65
MAX_MESSAGE = 128 << 20
MAX_HELD = 512 << 20  # bytes of messages in the switch, of all ranks, from the first byte to the last
MAX_FRAMES = 200_000  # of one rank
MAX_ANSWERS = 1_000  # that a rank has asked for and does not read
MAX_NOTE = 1_000
# What is read of one rank before the others have their turn.
TURN_FRAMES, TURN_BYTES = 1_000, 32 << 20

Head = tuple[int, int, int, int, int]


class Broken(Exception):
    """A rank broke the protocol."""


class Budget:
    """The bytes of messages that the switch holds: on their way in, waiting, on their way out."""

    def __init__(self) -> None:
        self.held = 0

    def take(self, size: int) -> None:
        """Make room for a message; raises Broken where there is none."""
        if size > MAX_MESSAGE or self.held + size > MAX_HELD:
            raise Broken(f"a message of {size:,} bytes, {self.held:,} not yet received")
        self.held += size

    def give(self, size: int) -> None:
        """A message has left."""
        self.held -= size


class Link:
    """The switch's end of the socket of one rank among `size`."""

    def __init__(self, place: int, size: int, budget: Budget) -> None:
        self.place, self.size, self.budget = place, size, budget
        self.channel, self.end = socket.socketpair()
        for end in (self.channel, self.end):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.channel.setblocking(False)
        self.alive = True
        self.more = False  # the last turn ended before all had been read
        self._count = 0
        self._head = bytearray()
        self._frame: Head | None = None
        self._payload = bytearray()
        self._got = 0
        self._out: deque[memoryview] = deque()
        self._sizes: deque[int] = deque()  # of the message that ends with each entry of `_out`

    @property
    def pending(self) -> bool:
        """Whether answers wait to be written."""
        return bool(self._out)

    def frames(self) -> Iterator[tuple[Head, bytearray]]:
        """Whole frames that can be read without waiting, at most a turn of them.

        The payload is counted in the budget, and the reader's to give back. Raises Broken, and
        OSError where the rank has closed its end.
        """
        count, self._turn, self.more = 0, 0, False
        while count < TURN_FRAMES and self._turn < TURN_BYTES:
            if not self._read_frame():
                return
            assert self._frame is not None
            frame, payload = self._frame, self._payload
            self._frame, self._payload = None, bytearray()
            count += 1
            yield frame, payload
            if not self.alive:
                return
        self.more = True

    def _read_frame(self) -> bool:
        """Whether the rest of a frame was there."""
        try:
            if self._frame is None:
                while len(self._head) < FRAME.size:
                    piece = self.channel.recv(FRAME.size - len(self._head))
                    if not piece:
                        raise OSError("closed")
                    self._head += piece
                head = FRAME.unpack(bytes(self._head))
                self._head.clear()
                self._payload, self._got = bytearray(self._follows(head)), 0
                self._frame = head
            while self._got < len(self._payload):
                if self._turn >= TURN_BYTES:
                    self.more = True
                    return False
                count = self.channel.recv_into(memoryview(self._payload)[self._got :])
                if not count:
                    raise OSError("closed")
                self._got += count
                self._turn += count
        except BlockingIOError:
            return False
        return True

    def _follows(self, frame: Head) -> int:
        """How many bytes follow a head, now counted as held."""
        kind, peer, _, _, length = frame
        self._count += 1
        if self._count > MAX_FRAMES:
            raise Broken(f"more than {MAX_FRAMES:,} messages, waits and notes")
        if kind in (SEND, SYNCHRONOUS_SEND, RECEIVE):
            if not 0 <= peer < self.size:
                raise Broken(f"there is no rank {peer} in a group of {self.size}")
            if peer == self.place:
                raise Broken("a message to itself")
            if length > MAX_MESSAGE:
                raise Broken(f"a message of {length:,} bytes")
        elif kind not in (WAIT, BARRIER, NOTE) or (kind == NOTE and length > MAX_NOTE):
            raise Broken(f"a frame of kind {kind}")
        follows = length if kind in (SEND, SYNCHRONOUS_SEND, NOTE) else 0
        self.budget.take(follows)
        return follows

    def queue(self, head: bytes, payload: bytearray | None) -> None:
        """Write an answer when the rank reads; a payload leaves the budget when it has left."""
        if not self.alive:
            self.budget.give(len(payload or b""))
            return
        self._out.append(memoryview(head))
        self._sizes.append(0)
        if payload:
            self._out.append(memoryview(payload))
            self._sizes.append(len(payload))
        if len(self._out) > MAX_ANSWERS:
            raise Broken(f"more than {MAX_ANSWERS:,} answers that it does not read")
        with contextlib.suppress(OSError):
            self.write()

    def write(self) -> None:
        """Write what can be written without waiting."""
        while self._out:
            try:
                count = self.channel.send(self._out[0])
            except BlockingIOError:
                return
            if count == len(self._out[0]):
                self._out.popleft()
                self.budget.give(self._sizes.popleft())
            else:
                self._out[0] = self._out[0][count:]

    def drop(self) -> None:
        """Hear and tell this rank nothing more, and forget what was on its way."""
        self.alive = self.more = False
        self.budget.give(sum(self._sizes) + len(self._payload))
        self._out.clear()
        self._sizes.clear()
        self._payload = bytearray()
        with contextlib.suppress(OSError):
            self.channel.shutdown(socket.SHUT_RDWR)  # or it would wait for an answer

    def close(self) -> None:
        """Close both ends."""
        self.channel.close()
        self.end.close()
