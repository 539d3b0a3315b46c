"""The trusted switch: the only way from one rank of a group to another.

Each rank holds one end of a socket; the switch holds the others, in a thread of the trusted process.
It matches sends with receives, counts every byte and message, keeps the order of what happened, and
sees at once when every rank waits for another. A rank can lie to itself about what it sent, but not
to the switch.

A frame is a fixed head and `length` bytes. From a rank: SEND and SYNCHRONOUS_SEND (to `peer`),
RECEIVE (posts a receive from `peer` of exactly `length` bytes, which do not follow), WAIT (the rank
stands still until `request` is done), BARRIER (of `peer` members), NOTE (a text for the record). To
a rank: DONE (`request` is done; what a receive got follows) and FAILED (a text follows). The other
end is in the homework's given code, which states the same numbers.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

FRAME = struct.Struct("<BiqQQ")  # kind, peer, tag, request, length
SEND, SYNCHRONOUS_SEND, RECEIVE, WAIT, BARRIER, NOTE = 1, 2, 3, 4, 5, 6
DONE, FAILED = 64, 65
MAX_MESSAGE = 256 << 20
MAX_HELD = 1 << 30  # bytes sent and not received yet, of all ranks
MAX_EVENTS = 200_000
MAX_NOTE = 1_000
_NAMES = {SEND: "send", SYNCHRONOUS_SEND: "send", RECEIVE: "receive", BARRIER: "barrier"}


@dataclass(frozen=True)
class Event:
    """Something the switch saw; events are in the order in which it saw them.

    kind: "send", "receive" (posted), "deliver", "barrier" or "note". peer: the other rank, -1 where
    there is none. size: bytes. text: of a note.
    """

    rank: int
    kind: str
    peer: int = -1
    tag: int = 0
    size: int = 0
    text: str = ""


@dataclass
class Traffic:
    """What crossed: sent[i, j] bytes and messages[i, j] from rank i to rank j, and all events."""

    sent: np.ndarray
    messages: np.ndarray
    events: list[Event] = field(default_factory=list)

    @classmethod
    def empty(cls, size: int) -> Traffic:
        """Nothing yet, between `size` ranks."""
        return cls(np.zeros((size, size), np.int64), np.zeros((size, size), np.int64))


@dataclass
class _Request:
    rank: int
    number: int
    kind: int
    peer: int
    tag: int
    size: int
    payload: bytearray | None = None

    def described(self) -> str:
        to = "to receive" if self.kind == RECEIVE else "in send"
        way = "from" if self.kind == RECEIVE else "to"
        if self.kind == BARRIER:
            return "in a barrier"
        tag = f", tag {self.tag}" if self.tag else ""
        return f"{to} {self.size:,} bytes {way} rank {self.peer}{tag}"


@dataclass
class _Rank:
    channel: socket.socket
    head: bytearray = field(default_factory=bytearray)
    frame: tuple[int, int, int, int, int] | None = None
    payload: bytearray = field(default_factory=bytearray)
    got: int = 0
    out: deque[memoryview] = field(default_factory=deque)
    open: dict[int, _Request] = field(default_factory=dict)
    waiting: int | None = None  # the request it stands still for
    alive: bool = True
    gone: bool = False  # its socket closed, and nobody has said yet how it ended


class _Broken(Exception):
    """A rank broke the protocol."""


class Switch:
    """Serves `size` ranks from a thread until `close`.

    slow: seconds by which everything for a rank comes late, by rank. `verdict` is what ended the
    group ("" while nothing did): a deadlock, a mismatch, a broken rank.
    """

    def __init__(self, size: int, slow: dict[int, float] | None = None) -> None:
        self.size = size
        self.traffic = Traffic.empty(size)
        self.verdict = ""
        self.verdict_kind = ""
        self.slow = slow or {}
        self._held = 0
        self._sends: dict[tuple[int, int, int], deque[_Request]] = {}
        self._receives: dict[tuple[int, int, int], deque[_Request]] = {}
        self._barriers: dict[int, list[_Request]] = {}
        self._late: list[tuple[float, int, bytes, bytearray | None]] = []
        self._lock = threading.Lock()
        self._selector = selectors.DefaultSelector()
        self._wake, wake = socket.socketpair()
        self._selector.register(wake, selectors.EVENT_READ, None)
        self._woken = wake
        self._ending = False
        self._ranks: list[_Rank] = []
        self.ends: list[socket.socket] = []
        for rank in range(size):
            ours, theirs = socket.socketpair()
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            ours.setblocking(False)
            self._ranks.append(_Rank(ours))
            self.ends.append(theirs)
            self._selector.register(ours, selectors.EVENT_READ, rank)
        self._thread = threading.Thread(target=self._serve, name="switch", daemon=True)
        self._thread.start()

    def finish(self, rank: int) -> None:
        """This rank's driver has returned: it will send nothing more."""
        with self._lock:
            if self._ranks[rank].alive:  # what it sent last may still be in its socket
                self._serve_rank(rank, selectors.EVENT_READ)
            self._ranks[rank].alive = self._ranks[rank].gone = False
            self._look_for_deadlock()
        self._wake.send(b".")

    def abort(self, text: str) -> None:
        """End the group: each rank that waits is told `text`."""
        with self._lock:
            self._fail("aborted", text)
        self._wake.send(b".")

    def close(self) -> None:
        """End the thread and close every socket."""
        self._ending = True
        with contextlib.suppress(OSError):
            self._wake.send(b".")
        self._thread.join()
        for end in (*self.ends, *(r.channel for r in self._ranks), self._wake, self._woken):
            end.close()
        self._selector.close()

    def _serve(self) -> None:
        while not self._ending:
            pause = None
            with self._lock:
                self._send_what_is_due()
                if self._late:
                    pause = max(0.0, min(due for due, *_ in self._late) - time.monotonic())
                for place, rank in enumerate(self._ranks):
                    self._watch(place, rank)
            ready = self._selector.select(pause)
            with self._lock:
                for key, mask in ready:
                    if key.data is None:
                        self._woken.recv(4096)
                        continue
                    self._serve_rank(key.data, mask)
                self._look_for_deadlock()

    def _watch(self, place: int, rank: _Rank) -> None:
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if rank.out else 0)
        with contextlib.suppress(KeyError):
            if self._selector.get_key(rank.channel).events != wanted:
                self._selector.modify(rank.channel, wanted, place)

    def _serve_rank(self, place: int, mask: int) -> None:
        rank = self._ranks[place]
        try:
            if mask & selectors.EVENT_READ:
                for frame, payload in self._frames(rank):
                    self._handle(place, frame, payload)
            if mask & selectors.EVENT_WRITE:
                self._write(rank)
        except _Broken as error:
            self._drop(rank)
            self._fail("broken", f"rank {place} broke the protocol of its channel: {error}")
        except OSError:
            rank.gone = rank.alive
            self._drop(rank)

    def _drop(self, rank: _Rank) -> None:
        rank.alive = False
        with contextlib.suppress(KeyError):
            self._selector.unregister(rank.channel)
        with contextlib.suppress(OSError):
            rank.channel.shutdown(socket.SHUT_RDWR)  # or it would wait for an answer

    def _frames(self, rank: _Rank) -> Iterator[tuple[tuple[int, int, int, int, int], bytearray]]:
        """Whole frames that can be read without waiting."""
        while True:
            try:
                if rank.frame is None:
                    piece = rank.channel.recv(FRAME.size - len(rank.head))
                    if not piece:
                        raise OSError("closed")
                    rank.head += piece
                    if len(rank.head) < FRAME.size:
                        continue
                    rank.frame = FRAME.unpack(bytes(rank.head))
                    rank.head.clear()
                    follows = self._length(rank.frame)
                    rank.payload, rank.got = bytearray(follows), 0
                while rank.got < len(rank.payload):
                    count = rank.channel.recv_into(memoryview(rank.payload)[rank.got :])
                    if not count:
                        raise OSError("closed")
                    rank.got += count
            except BlockingIOError:
                return
            frame, rank.frame = rank.frame, None
            yield frame, rank.payload

    def _length(self, frame: tuple[int, int, int, int, int]) -> int:
        """How many bytes follow a head from a rank."""
        kind, peer, _, _, length = frame
        if kind in (SEND, SYNCHRONOUS_SEND, RECEIVE):
            if not 0 <= peer < self.size:
                raise _Broken(f"there is no rank {peer} in a group of {self.size}")
            held = self._held if kind != RECEIVE else 0
            if length > MAX_MESSAGE or held + length > MAX_HELD:
                raise _Broken(f"a message of {length:,} bytes, {self._held:,} not yet received")
        elif kind not in (WAIT, BARRIER, NOTE) or (kind == NOTE and length > MAX_NOTE):
            raise _Broken(f"a frame of kind {kind}")
        return length if kind in (SEND, SYNCHRONOUS_SEND, NOTE) else 0

    def _handle(self, place: int, frame: tuple[int, int, int, int, int], data: bytearray) -> None:
        kind, peer, tag, number, length = frame
        rank = self._ranks[place]
        if len(self.traffic.events) >= MAX_EVENTS:
            raise _Broken(f"more than {MAX_EVENTS:,} messages")
        if self.verdict:
            self._tell(place, FAILED, 0, bytearray(self.verdict.encode()))
            return
        if kind == NOTE:
            text = data.decode("utf-8", "replace")
            self.traffic.events.append(Event(place, "note", text=text))
        elif kind == WAIT:
            rank.waiting = number if number in rank.open else None
        elif kind == BARRIER:
            request = _Request(place, number, kind, peer, tag, 0)
            rank.open[number], rank.waiting = request, number
            self.traffic.events.append(Event(place, "barrier", tag=tag))
            self._meet(tag, peer, request)
        else:
            self._match(_Request(place, number, kind, peer, tag, length, data))

    def _meet(self, tag: int, members: int, request: _Request) -> None:
        arrived = self._barriers.setdefault(tag, [])
        arrived.append(request)
        if len(arrived) >= members:
            del self._barriers[tag]
            for each in arrived:
                self._done(each)

    def _match(self, request: _Request) -> None:
        """Pair a send with a posted receive, in the order of each pair of ranks and tag."""
        sending = request.kind != RECEIVE
        rank = self._ranks[request.rank]
        if request.kind != SEND:
            rank.open[request.number] = request
        way = (request.rank, request.peer) if sending else (request.peer, request.rank)
        key = (*way, request.tag)
        self.traffic.events.append(
            Event(request.rank, _NAMES[request.kind], request.peer, request.tag, request.size)
        )
        if sending:
            self._held += request.size
            self.traffic.sent[way] += request.size
            self.traffic.messages[way] += 1
        mine, theirs = (
            (self._sends, self._receives) if sending else (self._receives, self._sends)
        )
        if theirs.get(key):
            other = theirs[key].popleft()
            self._deliver(*((request, other) if sending else (other, request)))
        else:
            mine.setdefault(key, deque()).append(request)

    def _deliver(self, send: _Request, receive: _Request) -> None:
        self._held -= send.size
        if send.size != receive.size:
            tag = f" with tag {send.tag}" if send.tag else ""
            self._fail(
                "mismatch",
                f"rank {send.rank} sent {send.size:,} bytes{tag} to rank {receive.rank}, which "
                f"expects {receive.size:,} bytes from it",
            )
            return
        event = Event(receive.rank, "deliver", send.rank, send.tag, send.size)
        self.traffic.events.append(event)
        self._done(receive, send.payload)
        if send.kind == SYNCHRONOUS_SEND:
            self._done(send)

    def _done(self, request: _Request, payload: bytearray | None = None) -> None:
        rank = self._ranks[request.rank]
        rank.open.pop(request.number, None)
        if rank.waiting == request.number:
            rank.waiting = None
        self._tell(request.rank, DONE, request.number, payload)

    def _tell(self, place: int, kind: int, number: int, payload: bytearray | None) -> None:
        head = FRAME.pack(kind, -1, 0, number, len(payload or b""))
        delay = self.slow.get(place, 0.0)
        if delay:
            self._late.append((time.monotonic() + delay, place, head, payload))
            return
        self._queue(place, head, payload)

    def _queue(self, place: int, head: bytes, payload: bytearray | None) -> None:
        rank = self._ranks[place]
        rank.out.append(memoryview(head))
        if payload:
            rank.out.append(memoryview(payload))
        with contextlib.suppress(OSError):
            self._write(rank)

    def _send_what_is_due(self) -> None:
        now = time.monotonic()
        due = [entry for entry in self._late if entry[0] <= now]
        self._late = [entry for entry in self._late if entry[0] > now]
        for _, place, head, payload in due:
            self._queue(place, head, payload)

    @staticmethod
    def _write(rank: _Rank) -> None:
        while rank.out:
            try:
                count = rank.channel.send(rank.out[0])
            except BlockingIOError:
                return
            if count == len(rank.out[0]):
                rank.out.popleft()
            else:
                rank.out[0] = rank.out[0][count:]

    def _look_for_deadlock(self) -> None:
        alive = [place for place, rank in enumerate(self._ranks) if rank.alive]
        stuck = [place for place in alive if self._ranks[place].waiting is not None]
        if not alive or self.verdict or len(stuck) < len(alive):
            return
        if any(rank.gone for rank in self._ranks):
            return  # whoever holds that process will tell what happened, and that is the news
        parts = []
        for place in stuck:
            rank = self._ranks[place]
            request = rank.open[rank.waiting]  # type: ignore[index]
            text = f"rank {place} waits {request.described()}"
            if request.kind != BARRIER and not self._ranks[request.peer].alive:
                text += ", which has finished"
            parts.append(text)
        self._fail("deadlock", "deadlock: " + "; ".join(parts))

    def _fail(self, kind: str, text: str) -> None:
        if self.verdict:
            return
        self.verdict, self.verdict_kind = text, kind
        for place, rank in enumerate(self._ranks):
            if rank.alive:
                rank.waiting = None
                self._tell(place, FAILED, 0, bytearray(text.encode()))
