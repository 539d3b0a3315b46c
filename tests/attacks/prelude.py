"""Goes in front of every attack: what a determined student would write for themselves."""

import ctypes
import gc  # noqa: F401
import os
import socket
import struct
import sys
import time

import numpy as np  # noqa: F401

_TRIED: list[str] = []
_COLUMN = {"x86_64": 0, "aarch64": 1}.get(os.uname().machine, 0)


def attempt(name, action):
    """Try something that must be refused, and remember how it ended."""
    try:
        result = action()
    except BaseException as error:
        _TRIED.append(f"{name}: refused ({type(error).__name__})")
    else:
        _TRIED.append(f"{name}: DONE {str(result)[:60]!r}")


def confess():
    """Tell the public test how every attempt ended."""
    raise RuntimeError("\n".join([f"{len(_TRIED)} attempts", *_TRIED]))


def system_call(x86_64, arm64, *arguments):
    """A system call by its number, past every wrapper of Python's."""
    library = ctypes.CDLL(None, use_errno=True)
    given = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = library.syscall((x86_64, arm64)[_COLUMN], *given)
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result


def server_frame():
    """The frame of the worker's loop, with its channel and the message it is answering."""
    frame = sys._getframe()
    while frame is not None and frame.f_code.co_name != "serve":
        frame = frame.f_back
    return frame


def channel():
    """The socket to the grader."""
    return server_frame().f_locals["channel"]


def call_id():
    """The random id of the call in progress."""
    return server_frame().f_locals["message"].head["id"]


def reply_raw(header, payload=0, body=b"", magic=b"LSW1", header_length=None):
    """Send bytes of our own making instead of an answer, then never come back."""
    length = len(header) if header_length is None else header_length
    channel().sendall(struct.pack("<4sIQ", magic, length, payload) + header + body)
    time.sleep(60)


def reply_json(value, payload=0, body=b"", status="ok"):
    """Send a reply with the right id and `value` as its JSON text."""
    head = f'{{"id": "{call_id()}", "status": "{status}"}}'
    reply_raw(f'{{"head": {head}, "value": {value}}}'.encode(), payload, body)
