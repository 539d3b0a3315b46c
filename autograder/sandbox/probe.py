"""Try every layer of confinement in throwaway processes and print what held, as JSON.

Run as a program (`python -m autograder.sandbox.probe`) by `autograder doctor`: a fresh interpreter
is single-threaded, so it may fork, and what goes wrong in it stays there.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from autograder.sandbox import confinement, landlock
from autograder.sandbox.confinement import Confinement

THROWAWAY_UID = 31999
_BALLAST = 128 << 20


@dataclass(frozen=True)
class ProbeLimits:
    """Limits of the throwaway processes."""

    cpu_seconds: int = 5
    memory_mb: int = 4096
    processes: int = 0
    open_files: int = 64
    file_mb: int = 8


def in_child(body: Callable[[], object], seconds: float = 10.0) -> object:
    """What `body` returns (JSON-able) in a forked child; a sentence if it raised, died or hung."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            answer = json.dumps({"value": body()})
        except BaseException as error:
            answer = json.dumps({"error": f"{type(error).__name__}: {error}"})
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        timer = threading.Timer(seconds, os.kill, (pid, 9))
        timer.start()
        text = pipe.read()
    status = os.waitpid(pid, 0)[1]
    timer.cancel()
    timer.join()
    if not text:
        return f"the child died (status {status})"
    answer = json.loads(text)
    return answer["value"] if "value" in answer else answer["error"]


def refused(action: Callable[[], object]) -> bool:
    """Does the system refuse `action`?"""
    try:
        action()
    except (OSError, MemoryError):
        return True
    return False


def _thread_runs() -> bool:
    thread = threading.Thread(target=lambda: None)
    try:
        thread.start()
    except RuntimeError:
        return False
    thread.join()
    return True


def _confined(prepared: confinement.Prepared, work: str, secret: str) -> dict[str, object]:
    uid = THROWAWAY_UID if prepared.drops_uid else None
    layers = confinement.apply(prepared, work=work, uid=uid)
    return {
        "layers": layers,
        "file_outside": refused(lambda: Path(secret).read_bytes()),
        "file_inside": not refused(lambda: Path(work, "note").write_bytes(b"x")),
        "network": refused(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)),
        "fork": refused(_fork_and_leave),
        "threads": _thread_runs(),
        "memory": refused(lambda: bytearray(40 << 30)),
        "signals": refused(lambda: os.kill(os.getppid(), 0)),
    }


def _fork_and_leave() -> None:
    if os.fork() == 0:
        os._exit(0)
    os.wait()


def try_layers() -> object:
    """Apply everything that can be applied to a child, and try what should then be impossible."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o711)
        work = os.path.join(folder, "work")
        os.mkdir(work)
        secret = os.path.join(folder, "secret")
        Path(secret).write_text("not for workers", encoding="ascii")
        os.chmod(secret, 0o644)  # so that only Landlock keeps it
        try:
            prepared = confinement.prepare(Confinement(ProbeLimits()))
            if prepared.drops_uid:
                os.chown(work, THROWAWAY_UID, THROWAWAY_UID)
            return in_child(lambda: _confined(prepared, work, secret))
        except (OSError, confinement.ConfinementError) as error:
            return f"{type(error).__name__}: {error}"


def _watched(body: Callable[[int], object], act: Callable[[], object]) -> object:
    """body(pid) in the parent, after a child of a throwaway uid has done `act` and waits."""
    ready, told = os.pipe()
    hold, release = os.pipe()
    pid = os.fork()
    if pid == 0:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(THROWAWAY_UID)
            os.setuid(THROWAWAY_UID)
        act()
        os.write(told, b"1")
        os.close(release)
        os.read(hold, 1)
        os._exit(0)
    os.close(told)
    os.close(hold)
    try:
        os.read(ready, 1)
        return body(pid)
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        os.close(release)
        os.close(ready)
        os.waitpid(pid, 0)


def _peak_kilobytes(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    return int(text.partition("VmHWM:")[2].split()[0])


def _touch_and_free() -> None:
    ballast = bytearray(_BALLAST)
    ballast[::4096] = b"\1" * len(ballast[::4096])
    del ballast


def try_peak_reset() -> object:
    """True if the parent can reset a worker's peak memory (and so measure one call's)."""

    def measure(pid: int) -> bool:
        before = _peak_kilobytes(pid)
        Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
        return before - _peak_kilobytes(pid) > _BALLAST // 2048

    return _watched(measure, _touch_and_free)


def cpu_seconds_of(pid: int) -> float:
    """CPU time of all threads of process `pid`, by the kernel's account. OSError: it is gone."""
    # The kernel's CPU-clock number of another process: linux/include/linux/posix-timers.h.
    return time.clock_gettime(((~pid) << 3) | 2)


def _burn() -> None:
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass


def try_cpu_clock() -> object:
    """True if the parent can read a worker's CPU time."""
    return _watched(lambda pid: 0.04 < cpu_seconds_of(pid) < 5.0, _burn)


def try_interpreter() -> object:
    """True if this interpreter runs for a throwaway uid, else why not."""
    if os.geteuid() != 0:
        return True

    def run() -> None:
        os.setgroups([])
        os.setgid(THROWAWAY_UID)
        os.setuid(THROWAWAY_UID)
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        os.chdir("/")
        os.execv(sys.executable, [sys.executable, "-I", "-c", "import json, numpy"])

    pid = os.fork()
    if pid == 0:
        try:
            run()
        finally:
            os._exit(126)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return True if code == 0 else f"exit status {code}"


def everything() -> dict[str, object]:
    """All probes; each answer is JSON-able, and a string explains a failure."""
    linux = sys.platform == "linux"
    return {
        "root": os.geteuid() == 0,
        "landlock_abi": landlock.abi(),
        "confined": try_layers(),
        "peak_reset": try_peak_reset() if linux else "needs Linux",
        "cpu_clock": try_cpu_clock() if linux else "needs Linux",
        "interpreter": try_interpreter() if linux else True,
    }


if __name__ == "__main__":
    json.dump(everything(), sys.stdout)
