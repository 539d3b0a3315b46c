"""The tiny homework once more, each task run by a group of ranks behind the switch.

Slots, numbers and points are those of `homework`; what is attacked here is what ranks share.
"""

from __future__ import annotations

from pathlib import Path

from autograder.course.assignment import Assignment
from tests.attacks.homework import (
    HEAD,
    HIDDEN_VALUE,
    REFERENCE_SECRET,
    SECRET,
    SLOTS,
    TASK,
    number_of,
    write,
    write_homework,
)

RANKS = '''\
"""Given: one rank of a group, by hand. Every frame goes to the switch."""

import os
import socket
import struct
import threading

import numpy as np

FRAME = struct.Struct("<BiqQQ")  # kind, peer, tag, request, length
SEND, SYNCHRONOUS_SEND, RECEIVE, WAIT, BARRIER, NOTE = 1, 2, 3, 4, 5, 6


class Ranks:
    def __init__(self):
        self.rank = int(os.environ["LLM_SYSTEMS_RANK"])
        self.size = int(os.environ["LLM_SYSTEMS_WORLD_SIZE"])
        self.socket = socket.socket(fileno=int(os.environ["LLM_SYSTEMS_SWITCH"]))
        self.next, self.previous = (self.rank + 1) % self.size, (self.rank - 1) % self.size
        self.requests = 0

    def ask(self, kind, peer, length=0, data=b""):
        self.requests += 1
        self.socket.sendall(FRAME.pack(kind, peer, 0, self.requests, length) + data)
        return self.requests

    def wait(self, request):
        self.socket.sendall(FRAME.pack(WAIT, -1, 0, request, 0))
        kind, _, _, _, length = FRAME.unpack(self.exactly(FRAME.size))
        data = self.exactly(length)
        if kind == 65:
            raise RuntimeError(data.decode())
        return data

    def exactly(self, count):
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            if not piece:
                raise RuntimeError("the group has ended")
            data += piece
        return data

    def send(self, values, to):
        self.ask(SEND, to, values.nbytes, values.tobytes())

    def receive(self, count, source):
        data = self.wait(self.ask(RECEIVE, source, 8 * count))
        return np.frombuffer(data).copy()

    def barrier(self):
        self.wait(self.ask(BARRIER, self.size))


def honest_total(ranks, values):
    total, passing = values.copy(), values
    for _ in range(ranks.size - 1):
        ranks.send(passing, ranks.next)
        passing = ranks.receive(len(values), ranks.previous)
        total += passing
    return total


def flood(ranks, data):
    """A thread that writes for ever."""

    def run():
        while True:
            ranks.socket.sendall(data)

    threading.Thread(target=run, daemon=True).start()
'''

FILE = '''\
"""A target: the sum of what all ranks bring."""

import numpy as np

from tiny.ranks import Ranks


def total(ranks: Ranks, values: np.ndarray) -> np.ndarray:
    """The sum over the ranks: each sends `values` once around the ring, all at the same time."""
    # BEGIN SOLUTION {number}
    # {secret}
    added, passing = values.copy(), values
    for _ in range(ranks.size - 1):
        ranks.send(passing, ranks.next)
        passing = ranks.receive(len(values), ranks.previous)
        added += passing
    return added
    # END SOLUTION
'''

DRIVERS = '''\
"""The glue: arrays in, arrays out."""

import importlib


def total(file, values):
    from tiny.ranks import Ranks

    return importlib.import_module(f"tiny.{file}").total(Ranks(), values)
'''

CHECKS = '''\
"""What the tests share."""

import hw9_tiny_drivers as drivers
import numpy as np

from autograder.testing import assert_close, assert_equal


def check_total(student, file, size, values):
    group = student.group(size, drivers.total, file=file, each=[{"values": v} for v in values])
    for rank, got in enumerate(group.results):
        assert_close(got, np.sum(values, axis=0), name=f"the sum on rank {rank}")
    wanted = np.roll(np.eye(size, dtype=int), 1, axis=1) * (size - 1)
    assert_equal(group.messages, wanted, name="messages from (row) to (column)")
    assert group.depth == size - 1, f"{group.depth} messages came one after the other"
'''

TEST_HEAD = """\
import numpy as np
from checks import check_total
from gradescope_utils.autograder_utils.decorators import number, weight
"""

PUBLIC_TEST = '''

@number("{number}")
@weight({weight})
def test_{file}(student, rng):
    """The ranks of {file} add up."""
    check_total(student, "{file}", 3, rng.standard_normal((3, 5)))
'''

HIDDEN_TEST = '''

@number("{number}")
@weight({weight})
def test_hidden_{file}(student, rng):
    """Two ranks of {file} add up."""
    secret = "{secret}"
    values = rng.standard_normal((2, 4))
    values[1, 2] = {value!r}
    check_total(student, "{file}", 2, values)
'''


def make_group_homework(root: Path) -> Assignment:
    """The homework below `root`, its stubs generated; the folder may be crossed by anyone."""
    home = root / "hw9_tiny"
    names = {f"slot_{slot}": number_of(slot) for slot in range(1, SLOTS + 1)} | {"honest": "9.7"}
    toml = HEAD.format(files=", ".join(f'"tiny/{name}.py"' for name in names))
    public, hidden = TEST_HEAD, TEST_HEAD
    for name, number in names.items():
        points, weights = (40, (20, 20)) if name == "honest" else (10, (6, 4))
        toml += TASK.format(number=number, title=name, points=points, file=f"tiny/{name}.py")
        text = FILE.format(number=number, secret=REFERENCE_SECRET)
        write(home / f"solution/tiny/{name}.py", text)
        given = {"number": number, "file": name, "secret": SECRET, "value": HIDDEN_VALUE}
        public += PUBLIC_TEST.format(**given, weight=weights[0])
        hidden += HIDDEN_TEST.format(**given, weight=weights[1])
    return write_homework(root, home, {
        "tiny/__init__.py": '"""Given code."""\n', "tiny/ranks.py": RANKS,
        "tests/test_slots.py": public, "hidden/test_hidden_slots.py": hidden,
        "tests/drivers.py": DRIVERS, "tests/checks.py": CHECKS, "assignment.toml": toml,
    })  # fmt: skip
