"""The trusted side of the sandbox: starts the zygote, asks it for workers, calls them, ends them.

    with Sandbox(plan) as sandbox:
        with sandbox.worker() as worker:
            value = worker.call("hw1_autodiff_drivers:gradient", {"x": x}, timeout=10)

Every way a worker can fail is an exception here; none of them disturbs the next worker.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autograder.sandbox import landlock, wire
from autograder.sandbox.accounts import KernelAccounts
from autograder.sandbox.control import ZygoteHandle
from autograder.sandbox.failures import (
    GraderFault,
    WorkerDied,
    WorkerFailure,
    WorkerFilledDisk,
    WorkerFlooded,
    WorkerMisbehaved,
    WorkerRaised,
    WorkerTimedOut,
)
from autograder.sandbox.output import OutputReader, stack_frames
from autograder.sandbox.plan import REPOSITORY, Plan, clean_environment
from autograder.sandbox.processes import (
    SHARED_FOLDERS,
    all_pids,
    folder_usage,
    hand_over,
    kill_everything,
    look_up,
    remove_files_of,
    remove_tree,
)

MAX_RESTARTS = 3  # of a zygote that died, in one run
FIRST_UID, UIDS = 30_000, 30_000
# What a worker's folder may hold: files of the largest size, and names.
MAX_LARGE_FILES, MAX_NAMES = 4, 5_000

__all__ = [
    *("REPOSITORY", "GraderFault", "Place", "Plan", "Sandbox", "Worker", "WorkerDied", "WorkerFailure"),
    *("WorkerFilledDisk", "WorkerFlooded", "WorkerMisbehaved", "WorkerRaised", "WorkerTimedOut"),
]


@dataclass(frozen=True)
class Place:
    """A worker's place in a group: its rank, the group's size, its end of the switch."""

    rank: int
    size: int
    channel: socket.socket


class Sandbox:
    """One zygote (or a pool of ready processes where fork is unsafe) and the workers it made."""

    def __init__(self, plan: Plan) -> None:
        if plan.confine == "full" and os.geteuid() != 0:
            raise GraderFault("full confinement needs root: only root can drop to another user")
        self.plan = plan
        self.folder = Path(tempfile.mkdtemp(prefix="llm-systems-"))
        self.folder.chmod(0o711)
        self.restarts = 0
        self._zygotes: list[ZygoteHandle] = []
        self._uids = self._free_uids() if plan.confine == "full" else None
        self._spawned = 0
        try:
            self._ensure_zygote()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _free_uids(self) -> Iterator[int]:
        """Throwaway uids that no process has, each used once; the start is random."""
        place = random.SystemRandom().randrange(UIDS)
        while True:
            taken = {uid for pid in all_pids() if (task := look_up(pid)) for uid in task.uids}
            for _ in range(64):  # a look at every process now and then, not for every worker
                place = (place + 1) % UIDS
                if FIRST_UID + place not in taken:
                    yield FIRST_UID + place

    def _ensure_zygote(self) -> ZygoteHandle:
        """A zygote that is ready; one that died is replaced: what killed it was one test's."""
        while len(self._zygotes) < (1 if self.plan.fork else 3):
            self._zygotes.append(self._start_zygote())
        zygote = self._zygotes[0] if self.plan.fork else self._zygotes.pop(0)
        if self.plan.fork and not zygote.alive:
            status = zygote.process.returncode
            if self.restarts == MAX_RESTARTS:
                raise GraderFault(f"the zygote ended with status {status}, not for the first time")
            self.restarts += 1
            zygote.close()
            zygote = self._zygotes[0] = self._start_zygote()
        zygote.wait_until_ready()
        return zygote

    def _start_zygote(self) -> ZygoteHandle:
        plan = self.plan
        return ZygoteHandle(plan, {
            "preload": [name for name in plan.imports if name != "llvmlite"],
            "modules": [f"{name}={path}" for name, path in plan.modules.items()],
            "forget": [str(REPOSITORY)],
            "packages": list(plan.imports),
            "confinement": None if plan.confine == "none" else self._confinement(),
        })  # fmt: skip

    def _confinement(self) -> dict[str, Any]:
        plan = self.plan
        limits = ("cpu_seconds", "memory_mb", "processes", "open_files", "file_mb")
        return {
            "limits": {name: getattr(plan, name) for name in limits},
            "reads": [
                *map(str, (plan.overlay, *plan.reads)), *([str(plan.cache)] if plan.cache else []),
            ],
            "builders": plan.builders,
            "never": [str(path) for path in plan.never if path.exists()],
            "drop_uid": plan.confine == "full",
            "landlock": "landlock" in plan.layers,
            "seccomp": "seccomp" in plan.layers,
            "umask": 0o022,
        }

    def worker(
        self, *, student: bool = True, warming_up: bool = False, place: Place | None = None
    ) -> Worker:
        """A fresh worker; `student=False` gives one that can't see the overlay (for peers).

        place: which rank of which group it is, with its end of the switch.
        """
        zygote = self._ensure_zygote()
        self._spawned += 1
        uid = next(self._uids) if self._uids else None
        work = self.folder / f"work{self._spawned}"
        work.mkdir(mode=0o700)
        if uid is not None:
            os.chown(work, uid, uid)
            if warming_up and self.plan.cache:
                hand_over(self.plan.cache, uid)
        return Worker(self, zygote, uid, work, student, warming_up, place)

    def close(self) -> None:
        """End every process and remove every file of this sandbox."""
        for zygote in self._zygotes:
            zygote.close()
        self._zygotes.clear()
        remove_tree(self.folder)


