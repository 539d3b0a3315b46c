"""The only thing that crosses between the grader and a worker: plain values, length-bounded.

A message is a 16-byte prefix (magic, header length, payload length), a JSON header that describes
one value as a tree, and the raw bytes of its arrays. Nothing is pickled, evaluated or looked up by
a name that came over the wire. The reader trusts no length, dtype, shape or depth it is told.
"""

from __future__ import annotations

import json
import math
import socket
import struct
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

MAGIC = b"LSW1"
PREFIX = struct.Struct("<4sIQ")
MAX_HEADER_BYTES = 8 << 20
MAX_DEPTH = 32
MAX_NODES = 200_000
DTYPES = {
    name: np.dtype(name)
    for name in (
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64"),
    )
}


class WireError(Exception):
    """The bytes break the protocol: a fault of whoever sent them."""


class WireClosed(WireError):
    """The other side closed the channel."""


class WireTimeout(WireError):
    """The deadline passed before a whole message came."""


class UnsupportedValue(TypeError):
    """A value that may not cross the wire (an object, a tensor, a complex array)."""


@dataclass
class Message:
    """A JSON-able `head` (call id, driver name, status) and one value."""

    head: dict[str, Any]
    value: Any


def encode(value: Any, chunks: list[memoryview], depth: int = 0) -> Any:
    """The JSON tree of `value`; raw array bytes are appended to `chunks`.

    Subclasses of ndarray are sent as the plain array they hold. Raises UnsupportedValue.
    """
    if depth > MAX_DEPTH:
        raise UnsupportedValue(f"nested more than {MAX_DEPTH} deep")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        if not _is_unicode(value):
            raise UnsupportedValue("a text with half a character (a lone surrogate) in it")
        return value
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        if not -(2**127) < value < 2**127:
            raise UnsupportedValue("an integer of more than 127 bits can't be returned here")
        return {"i": str(int(value))}
    if isinstance(value, float):
        return {"f": float(value).hex()}
    if isinstance(value, np.ndarray):
        return _encode_array(value, chunks)
    if isinstance(value, (bytes, bytearray)):
        chunks.append(memoryview(bytes(value)))
        return {"b": len(value)}
    if isinstance(value, (list, tuple)):
        items = [encode(item, chunks, depth + 1) for item in value]
        return {"l" if isinstance(value, list) else "t": items}
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise UnsupportedValue(f"a dict's keys must be strings, not {type(key).__name__}")
        if not all(map(_is_unicode, value)):
            raise UnsupportedValue("a dict key with half a character (a lone surrogate) in it")
        return {"d": [[str(key), encode(item, chunks, depth + 1)] for key, item in value.items()]}
    raise UnsupportedValue(
        f"{type(value).__module__}.{type(value).__qualname__} can't be returned here: a plain "
        "number, string, list, dict or numpy array is expected"
    )


def _encode_array(value: np.ndarray, chunks: list[memoryview]) -> Any:
    plain = np.array(value, subok=False, copy=None, order="C")
    if plain.dtype.name not in DTYPES:
        raise UnsupportedValue(f"an array of dtype {plain.dtype} can't be returned here")
    plain = plain.astype(DTYPES[plain.dtype.name], copy=False)  # bytes in this machine's order
    if plain.size:
        chunks.append(memoryview(plain.reshape(-1).view(np.uint8)))
    return {"a": [plain.dtype.name, list(plain.shape)]}


def send(channel: socket.socket, head: dict[str, Any], value: Any) -> None:
    """Write one message; raises UnsupportedValue before anything is written."""
    chunks: list[memoryview] = []
    tree = encode(value, chunks)
    header = json.dumps({"head": head, "value": tree}).encode()
    if len(header) > MAX_HEADER_BYTES:
        raise UnsupportedValue("the result has too many parts; return arrays instead of lists")
    payload = sum(chunk.nbytes for chunk in chunks)
    channel.sendall(PREFIX.pack(MAGIC, len(header), payload) + header)
    for chunk in chunks:
        channel.sendall(chunk)


