"""Runs compilers and their tools: with limits on time, memory and output, and nothing inherited."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .toolchain import environment

SECONDS = 30
MEMORY = 2 << 30
FILE_SIZE = 256 << 20
OUTPUT = 1 << 20
LISTING = 256 << 20  # of a disassembler


@dataclass
class Done:
    """A finished program. status: its exit status, negative for a signal; late: out of time."""

    status: int
    output: str
    late: bool = False


def _limit(memory: int, seconds: float) -> None:
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, int(seconds) + 1),
        (resource.RLIMIT_FSIZE, FILE_SIZE),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(what, (limit, limit))


def run(
    command: Sequence[str], folder: Path, *, seconds: float | None = None,
    memory: int | None = None, text: str = "", most: int = OUTPUT,
) -> Done:  # fmt: skip
    """Run a program in `folder` with `text` as its input; its output and errors come together.

    seconds, memory: limits, if not the usual ones; most: bytes of output that are read.
    """
    seconds, memory = seconds or SECONDS, memory or MEMORY
    with open(folder / ".output", "w+b") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment(folder), 
            preexec_fn=lambda: _limit(memory, seconds),
            stdin=subprocess.PIPE if text else subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        late = False
        try:
            process.communicate(text.encode() or None, timeout=seconds)
        except subprocess.TimeoutExpired:
            late = True
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        shown = output.read(most).decode("utf-8", "replace")
    return Done(process.returncode, shown, late)
