"""How a call of a worker can end without a value."""

from __future__ import annotations

import os
import signal
from typing import Any


class GraderFault(Exception):
    """Something on the trusted side failed: never the student's fault."""


class WorkerFailure(Exception):
    """A call did not return a value; `frames` are [file, line, function], as the worker says."""

    def __init__(self, message: str, frames: list[list[Any]] | None = None) -> None:
        super().__init__(message)
        self.frames = frames if isinstance(frames, list) else []


class WorkerRaised(WorkerFailure):
    """The student's code raised: `error` holds type, bases, message, frames, as sent."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(str(error.get("message", "")), error.get("frames", []))
        self.error = error


class WorkerDied(WorkerFailure):
    """The process ended before it answered: `status` is its wait status."""

    def __init__(self, status: int | None, frames: list[list[Any]]) -> None:
        super().__init__(describe_status(status), frames)
        self.status = status


class WorkerTimedOut(WorkerFailure):
    """No answer before the deadline; `frames` say where the worker was."""


class WorkerFlooded(WorkerFailure):
    """The worker printed more than it may."""


class WorkerFilledDisk(WorkerFailure):
    """The worker wrote more than it may."""


class WorkerMisbehaved(WorkerFailure):
    """What came back breaks the protocol."""


def describe_status(status: int | None) -> str:
    """A wait status in words."""
    if status is None:
        return "the process is gone"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return f"the process was killed by {signal.Signals(number).name} (signal {number})"
    return f"the process exited with status {os.waitstatus_to_exitcode(status)}"