def receive(channel: socket.socket, max_payload: int, deadline: float | None = None) -> Message:
    """Read one message of at most `max_payload` array bytes before `deadline` (monotonic seconds).

    Raises WireClosed, WireTimeout, or WireError for anything malformed.
    """
    magic, header_length, payload_length = PREFIX.unpack(_read(channel, PREFIX.size, deadline))
    if magic != MAGIC:
        raise WireError("not a message")
    if header_length > MAX_HEADER_BYTES:
        raise WireError(f"a header of {header_length:,} bytes")
    if payload_length > max_payload:
        raise WireError(
            f"a result of {payload_length / 2**20:,.0f} MB; at most {max_payload >> 20:,} MB fit"
        )
    header = _read(channel, header_length, deadline)
    try:
        parsed = json.loads(bytes(header), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise WireError(f"an unreadable header ({type(error).__name__})") from None
    if not isinstance(parsed, dict) or not isinstance(parsed.get("head"), dict):
        raise WireError("a header without its parts")
    reader = _Reader(channel, payload_length, deadline)
    value = reader.decode(parsed.get("value"), 0)
    if reader.left:
        raise WireError("more bytes than the header describes")
    return Message(parsed["head"], value)


def _is_unicode(text: str) -> bool:
    """Whether any encoding can write `text`: no report could be made of one that none can."""
    try:
        str.encode(text, "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _read(channel: socket.socket, length: int, deadline: float | None) -> bytearray:
    buffer = bytearray(length)
    _read_into(channel, memoryview(buffer), deadline)
    return buffer


def _read_into(channel: socket.socket, view: memoryview, deadline: float | None) -> None:
    while view:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise WireTimeout
            channel.settimeout(left)
        try:
            count = channel.recv_into(view)
        except TimeoutError:
            raise WireTimeout from None
        except OSError as error:
            raise WireClosed(str(error)) from None
        if count == 0:
            raise WireClosed("closed")
        view = view[count:]


class _Reader:
    """Rebuilds a value from its tree; each array's bytes go straight into an array of its own."""

    def __init__(self, channel: socket.socket, payload: int, deadline: float | None) -> None:
        self.channel = channel
        self.left = payload
        self.deadline = deadline
        self.nodes = 0

    def decode(self, tree: Any, depth: int) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES or depth > MAX_DEPTH:
            raise WireError("a value with too many parts")
        if tree is None or isinstance(tree, bool):
            return tree
        if isinstance(tree, str):
            return self._text(tree)
        if not isinstance(tree, dict) or len(tree) != 1:
            raise WireError("an unknown kind of value")
        ((kind, body),) = tree.items()
        decoder = getattr(self, f"_decode_{kind}", None) if kind in set("ifbaltd") else None
        if decoder is None:
            raise WireError("an unknown kind of value")
        try:
            return decoder(body, depth + 1)
        except (TypeError, ValueError, OverflowError, KeyError) as error:
            raise WireError(f"a malformed value ({error})") from None

    def _take(self, length: int) -> None:
        if type(length) is not int or not 0 <= length <= self.left:
            raise WireError("an array longer than what was sent")
        self.left -= length

    def _decode_i(self, body: Any, depth: int) -> int:
        if not isinstance(body, str) or len(body) > 40:
            raise WireError("a malformed integer")
        return int(body)

    def _decode_f(self, body: Any, depth: int) -> float:
        if not isinstance(body, str) or len(body) > 40:
            raise WireError("a malformed number")
        return float.fromhex(body)

    def _decode_b(self, body: Any, depth: int) -> bytes:
        self._take(body)
        return bytes(_read(self.channel, body, self.deadline))

    def _decode_a(self, body: Any, depth: int) -> np.ndarray:
        name, shape = body
        dtype = DTYPES[name]
        if not isinstance(shape, list) or len(shape) > 16:
            raise WireError("a malformed shape")
        if any(type(size) is not int or not 0 <= size < 2**40 for size in shape):
            raise WireError("a malformed shape")
        length = math.prod(shape) * dtype.itemsize
        self._take(length)
        array = np.empty(shape, dtype)
        if length:
            flat = memoryview(array.reshape(-1).view(np.uint8))
            _read_into(self.channel, flat, self.deadline)
        return array

    def _decode_l(self, body: Any, depth: int) -> list[Any]:
        if not isinstance(body, list):
            raise WireError("a malformed list")
        return [self.decode(item, depth) for item in body]

    def _decode_t(self, body: Any, depth: int) -> tuple[Any, ...]:
        return tuple(self._decode_l(body, depth))

    def _decode_d(self, body: Any, depth: int) -> dict[str, Any]:
        result = {}
        if not isinstance(body, list):
            raise WireError("a malformed dictionary")
        for key, item in body:
            if not isinstance(key, str):
                raise WireError("a malformed dictionary")
            result[self._text(key)] = self.decode(item, depth)
        return result

    @staticmethod
    def _text(text: str) -> str:
        if not _is_unicode(text):
            raise WireError("a text with half a character (a lone surrogate) in it")
        return text
