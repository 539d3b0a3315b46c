"""What the switch saw, as data: events, bytes and messages by pair of ranks, clocks."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from autograder.sandbox.switch_link import BARRIER, RECEIVE


@dataclass(frozen=True)
class Event:
    """Something the switch saw; events are in the order in which it saw them.

    kind: "send", "receive" (posted), "deliver", "barrier" or "note". peer: the other rank, -1 where
    there is none. size: bytes. text: of a note. depth: of a message sent or delivered, how many had
    to come one after the other, with it; of the rest, the rank's clock.
    """

    rank: int
    kind: str
    peer: int = -1
    tag: int = 0
    size: int = 0
    text: str = ""
    depth: int = 0


@dataclass
class Traffic:
    """What crossed: sent[i, j] bytes and messages[i, j] from rank i to rank j, and all events.

    depths: (ranks,) the clock of each rank: the longest chain of messages that it waited for.
    """

    sent: np.ndarray
    messages: np.ndarray
    depths: np.ndarray
    events: list[Event] = field(default_factory=list)

    @classmethod
    def empty(cls, size: int) -> Traffic:
        """Nothing yet, between `size` ranks."""
        square = (size, size)
        return cls(np.zeros(square, np.int64), np.zeros(square, np.int64), np.zeros(size, np.int64))


@dataclass(eq=False)
class Request:
    rank: int
    number: int
    kind: int
    peer: int
    tag: int
    size: int
    depth: int  # of the message that is sent; else the rank's clock when it asked
    payload: bytearray | None = None  # of a send; of a receive, once it is done
    wanted: bool = False  # the rank stands still for it
    done: bool = False
    after: int = 0  # the least that the rank's clock is once it knows that this is done
    due: float = 0.0  # when the rank may know

    def described(self) -> str:
        to = "to receive" if self.kind == RECEIVE else "in send"
        way = "from" if self.kind == RECEIVE else "to"
        if self.kind == BARRIER:
            return "in a barrier"
        tag = f", tag {self.tag}" if self.tag else ""
        return f"{to} {self.size:,} bytes {way} rank {self.peer}{tag}"
