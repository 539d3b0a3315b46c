"""The trusted switch: the only way from one rank of a group to another.

Each rank holds one end of a socket; the switch holds the others, in a thread of the trusted process.
It matches sends with receives, counts every byte and message, keeps the order of what happened, and
sees at once when every rank waits for another. A rank can lie to itself about what it sent, but not
to the switch.

A frame is a fixed head and `length` bytes. From a rank: SEND and SYNCHRONOUS_SEND (to `peer`),
RECEIVE (posts a receive from `peer` of exactly `length` bytes, which do not follow), WAIT (the rank
stands still until `request` is done), BARRIER (of `peer` members), NOTE (a text for the record). To
a rank: DONE (`request` is done; what a receive got follows), once the rank has asked for it by WAIT,
and FAILED (a text follows). The other end is in the homework's given code, which states the same
numbers.

Each rank has a clock that counts messages which had to come one after the other: a message carries
its sender's clock and one more, and whoever takes it is at least as late as it. A rank gets what it
received only when it asks for it, so no rank can know of a message and keep an earlier clock; and
since what it asked before came in order, the clock does not depend on how fast anything was.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass, field

from autograder.sandbox.switch_link import (
    BARRIER,
    DONE,
    FAILED,
    FRAME,
    NOTE,
    RECEIVE,
    SEND,
    SYNCHRONOUS_SEND,
    WAIT,
    Broken,
    Budget,
    Head,
    Link,
)
from autograder.sandbox.switch_records import Event, Request, Traffic

MAX_EVENTS = 200_000
MAX_NOTES = 5_000
MAX_AFTERWARDS = 1_000  # frames of a rank that has been told that its group has ended
_NAMES = {SEND: "send", SYNCHRONOUS_SEND: "send", RECEIVE: "receive", BARRIER: "barrier"}


@dataclass
class _Rank:
    link: Link
    open: dict[int, Request] = field(default_factory=dict)
    waits: set[int] = field(default_factory=set)  # requests that it stands still for
    threads: int = 0  # the most of them at once: with fewer, one of its threads goes on
    gone: bool = False  # its socket closed, and nobody has said yet how it ended
    afterwards: int = 0  # frames since the group has ended

    @property
    def stuck(self) -> bool:
        """Whether each of its threads that ever waited stands still."""
        return 0 < len(self.waits) == self.threads

    def stand_still(self, number: int) -> None:
        """One of its threads waits for a request."""
        self.waits.add(number)
        self.threads = max(self.threads, len(self.waits))


class Switch:
    """Serves `size` ranks from a thread until `close`.

    slow: seconds by which everything for a rank comes late, by rank. `verdict` is what ended the
    group ("" while nothing did): a deadlock, a mismatch, a broken rank. `fault` is an error of the
    switch itself.
    """

    def __init__(self, size: int, slow: dict[int, float] | None = None) -> None:
        self.size = size
        self.traffic = Traffic.empty(size)
        self.verdict = ""
        self.verdict_kind = ""
        self.fault = ""
        self.slow = slow or {}
        self._notes = 0
        self._budget = Budget()
        self._sends: dict[tuple[int, int, int], deque[Request]] = {}
        self._receives: dict[tuple[int, int, int], deque[Request]] = {}
        self._barriers: dict[int, list[Request]] = {}
        self._late: list[tuple[float, int, bytes, bytearray | None]] = []
        self._lock = threading.Lock()
        self._gate = threading.Lock()  # held by who wants `_lock`, or the thread would keep it
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        self._ending = False
        self._ranks = [_Rank(Link(place, size, self._budget)) for place in range(size)]
        self.ends = [rank.link.end for rank in self._ranks]
        for place, rank in enumerate(self._ranks):
            self._selector.register(rank.link.channel, selectors.EVENT_READ, place)
        self._thread = threading.Thread(target=self._serve, name="switch", daemon=True)
        self._thread.start()

    def finish(self, place: int) -> None:
        """This rank's driver has returned: it will send nothing more, and is not listened to."""
        rank = self._ranks[place]
        with self._gate, self._lock:
            if self._ending:  # the group was given up
                return
            for _ in range(64):  # what it sent last may still be in its socket, turns of it
                if rank.link.alive:
                    self._serve_rank(place, selectors.EVENT_READ)
                if not rank.link.more:
                    break
            else:
                self._break(place, Broken("it goes on sending when its driver has returned"))
            self._drop(rank)
            rank.gone = False
            self._look_for_deadlock()
        self._nudge()

    def abort(self, text: str) -> None:
        """End the group: each rank that waits is told `text`."""
        with self._gate, self._lock:
            if not self._ending:
                self._fail("aborted", text)
        self._nudge()

    def close(self) -> None:
        """End the thread and close every socket."""
        self._ending = True
        self._nudge()
        self._thread.join(30)
        with self._lock:
            for rank in self._ranks:
                self._drop(rank)
                rank.link.close()
            self._forget_messages()
        for end in (self._wake, self._woken):
            end.close()
        self._selector.close()

    def _nudge(self) -> None:
        """Let the thread look at what it has to do."""
        with contextlib.suppress(OSError):
            self._wake.send(b".")

    def unreceived(self) -> str:
        """What was sent and never received, or expected and never sent, once all have finished."""
        for waiting, text in (
            (self._sends, "rank {0} sent {2:,} bytes{3} to rank {1}, which never received them"),
            (self._receives, "rank {0} posted a receive of {2:,} bytes{3} from rank {1}, which "
                             "sent nothing for it"),
        ):  # fmt: skip
            for request in (request for queue in waiting.values() for request in queue):
                tag = f" with tag {request.tag}" if request.tag else ""
                return text.format(request.rank, request.peer, request.size, tag)
        return ""

    def _serve(self) -> None:
        try:
            while not self._ending:
                with self._gate:
                    pass
                with self._lock:
                    pause = self._prepare()
                ready = self._selector.select(pause)
                for key, mask in ready:
                    if key.data is None:
                        self._woken.recv(4096)
                        continue
                    with self._gate:
                        pass
                    with self._lock:
                        if self._ending:
                            return
                        self._serve_rank(key.data, mask)
                with self._lock:
                    self._look_for_deadlock()
        except Exception as error:  # else the group would wait for its deadline, and be blamed
            self.fault = f"{type(error).__name__}: {error}"

    def _prepare(self) -> float | None:
        """Send what is due; the seconds until the next is."""
        now = time.monotonic()
        due = [entry for entry in self._late if entry[0] <= now]
        self._late = [entry for entry in self._late if entry[0] > now]
        for _, place, head, payload in due:
            self._queue(place, head, payload)
        for place, rank in enumerate(self._ranks):
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if rank.link.pending else 0)
            with contextlib.suppress(KeyError):
                if self._selector.get_key(rank.link.channel).events != wanted:
                    self._selector.modify(rank.link.channel, wanted, place)
        return max(0.0, min(e[0] for e in self._late) - now) if self._late else None

    def _serve_rank(self, place: int, mask: int) -> None:
        """One turn of a rank."""
        rank = self._ranks[place]
        try:
            if mask & selectors.EVENT_READ and rank.link.alive:
                for frame, payload in rank.link.frames():
                    kept = False
                    try:
                        kept = self._handle(place, frame, payload)
                    finally:
                        if not kept:
                            self._budget.give(len(payload))
            if mask & selectors.EVENT_WRITE and rank.link.alive:
                rank.link.write()
        except Broken as error:
            self._break(place, error)
        except OSError:
            rank.gone = rank.link.alive
            self._drop(rank)

    def _break(self, place: int, error: Broken) -> None:
        self._drop(self._ranks[place])
        self._fail("broken", f"rank {place} broke the protocol of its channel: {error}")

    def _drop(self, rank: _Rank) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(rank.link.channel)
        rank.link.drop()
        for request in rank.open.values():
            if request.kind == RECEIVE:  # what it sent, the others may still receive
                self._forget(request)

    def _forget(self, request: Request) -> None:
        """Let go of what a receive got, or a send brought, that nobody will be given."""
        self._budget.give(len(request.payload or b""))
        request.payload = None

    def _forget_messages(self) -> None:
        for waiting in (*self._sends.values(), *(rank.open.values() for rank in self._ranks)):
            for request in waiting:
                self._forget(request)
        for _, _, _, payload in self._late:
            self._budget.give(len(payload or b""))
        self._late.clear()

    def _handle(self, place: int, frame: Head, data: bytearray) -> bool:
        """Whether the payload is kept."""
        kind, peer, tag, number, length = frame
        rank = self._ranks[place]
        clock = int(self.traffic.depths[place])
        if self.verdict:
            rank.afterwards += 1
            if rank.afterwards > MAX_AFTERWARDS:
                self._drop(rank)
            return False
        if len(self.traffic.events) >= MAX_EVENTS:
            raise Broken(f"more than {MAX_EVENTS:,} messages")
        if kind == NOTE:
            self._notes += 1
            if self._notes > MAX_NOTES:
                raise Broken(f"more than {MAX_NOTES:,} notes")
            text = data.decode("utf-8", "replace")
            self.traffic.events.append(Event(place, "note", text=text, depth=clock))
        elif kind == WAIT:
            self._wait(rank, number)
        elif kind == BARRIER:
            request = Request(place, number, kind, peer, tag, 0, clock, wanted=True)
            rank.open[number] = request
            rank.stand_still(number)
            self.traffic.events.append(Event(place, "barrier", tag=tag, depth=clock))
            self._meet(tag, peer, request)
        else:
            depth = clock + (kind != RECEIVE)
            self._match(Request(place, number, kind, peer, tag, length, depth), data)
            return kind != RECEIVE
        return False

    def _wait(self, rank: _Rank, number: int) -> None:
        request = rank.open.get(number)
        if request is None:
            return
        request.wanted = True
        if request.done:
            self._hand_over(request)
        else:
            rank.stand_still(number)

    def _meet(self, tag: int, members: int, request: Request) -> None:
        arrived = self._barriers.setdefault(tag, [])
        arrived.append(request)
        if len(arrived) >= members:
            del self._barriers[tag]
            last = max(each.depth for each in arrived)
            for each in arrived:
                self._done(each, last)

    def _match(self, request: Request, data: bytearray) -> None:
        """Pair a send with a posted receive, in the order of each pair of ranks and tag."""
        sending = request.kind != RECEIVE
        if request.kind != SEND:
            self._ranks[request.rank].open[request.number] = request
        way = (request.rank, request.peer) if sending else (request.peer, request.rank)
        key = (*way, request.tag)
        self.traffic.events.append(
            Event(request.rank, _NAMES[request.kind], request.peer, request.tag, request.size,
                  depth=request.depth)
        )  # fmt: skip
        if sending:
            request.payload = data
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

    def _deliver(self, send: Request, receive: Request) -> None:
        if send.size != receive.size:
            self._forget(send)
            tag = f" with tag {send.tag}" if send.tag else ""
            self._fail(
                "mismatch",
                f"rank {send.rank} sent {send.size:,} bytes{tag} to rank {receive.rank}, which "
                f"expects {receive.size:,} bytes from it",
            )
            return
        self.traffic.events.append(
            Event(receive.rank, "deliver", send.rank, send.tag, send.size, depth=send.depth)
        )
        receive.payload, send.payload = send.payload, None
        self._done(receive, send.depth)
        if send.kind == SYNCHRONOUS_SEND:
            self._done(send, receive.depth)  # the sender then knows that the other was there

    def _done(self, request: Request, after: int) -> None:
        rank = self._ranks[request.rank]
        request.done, request.after = True, after
        request.due = time.monotonic() + self.slow.get(request.rank, 0.0)
        rank.waits.discard(request.number)
        if not rank.link.alive:
            self._forget(request)
        elif request.wanted:
            self._hand_over(request)

    def _hand_over(self, request: Request) -> None:
        self._ranks[request.rank].open.pop(request.number, None)
        depths, payload = self.traffic.depths, request.payload
        depths[request.rank] = max(depths[request.rank], request.after)
        request.payload = None  # it is the link's now
        head = FRAME.pack(DONE, -1, 0, request.number, len(payload or b""))
        if self.slow.get(request.rank) and request.due > time.monotonic():
            self._late.append((request.due, request.rank, head, payload))
        else:
            self._queue(request.rank, head, payload)

    def _queue(self, place: int, head: bytes, payload: bytearray | None) -> None:
        try:
            self._ranks[place].link.queue(head, payload)
        except Broken as error:
            self._break(place, error)

    def _look_for_deadlock(self) -> None:
        alive = [place for place, rank in enumerate(self._ranks) if rank.link.alive]
        stuck = [place for place in alive if self._ranks[place].stuck]
        if not alive or self.verdict or len(stuck) < len(alive):
            return
        if any(rank.gone for rank in self._ranks):
            return  # whoever holds that process will tell what happened, and that is the news
        parts = []
        for place in stuck:
            for number in sorted(self._ranks[place].waits):
                request = self._ranks[place].open[number]
                text = f"rank {place} waits {request.described()}"
                if request.kind != BARRIER and not self._ranks[request.peer].link.alive:
                    text += ", which has finished"
                parts.append(text)
        self._fail("deadlock", "deadlock: " + "; ".join(parts))

    def _fail(self, kind: str, text: str) -> None:
        if self.verdict:
            return
        self.verdict, self.verdict_kind = text, kind
        self._forget_messages()
        told = bytearray(text.encode())
        for place, rank in enumerate(self._ranks):
            if rank.link.alive:
                rank.waits.clear()
                self._budget.held += len(told)  # not to be refused; given back as any other
                self._queue(place, FRAME.pack(FAILED, -1, 0, 0, len(told)), told)
