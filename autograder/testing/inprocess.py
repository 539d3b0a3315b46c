"""The debugging transport: drivers run in the test's own process, so `breakpoint()` and `--pdb` work.

Values go through the wire's encoding all the same, so a test sees what it would see from a worker.
Never used for grading: the student's code shares the process with the test.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from autograder.sandbox import host, wire
from autograder.sandbox.worker import describe_error, find_driver

_LIMIT = 1 << 30


class InProcessWorker:
    """Has the methods of `host.Worker` that `Student` uses; each one starts from a fresh import."""

    def __init__(
        self, overlay: Path, package: str, modules: dict[str, ModuleType],
        place: host.Place | None = None, **_: Any,
    ) -> None:  # fmt: skip
        self.overlay, self.package, self.modules = overlay, package, modules
        self.pid = os.getpid()
        self.output = SimpleNamespace(text="")
        self.objects: dict[str, Any] = {}
        # Ranks are threads here; each keeps its own end of the switch.
        self._place = (place.rank, place.size, os.dup(place.channel.fileno())) if place else None
        self._forget_package()
        sys.path.insert(0, str(overlay))

    def call(
        self, driver: str, arguments: Mapping[str, Any], *, timeout: float | None = None,
        op: str = "run", **head: Any,
    ) -> Any:  # fmt: skip
        """As `host.Worker.call`, without the deadline."""
        arguments = through_the_wire(dict(arguments))
        if op == "hold":
            self.objects["held"] = arguments
            return None
        try:
            if self._place:
                channel = importlib.import_module(f"{self.package}.local_channel")
                channel.threads.place = self._place
            if op == "call":
                return through_the_wire(
                    getattr(self.objects[head["object"]], head["method"])(**arguments)
                )
            if op == "run_held":
                arguments = self.objects.pop("held")
            value = find_driver(driver, self.modules)(**arguments)
            if op == "open":
                self.objects[head["object"]] = value
                return None
            return through_the_wire(value)
        except (Exception, SystemExit) as error:
            raise host.WorkerRaised(describe_error(error, str(self.overlay))) from error

    open = host.Worker.open
    call_method = host.Worker.call_method

    def cpu_seconds(self) -> float:
        """CPU seconds of this process."""
        return time.process_time()

    def queued_seconds(self) -> float:
        """Not measured here."""
        return 0.0

    def paused(self) -> contextlib.nullcontext[None]:
        """Nothing to pause: this process is the test's own."""
        return contextlib.nullcontext()

    def resident_bytes(self) -> int:
        """Memory is that of the whole test process: a test that measures it is skipped."""
        pytest.skip(
            "memory and threads are measured in a process of the code's own: leave this test to "
            "make test, and debug another one of the task"
        )

    thread_seconds = resident_bytes

    def close(self) -> None:
        """Forget the student's package."""
        if self._place:
            os.close(self._place[2])
            self._place = None
        if str(self.overlay) in sys.path:
            sys.path.remove(str(self.overlay))
        self._forget_package()

    def _forget_package(self) -> None:
        for name in list(sys.modules):
            if name == self.package or name.startswith(self.package + "."):
                del sys.modules[name]


def through_the_wire(value: Any) -> Any:
    """`value` as the other side of a wire would see it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        failure: list[BaseException] = []

        def push() -> None:
            try:
                wire.send(ours, {}, value)
            except BaseException as error:
                failure.append(error)
                ours.close()

        sender = threading.Thread(target=push)
        sender.start()
        try:
            return wire.receive(theirs, _LIMIT).value
        except wire.WireClosed:
            sender.join()
            raise failure[0] from None
        finally:
            sender.join()
