"""What a worker prints, read by the trusted side with a cap, and the stack it leaves when it dies."""

from __future__ import annotations

import array
import fcntl
import os
import re
import select
import termios
import threading
import time
from collections.abc import Callable
from typing import Any

_FRAME = re.compile(r'^  File "([^"]*)", line (\d{1,9}) in (.*)$', re.MULTILINE)
LOOK_SECONDS = 0.1
SETTLE_SECONDS = 0.5  # the longest that a look at the text waits for what is in the pipes


class OutputReader:
    """Drains two pipes in a thread; keeps the first `limit` bytes, calls `on_flood` past them.

    `on_look` is called every LOOK_SECONDS, from the same thread, while the worker lives.
    """

    def __init__(
        self, limit: int, on_flood: Callable[[], None], on_look: Callable[[], None]
    ) -> None:
        self.limit = limit
        self.on_flood = on_flood
        self.on_look = on_look
        self._kept = bytearray()
        self._total = 0
        pairs = [os.pipe(), os.pipe()]
        self._read_fds = [pair[0] for pair in pairs]
        self._reading = threading.Lock()  # held from a read until its data are kept
        self.write_fds = [pair[1] for pair in pairs]
        self._thread = threading.Thread(target=self._drain, daemon=True)

    def start(self) -> None:
        """Close the write ends (the worker holds them now) and start reading."""
        for fd in self.write_fds:
            os.close(fd)
        self._thread.start()

    @property
    def text(self) -> str:
        """What was printed so far, what is still in the pipes included, at most the limit."""
        give_up = time.monotonic() + SETTLE_SECONDS
        while self._thread.is_alive() and self._unread() and time.monotonic() < give_up:
            time.sleep(0.001)
        return bytes(self._kept).decode("utf-8", "replace")

    def close(self) -> str:
        """Wait for the rest (the worker is dead by now) and return the text."""
        self._thread.join(timeout=5)
        return self.text

    def _unread(self) -> bool:
        """Is there something in the pipes that was not taken yet?"""
        with self._reading:
            for fd in self._read_fds:
                count = array.array("i", [0])
                fcntl.ioctl(fd, termios.FIONREAD, count)
                if count[0]:
                    return True
        return False

    def _drain(self) -> None:
        open_fds = self._read_fds
        poll = select.poll()
        for fd in open_fds:
            poll.register(fd, select.POLLIN | select.POLLHUP)
        next_look = time.monotonic() + LOOK_SECONDS
        while open_fds:
            if time.monotonic() >= next_look:
                self.on_look()
                next_look = time.monotonic() + LOOK_SECONDS
            for fd, _ in poll.poll(1000 * LOOK_SECONDS):
                with self._reading:
                    data = os.read(fd, 1 << 16)
                    if data:
                        self._keep(data)
                    else:
                        poll.unregister(fd)
                        open_fds.remove(fd)
                        os.close(fd)

    def _keep(self, data: bytes) -> None:
        before = self._total
        self._total += len(data)
        self._kept += data[: max(0, self.limit - before)]
        if before <= self.limit < self._total:
            self.on_flood()


def stack_frames(text: str, overlay: str) -> list[list[Any]]:
    """[file, line, function] inside the overlay from faulthandler's dump, outermost first."""
    prefix = overlay.rstrip("/") + "/"
    frames = []
    for file, line, function in _FRAME.findall(text):
        if file.startswith(prefix):
            frames.append([file[len(prefix) :], int(line), function])
    frames.reverse()
    return frames
