"""The trusted side's hold on one zygote: its process, its control socket, one question at a time."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

from autograder.sandbox.failures import GraderFault
from autograder.sandbox.plan import Plan, clean_environment

START_SECONDS = 120.0
MAX_CONTROL_BYTES = 1 << 20
_LENGTH = struct.Struct("<I")


def send_control(channel: socket.socket, body: dict[str, Any], fds: list[int] | None = None) -> None:
    """One control message between the two trusted processes, with descriptors attached."""
    data = json.dumps(body).encode()
    socket.send_fds(channel, [_LENGTH.pack(len(data)) + data], fds or [])


def receive_control(channel: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The next control message; raises EOFError when the other side is gone.

    One message is under way at a time: what is read past its end would belong to nobody.
    """
    data, fds, _, _ = socket.recv_fds(channel, MAX_CONTROL_BYTES, 8)
    while len(data) < _LENGTH.size or len(data) < _LENGTH.size + _LENGTH.unpack_from(data)[0]:
        more = channel.recv(MAX_CONTROL_BYTES) if data else b""
        if not more:
            raise EOFError
        data += more
    return json.loads(data[_LENGTH.size :]), list(fds)


class ZygoteHandle:
    """A started zygote. Several threads may ask: the workers of a group fail all at once."""

    def __init__(self, plan: Plan, start: dict[str, Any]) -> None:
        ours, theirs = socket.socketpair()
        mode = "fork" if plan.fork else "no-fork"
        self.process = subprocess.Popen(
            [sys.executable, "-s", "-B", "-m", "autograder.sandbox.zygote",
             str(theirs.fileno()), mode],
            env=clean_environment(plan.threads), cwd="/", pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        theirs.close()
        self._control = ours
        self._lock = threading.Lock()
        self._ready = False
        self._control.settimeout(START_SECONDS)
        send_control(ours, start)

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.process.poll() is None

    def wait_until_ready(self) -> None:
        """Return when its imports are done; raises GraderFault where they fail."""
        with self._lock:
            if self._ready:
                return
            try:
                reply, _ = receive_control(self._control)
            except (EOFError, OSError, ValueError) as error:
                raise GraderFault(f"the zygote did not start ({type(error).__name__})") from None
            if not reply.get("ready"):
                raise GraderFault(f"the zygote could not start: {reply.get('error')}")
            self._ready = True

    def ask(self, request: dict[str, Any], fds: Sequence[int] = ()) -> dict[str, Any]:
        """Its reply to one request. A zygote that gives none is ended: GraderFault."""
        with self._lock:
            try:
                send_control(self._control, request, list(fds))
                return receive_control(self._control)[0]
            except (EOFError, OSError, ValueError) as error:
                self.end()  # a late answer would be taken for the next one's
                raise GraderFault(f"the zygote is gone ({type(error).__name__})") from None

    def end(self) -> int:
        """Kill the process, and with it its workers; its exit status."""
        self.process.kill()
        return self.process.wait()

    def close(self) -> None:
        """End it and close the socket."""
        self.end()
        self._control.close()
