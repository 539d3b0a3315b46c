"""The switch by itself: what a rank can't make it do, and the clock of messages."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from autograder.sandbox import switch, switch_link
from autograder.sandbox.switch import FRAME, Switch

SEND, SYNCHRONOUS, RECEIVE, WAIT, BARRIER, NOTE = 1, 2, 3, 4, 5, 6


class Rank:
    """An honest client, as the homework's, in a few lines."""

    def __init__(self, end: socket.socket) -> None:
        self.end, self.number = end, 0
        end.settimeout(20)

    def ask(self, kind: int, peer: int, length: int = 0, data: bytes = b"", tag: int = 0) -> int:
        """Send a frame; its number."""
        self.number += 1
        self.end.sendall(FRAME.pack(kind, peer, tag, self.number, length) + data)
        return self.number

    def wait(self, number: int) -> bytes:
        """Stand still until a request is done; what came."""
        self.end.sendall(FRAME.pack(WAIT, -1, 0, number, 0))
        kind, _, _, done, length = FRAME.unpack(self.exactly(FRAME.size))
        data = self.exactly(length)
        if kind == switch.FAILED:
            raise ConnectionError(data.decode())
        assert done == number
        return data

    def exactly(self, count: int) -> bytes:
        """So many bytes."""
        data = b""
        while len(data) < count:
            piece = self.end.recv(count - len(data))
            if not piece:
                raise ConnectionError("closed")
            data += piece
        return data

    def send(self, to: int, data: bytes = b"data", synchronous: bool = False) -> None:
        """Send, and wait for the receiver where it is synchronous."""
        number = self.ask(SYNCHRONOUS if synchronous else SEND, to, len(data), data)
        if synchronous:
            self.wait(number)

    def receive(self, source: int, length: int = 4) -> bytes:
        """The next message of a rank."""
        return self.wait(self.ask(RECEIVE, source, length))

    def barrier(self, members: int) -> None:
        """Stand still until all have come."""
        self.wait(self.ask(BARRIER, members))


@pytest.fixture
def serve() -> Iterator[Callable[..., tuple[Switch, list[Rank]]]]:
    begun = []

    def start(size: int, **options: object) -> tuple[Switch, list[Rank]]:
        begun.append(Switch(size, **options))
        return begun[-1], [Rank(end) for end in begun[-1].ends]

    yield start
    for each in begun:
        started = time.monotonic()
        each.close()
        assert time.monotonic() - started < 5
        assert not each.fault
        assert each._budget.held == 0  # whatever happened: every byte was given back