class Worker(KernelAccounts):
    """One untrusted process; calls go to it one at a time."""

    def __init__(
        self, sandbox: Sandbox, zygote: ZygoteHandle, uid: int | None, work: Path,
        student: bool, warming_up: bool, place: Place | None,
    ) -> None:  # fmt: skip
        self.sandbox, self.plan = sandbox, sandbox.plan
        self._zygote = zygote
        self.uid, self.work = uid, work
        self._stopping = threading.Lock()
        self.failure: WorkerFailure | None = None
        self.end: dict[str, Any] | None = None
        self.channel, channel = socket.socketpair()
        self.channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        limit = self.plan.output_kb
        self.output = OutputReader(
            limit * 1024,
            lambda: self._kill(WorkerFlooded(f"it printed more than {limit} kB and was stopped")),
            self._look_at_folders,
        )
        self._confirmed = self.plan.confine == "none"
        crash_read, crash_write = os.pipe()
        os.set_blocking(crash_read, False)
        self._crash = crash_read
        plan = self.plan
        setup = {
            "overlay": str(plan.overlay) if student else None,
            "package": plan.package,
            "imports": list(plan.imports),
            "cache": str(plan.cache) if plan.cache and student else None,
            "cache_writable": warming_up,
            "max_message_bytes": plan.reply_mb << 20,
        }
        writes = [str(plan.cache)] if warming_up and plan.cache else []
        self._held = {folder: folder_usage(folder) for folder in (str(work), *writes)}
        request = {
            "op": "spawn", "uid": uid, "setup": setup, "work": str(work), "writes": writes,
            "environment": clean_environment(plan.threads) | {"PYTHONPATH": ""},
            "builder": warming_up and plan.builders > 0,
            "place": [place.rank, place.size] if place else None,
        }  # fmt: skip
        fds = [channel.fileno(), *self.output.write_fds, crash_write]
        if place:
            fds.append(place.channel.fileno())
        try:
            self.pid = int(zygote.ask(request, fds)["pid"])
        finally:
            channel.close()
            os.close(crash_write)
        self.output.start()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(
        self, driver: str, arguments: Mapping[str, Any], *, timeout: float | None = None,
        op: str = "run", **head: Any,
    ) -> Any:  # fmt: skip
        """The value of `module:function(**arguments)` in the worker.

        Raises a WorkerFailure; after one that ended the process, each further call raises it again.
        """
        if self.failure is not None:
            raise self.failure
        call_id = secrets.token_hex(8)
        deadline = time.monotonic() + (timeout or self.plan.wall_seconds)
        try:
            self._confirm(deadline)
            self.channel.settimeout(timeout or self.plan.wall_seconds)
            wire.send(
                self.channel, {"op": op, "id": call_id, "driver": driver, **head}, dict(arguments)
            )
            reply = wire.receive(self.channel, self.plan.reply_mb << 20, deadline)
        except (wire.WireTimeout, TimeoutError):
            raise self._timed_out(timeout or self.plan.wall_seconds) from None
        except (wire.WireClosed, BrokenPipeError, ConnectionError):
            raise self._died() from None
        except wire.WireError as error:
            raise self._fail(WorkerMisbehaved(f"the worker's answer is {error}")) from None
        if reply.head.get("id") != call_id:
            raise self._fail(WorkerMisbehaved("the worker answered a call that was not made"))
        if reply.head.get("status") == "ok":
            return reply.value
        if not isinstance(reply.value, dict):
            raise self._fail(WorkerMisbehaved("the worker's error report is malformed"))
        raise WorkerRaised(reply.value)

    def _confirm(self, deadline: float) -> None:
        """Hear that the worker is confined, before its first call lets student code in."""
        if self._confirmed:
            return
        try:
            reply = wire.receive(self.channel, 0, deadline)
        except wire.WireError as error:
            raise GraderFault(f"a worker did not start ({type(error).__name__})") from None
        if reply.head.get("status") != "confined":
            raise GraderFault(f"confinement could not be applied: {reply.value}")
        self._confirmed = True

    def open(self, driver: str, arguments: Mapping[str, Any], **options: Any) -> str:
        """Run a driver whose result stays in the worker; returns the handle for `call_method`."""
        handle = secrets.token_hex(8)
        self.call(driver, arguments, op="open", object=handle, **options)
        return handle

    def call_method(
        self, handle: str, method: str, arguments: Mapping[str, Any], **options: Any
    ) -> Any:
        """Call a public method of an object that `open` left in the worker."""
        return self.call("", arguments, op="call", object=handle, method=method, **options)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """No thread of the process runs meanwhile."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGCONT)

    def _fail(self, failure: WorkerFailure) -> WorkerFailure:
        self._stop()
        self.failure = failure
        return failure

    def _died(self) -> WorkerFailure:
        if self.failure is not None:
            return self.failure
        self._stop()
        status = self.end["status"] if self.end else None
        return self._fail(WorkerDied(status, self._stack()))

    def _timed_out(self, seconds: float) -> WorkerFailure:
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGUSR1)
        frames: list[list[Any]] = []
        give_up = time.monotonic() + 1.0
        while not frames and time.monotonic() < give_up:
            time.sleep(0.02)
            frames = self._stack()
        return self._fail(WorkerTimedOut(f"no answer within {seconds:g} s", frames))

    def _kill(self, failure: WorkerFailure) -> None:
        """End the process for what it did, seen from the thread that watches it."""
        self.failure = failure
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGKILL)

    def _look_at_folders(self) -> None:
        limit = MAX_LARGE_FILES * self.plan.file_mb
        for folder, (used_before, names_before) in self._held.items():
            used, names = folder_usage(folder, at_most=names_before + MAX_NAMES)
            if used - used_before > limit << 20 or names >= names_before + MAX_NAMES:
                text = f"it filled its folder ({limit} MB or {MAX_NAMES:,} files) and was stopped"
                self._kill(WorkerFilledDisk(text))

    def _stack(self) -> list[list[Any]]:
        try:
            text = os.read(self._crash, 1 << 16)
        except OSError:
            return []
        return stack_frames(text.decode("utf-8", "replace"), str(self.plan.overlay))

    def _stop(self) -> None:
        with self._stopping:
            if self.end is not None:
                return
            self.end = {"status": None, "survivors": []}
            if not self.plan.fork:
                self.end["status"] = -self._zygote.end()
                return
            try:
                self.end = self._zygote.ask({"op": "stop", "pid": self.pid, "uid": self.uid})
            except GraderFault:
                if self.uid is not None:  # the kernel ends a zygote's children, not theirs
                    kill_everything(self.uid)
                raise
        if self.end["survivors"]:
            raise GraderFault(f"processes of uid {self.uid} survived: {self.end['survivors']}")

    def close(self) -> None:
        """Kill the process, with all it started, and remove its work folder."""
        self._stop()
        self.channel.close()
        self.output.close()
        os.close(self._crash)
        remove_tree(self.work)
        if self.uid is not None and not ("landlock" in self.plan.layers and landlock.abi()):
            remove_files_of(self.uid, {*SHARED_FOLDERS, tempfile.gettempdir()})
