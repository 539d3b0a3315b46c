"""The wire carries plain values unchanged, and survives whatever bytes the other side sends."""

from __future__ import annotations

import json
import math
import socket
import struct
import threading
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from autograder.sandbox import wire
from autograder.testing.inprocess import through_the_wire

LIMIT = 1 << 20
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
arrays = hnp.arrays(
    st.sampled_from([np.dtype(name) for name in wire.DTYPES]),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
)
leaves = st.none() | st.booleans() | st.integers(-(10**38), 10**38) | st.floats() | text | arrays
leaves |= st.binary(max_size=20)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4)
    | st.tuples(inner, inner)
    | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)


def same(one: object, other: object) -> bool:
    """Equal in value and in kind, NaN equal to NaN, 0.0 unlike -0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and (
            one.tobytes() == other.tobytes())  # fmt: skip
    if isinstance(one, float):
        return struct.pack("d", one) == struct.pack("d", other) or (one != one and other != other)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    return one == other


def receive_bytes(data: bytes, *, close: bool = True, limit: int = LIMIT) -> wire.Message:
    """What the reader makes of raw bytes; it may wait for half a second."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        def push() -> None:
            try:
                theirs.sendall(data)
                if close:
                    theirs.shutdown(socket.SHUT_WR)
            except OSError:
                pass

        sender = threading.Thread(target=push, daemon=True)
        sender.start()
        try:
            return wire.receive(ours, limit, time.monotonic() + 0.5)
        finally:
            ours.close()
            sender.join()


def message(value: object, payload: bytes = b"", *, claim: int | None = None, head: object = None):
    """A well-formed prefix and header around `value`'s tree as given."""
    header = json.dumps({"head": {} if head is None else head, "value": value}).encode()
    length = len(payload) if claim is None else claim
    return wire.PREFIX.pack(wire.MAGIC, len(header), length) + header + payload


@settings(max_examples=150, deadline=None)
@given(values)
def test_plain_values_come_back_unchanged(value):
    assert same(through_the_wire(value), value)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24.0).reshape(2, 3, 4)[:, ::-1, ::2],
        np.arange(6.0).reshape(2, 3).T,
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.broadcast_to(np.float32(3), (4, 5)),
        np.arange(5, dtype=">f8"),
        np.arange(5, dtype=">i2"),
        np.ma.masked_array([1.0, 2.0], mask=[True, False]),
        np.frombuffer(b"\1\2\3", np.uint8),
        np.zeros((0, 3)),
        np.array(2.5),
    ],
    ids=lambda array: f"{array.dtype.str}-{array.strides}",
)
def test_arrays_of_any_layout_arrive_with_their_values(array):
    got = through_the_wire(array)
    assert type(got) is np.ndarray and got.flags.c_contiguous and got.dtype.isnative
    np.testing.assert_array_equal(got, np.asarray(array))


def test_subclasses_arrive_as_what_they_hold():
    class Array(np.ndarray):
        def __eq__(self, other):
            return True

    class Float(float):
        def __eq__(self, other):
            return True

    class Text(str):
        def __eq__(self, other):
            return True

        __hash__ = str.__hash__

    items = [np.ones(2).view(Array), Float(1.5), Text("x"), np.float32(2), np.int8(3)]
    got = through_the_wire(items)
    assert [type(item) for item in got] == [np.ndarray, float, str, float, int]


def test_the_reader_has_arrays_of_its_own():
    array = np.zeros(4)
    got = through_the_wire(array)
    array[:] = 7
    assert not got.any() and got.flags.writeable


@pytest.mark.parametrize(
    "value",
    [
        object(), len, np.ones(2, complex), np.array([None]), np.array(["text"]), 1j, {1: 2}, {3},
        np.array(["2020"], "datetime64[Y]"), "half \ud800", {"\udc80": 1}, range(3), slice(1),
        np.longdouble(1), np.zeros(2, [("a", "f8")]),
    ],
    ids=repr,
)  # fmt: skip
def test_other_values_are_refused_by_the_sender(value):
    with pytest.raises(wire.UnsupportedValue):
        through_the_wire(value)


def test_nesting_and_size_are_refused_by_the_sender():
    deep: list = []
    for _ in range(100):
        deep = [deep]
    with pytest.raises(wire.UnsupportedValue, match="32 deep"):
        through_the_wire(deep)
    with pytest.raises(wire.UnsupportedValue, match="too many parts"):
        through_the_wire(["x" * 100] * 100_000)


def test_nothing_is_sent_of_a_refused_value():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with pytest.raises(wire.UnsupportedValue):
            wire.send(theirs, {}, [np.ones(3), object()])
        theirs.close()
        assert ours.recv(10) == b""