def together(served: Switch, ranks: list[Rank], *programs: Callable[[Rank], None]) -> None:
    """Run one program a rank, each on a thread, and finish each."""
    errors = []

    def run(place: int) -> None:
        try:
            programs[place % len(programs)](ranks[place])
        except Exception as error:
            errors.append(error)
        served.finish(place)

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(ranks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not errors, errors


def flood(end: socket.socket, data: bytes) -> threading.Thread:
    """Write for ever, until the socket is closed."""

    def run() -> None:
        try:
            while True:
                end.sendall(data)
        except OSError:
            pass

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def settled(served: Switch, seconds: float = 20.0) -> str:
    """The verdict, once there is one."""
    until = time.monotonic() + seconds
    while not served.verdict and time.monotonic() < until:
        time.sleep(0.01)
    return served.verdict


def test_frames_without_end_keep_nobody_from_ending(serve):
    """A thread of rank 0 goes on writing after its driver has returned: it is cut off at once."""
    served, ranks = serve(2)
    writing = flood(ranks[0].end, FRAME.pack(WAIT, -1, 0, 1 << 40, 0) * 20_000)
    time.sleep(0.05)
    started = time.monotonic()
    served.finish(0)
    served.finish(1)
    served.abort("over")
    writing.join(10)
    assert not writing.is_alive()
    assert time.monotonic() - started < 10


def test_a_flood_leaves_the_others_their_turn_and_is_ended(serve, monkeypatch):
    monkeypatch.setattr(switch_link, "MAX_FRAMES", 60_000)
    served, ranks = serve(3)
    flood(ranks[2].end, FRAME.pack(WAIT, -1, 0, 1 << 40, 0) * 1_000)
    started = time.monotonic()
    ranks[0].send(1)
    assert ranks[1].receive(0) == b"data"
    assert time.monotonic() - started < 5
    assert "rank 2 broke the protocol of its channel: more than 60,000 messages" in settled(served)
    with pytest.raises(ConnectionError, match="rank 2 broke the protocol"):
        ranks[1].receive(0)


def test_a_message_to_oneself_is_refused(serve):
    served, ranks = serve(2)
    ranks[0].ask(SEND, 0, 4, b"data")
    assert "rank 0 broke the protocol of its channel: a message to itself" in settled(served)


@pytest.mark.parametrize("asked", [False, True], ids=["never asked for", "asked for, never read"])
def test_what_is_not_read_counts_as_held(serve, monkeypatch, asked):
    """Rank 1 posts receives and reads nothing: what rank 0 sends stays in the switch."""
    monkeypatch.setattr(switch_link, "MAX_HELD", 8 << 20)
    served, ranks = serve(2)
    data = bytes(1 << 20)
    most = 0
    try:
        for _ in range(30):
            number = ranks[1].ask(RECEIVE, 0, len(data))
            if asked:
                ranks[1].ask(WAIT, -1)
                ranks[1].end.sendall(FRAME.pack(WAIT, -1, 0, number, 0))
            ranks[0].send(1, data)
            most = max(most, served._budget.held)
    except OSError:
        pass
    assert "not yet received" in settled(served)
    assert most <= 8 << 20


def test_bytes_under_way_count_as_held(serve, monkeypatch):
    """Heads that promise much, of several ranks, and bodies that never come."""
    monkeypatch.setattr(switch_link, "MAX_HELD", 8 << 20)
    served, ranks = serve(3)
    for rank in ranks:
        rank.ask(SEND, (ranks.index(rank) + 1) % 3, 3 << 20)
    assert "a message of 3,145,728 bytes, 6,291,456 not yet received" in settled(served)


def test_answers_that_are_not_read_end_the_rank(serve, monkeypatch):
    monkeypatch.setattr(switch_link, "MAX_ANSWERS", 100)
    served, ranks = serve(2)
    ranks[1].end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    served._ranks[1].link.channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    for _ in range(1000):
        try:
            number = ranks[1].ask(RECEIVE, 0, 0)
            ranks[1].end.sendall(FRAME.pack(WAIT, -1, 0, number, 0))
            ranks[0].send(1, b"")
        except OSError:
            break
    assert "rank 1 broke the protocol of its channel: more than 100 answers" in settled(served)


def test_after_the_end_nothing_is_answered_and_a_flood_is_cut(serve):
    served, ranks = serve(2)
    ranks[1].ask(RECEIVE, 0, 8)
    ranks[0].send(1)
    assert "rank 0 sent 4 bytes to rank 1, which expects 8" in settled(served)
    writing = flood(ranks[0].end, FRAME.pack(WAIT, -1, 0, 1 << 40, 0) * 1_000)
    writing.join(10)
    assert not writing.is_alive()
    assert served._budget.held < 1_000
    with pytest.raises(ConnectionError, match="expects 8"):  # rank 1 is told when it asks
        ranks[1].receive(0)


def test_notes_are_bounded(serve, monkeypatch):
    monkeypatch.setattr(switch, "MAX_NOTES", 50)
    served, ranks = serve(2)
    for _ in range(60):
        ranks[0].ask(NOTE, -1, 3, b"abc")
    assert "more than 50 notes" in settled(served)
    assert len(served.traffic.events) == 50


def test_what_nobody_received_is_named(serve):
    served, ranks = serve(2)
    ranks[0].ask(SEND, 1, 4, b"data", tag=3)
    served.finish(0)
    served.finish(1)
    assert served.unreceived() == (
        "rank 0 sent 4 bytes with tag 3 to rank 1, which never received them"
    )
    served, ranks = serve(2)
    ranks[0].ask(RECEIVE, 1, 8)
    served.finish(0)
    served.finish(1)
    assert "rank 0 posted a receive of 8 bytes from rank 1, which sent nothing" in served.unreceived()


def test_what_was_sent_before_the_end_still_arrives(serve):
    """A synchronous send that nobody waited for, by a rank that has finished."""
    served, ranks = serve(2)
    ranks[0].ask(SYNCHRONOUS, 1, 4, b"last")
    served.finish(0)
    assert ranks[1].receive(0) == b"last"
    served.finish(1)
    assert not served.verdict and not served.unreceived()


def ring(rank: Rank, place: int, size: int, steps: int) -> None:
    """Send, receive, `steps` times."""
    for _ in range(steps):
        rank.send((place + 1) % size)
        rank.receive((place - 1) % size)


def one_after_another(rank: Rank, place: int, size: int, steps: int) -> None:
    """A ring in which one rank sends at a time: the others receive before they send."""
    for _ in range(steps):
        if place:
            rank.receive((place - 1) % size)
        rank.send((place + 1) % size, synchronous=True)
        if not place:
            rank.receive((place - 1) % size)


@pytest.mark.parametrize("slow", [{}, {1: 0.01}, {0: 0.005, 3: 0.02}])
@pytest.mark.parametrize(("program", "depth"), [(ring, 6), (one_after_another, 24)])
def test_the_clock_counts_the_chain_however_slow_anyone_is(serve, slow, program, depth):
    """Six steps of four ranks: 6 messages one after the other, or 24."""
    served, ranks = serve(4, slow=slow)
    programs = [lambda rank, place=place: program(rank, place, 4, 6) for place in range(4)]
    together(served, ranks, *programs)
    assert not served.verdict, served.verdict
    assert served.traffic.depths.max() == depth


def test_a_receive_that_was_posted_early_moves_no_clock(serve):
    """Rank 1's message is there long before rank 0 sends its own, which does not depend on it."""
    served, ranks = serve(2)
    number = ranks[0].ask(RECEIVE, 1, 4)
    ranks[1].send(0)
    served.finish(1)
    ranks[0].send(1)
    assert ranks[0].wait(number) == b"data"
    served.finish(0)
    assert [e.depth for e in served.traffic.events if e.kind == "send"] == [1, 1]
    assert served.traffic.depths.tolist() == [1, 0]


def test_nothing_is_known_before_it_is_asked_for(serve):
    """A rank that reads its socket without a WAIT finds nothing there."""
    served, ranks = serve(2)
    ranks[0].ask(RECEIVE, 1, 4)
    ranks[1].send(0)
    served.finish(1)
    ranks[0].end.settimeout(0.2)
    with pytest.raises(TimeoutError):
        ranks[0].end.recv(1)
    assert served.traffic.depths.tolist() == [0, 0]


def test_a_barrier_hands_on_the_latest_clock(serve):
    served, ranks = serve(3)

    def first(rank: Rank) -> None:
        rank.send(1)
        rank.barrier(3)

    def second(rank: Rank) -> None:
        rank.receive(0)
        rank.barrier(3)

    def third(rank: Rank) -> None:
        rank.barrier(3)
        rank.send(0, synchronous=True)

    together(served, ranks, lambda r: (first(r), r.receive(2)), second, third)
    assert served.traffic.depths.tolist() == [2, 1, 1]


def test_late_is_counted_from_the_message_not_from_the_question(serve):
    served, ranks = serve(2, slow={0: 0.3})
    number = ranks[0].ask(RECEIVE, 1, 4)
    ranks[1].send(0)
    time.sleep(0.4)
    started = time.monotonic()
    assert ranks[0].wait(number) == b"data"
    assert time.monotonic() - started < 0.25
    started = time.monotonic()
    ranks[1].send(0)
    ranks[0].receive(1)
    assert time.monotonic() - started > 0.29


def test_a_thread_that_goes_on_keeps_a_rank_from_being_stuck(serve):
    """Two threads of rank 0 waited; one got its message, and will send what rank 1 waits for."""
    served, ranks = serve(2)
    first, second = (ranks[0].ask(RECEIVE, 1, 4, tag=tag) for tag in (1, 2))
    for number in (first, second):
        ranks[0].end.sendall(FRAME.pack(WAIT, -1, 0, number, 0))
    ranks[1].ask(SEND, 0, 4, b"data", tag=1)
    asked = ranks[1].ask(RECEIVE, 0, 4)
    ranks[1].end.sendall(FRAME.pack(WAIT, -1, 0, asked, 0))
    assert len(ranks[0].exactly(FRAME.size + 4)) == FRAME.size + 4
    time.sleep(0.1)
    assert not served.verdict
    ranks[0].ask(SEND, 1, 4, b"next")
    assert ranks[1].exactly(FRAME.size + 4)[FRAME.size :] == b"next"
    number = ranks[0].ask(RECEIVE, 1, 4, tag=3)
    ranks[0].end.sendall(FRAME.pack(WAIT, -1, 0, number, 0))
    with pytest.raises(ConnectionError, match="rank 0 waits .*tag 2; rank 0 waits .*tag 3; rank 1"):
        ranks[1].receive(0)