HOSTILE = {
    "nothing": b"",
    "half a prefix": b"LSW1\0",
    "another magic": b"LSW2" + bytes(12),
    "a pickle": b"\x80\x04\x95" + bytes(40),
    "a header of 4 GB": wire.PREFIX.pack(wire.MAGIC, 2**32 - 1, 0),
    "a payload of 2 GB": wire.PREFIX.pack(wire.MAGIC, 2, 2 << 30) + b"{}",
    "a payload of 2**64": wire.PREFIX.pack(wire.MAGIC, 2, 2**64 - 1) + b"{}",
    "a header cut short": wire.PREFIX.pack(wire.MAGIC, 100, 0) + b"{",
    "no JSON": wire.PREFIX.pack(wire.MAGIC, 3, 0) + b"\xff\xfe{",
    "a list": wire.PREFIX.pack(wire.MAGIC, 2, 0) + b"[]",
    "no head": wire.PREFIX.pack(wire.MAGIC, 2, 0) + b"{}",
    "a head of another kind": message(1, head=[1]),
    "a bare number": message(3),
    "a bare float": message(1.5),
    "a bare list": message([1]),
    "two kinds": message({"i": "1", "f": "0x1p0"}),
    "no kind": message({}),
    "a method's name": message({"decode": 1}),
    "a private name": message({"_take": 1}),
    "an attribute": message({"": 1}),
    "NaN for a length": message({"b": math.nan}),
    "infinity for a length": message({"b": math.inf}),
    "a negative length": message({"b": -1}),
    "a length that is true": message({"b": True}, b"x"),
    "a length that is text": message({"b": "1"}, b"x"),
    "a fractional length": message({"b": 1.0}, b"x"),
    "a longer length": message({"b": 10}, b"x"),
    "left over bytes": message(True, b"more"),
    "a number of 5,000 digits": message({"i": "9" * 5000}),
    "no number": message({"i": "0x10"}),
    "a number that is a list": message({"i": [1]}),
    "no float": message({"f": "1 + 1"}),
    "too large a float": message({"f": "0x1p99999"}),
    "an unknown dtype": message({"a": ["complex128", [1]]}, bytes(16)),
    "an object dtype": message({"a": ["object", [1]]}, bytes(8)),
    "a structured dtype": message({"a": [[["a", "f8"]], [1]]}, bytes(8)),
    "a text as shape": message({"a": ["float64", "1"]}, bytes(8)),
    "a negative shape": message({"a": ["float64", [-1]]}),
    "two negatives": message({"a": ["float64", [-1, -8]]}, bytes(64)),
    "a true shape": message({"a": ["float64", [True]]}, bytes(8)),
    "a fractional shape": message({"a": ["float64", [1.0]]}, bytes(8)),
    "a shape past 64 bits": message({"a": ["float64", [2**40, 2**40]]}),
    "a shape of 2**39 by 0": message({"a": ["float64", [2**39] * 15 + [0]]}),
    "too many axes": message({"a": ["float64", [1] * 65]}, bytes(8)),
    "an array without shape": message({"a": ["float64"]}),
    "an array of three parts": message({"a": ["float64", [1], 0]}, bytes(8)),
    "more array than payload": message({"a": ["float64", [2]]}, bytes(8)),
    "payload that never comes": message({"a": ["float64", [2]]}, bytes(8), claim=16),
    "the payload twice": message({"l": [{"b": 8}, {"b": 8}]}, bytes(8)),
    "a dictionary of a number": message({"d": 3}),
    "a dictionary of triples": message({"d": [["a", True, True]]}),
    "a key that is a list": message({"d": [[["a"], True]]}),
    "a key that is none": message({"d": [[None, True]]}),
    "a list of a number": message({"l": 3}),
    "a list of text": message({"t": {"a": 1}}, b""),
    "half a character": message("\ud800"),
    "half a character in a key": message({"d": [["\udc80", True]]}),
    "300,000 parts": message({"l": [None] * 300_000}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_end_in_a_wire_error(name):
    with pytest.raises(wire.WireError):
        receive_bytes(HOSTILE[name])


def test_depth_is_bounded_before_and_after_parsing():
    for depth in (100, 10_000, 1_000_000):
        body = b'{"head": {}, "value": ' + b'{"l": [' * depth + b"]}" * depth + b"}"
        data = wire.PREFIX.pack(wire.MAGIC, len(body), 0) + body
        with pytest.raises(wire.WireError):
            receive_bytes(data)


def test_a_sender_that_stops_or_trickles_runs_into_the_deadline():
    started = time.monotonic()
    with pytest.raises(wire.WireTimeout):
        receive_bytes(message({"b": 8}, b"1234", claim=8), close=False)
    ours, theirs = socket.socketpair()
    stop = threading.Event()

    def trickle() -> None:
        theirs.sendall(wire.PREFIX.pack(wire.MAGIC, 1 << 20, 0))
        while not stop.wait(0.01):
            theirs.sendall(b" ")

    with ours, theirs:
        sender = threading.Thread(target=trickle)
        sender.start()
        with pytest.raises(wire.WireTimeout):
            wire.receive(ours, LIMIT, time.monotonic() + 0.3)
        stop.set()
        sender.join()
    assert time.monotonic() - started < 3


def test_what_is_claimed_is_not_allocated():
    """A header may claim up to the limit; memory comes with the bytes of an array it describes."""
    tracemalloc.start()
    try:
        with pytest.raises(wire.WireError):
            receive_bytes(message(True, claim=200 << 20), limit=256 << 20)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_end_in_a_wire_error(data):
    for start in (b"", wire.PREFIX.pack(wire.MAGIC, min(len(data), 60), max(0, len(data) - 60))):
        with pytest.raises(wire.WireError):
            receive_bytes(start + data)


trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | text | st.sampled_from(list(wire.DTYPES)),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from([*"ifbaltd", "x", "head"]), inner, max_size=2),
    max_leaves=10,
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(trees, st.binary(max_size=64))
def test_random_trees_are_a_value_or_a_wire_error(tree, payload):
    try:
        value = receive_bytes(message(tree, payload)).value
    except wire.WireError:
        return
    assert same(through_the_wire(value), value)


@settings(max_examples=200, deadline=None)
@given(values, st.integers(0, 10_000), st.integers(0, 255))
def test_one_changed_byte_is_a_value_or_a_wire_error(value, place, byte):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        wire.send(theirs, {"id": "1", "status": "ok"}, value)
        theirs.shutdown(socket.SHUT_WR)
        data = bytearray(ours.recv(1 << 20))
    data[place % len(data)] = byte
    try:
        receive_bytes(bytes(data))
    except wire.WireError:
        pass
