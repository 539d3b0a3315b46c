"""The process that workers are forked from.

Started by the trusted side as a fresh program (so it never held a hidden test in its memory), it
imports what the homework allows and the staff's drivers, never a student's file, compiles nothing
and runs no threaded operation: one parallel region in the parent would hang every forked child.

`--no-fork` is for platforms where a fork of such a process is unsafe (macOS): there the trusted
side keeps a few of these ready, and each becomes one worker itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from autograder.sandbox import blas_guard, confinement, syscalls, wire, worker
from autograder.sandbox.control import receive_control, send_control

MALLOPT_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of malloc.h
# What a package imports only at the first use of an optimizer or of `backward`: two seconds that
# every worker would pay, and of packages (sympy) that no homework may import by itself.
IMPORTED_LATE = {
    "torch": (
        "torch._dynamo",
        "torch.fx.experimental.symbolic_shapes",
        "torch.nn.attention.flex_attention",
    )
}


class Zygote:
    """Serves spawn and stop requests until its control channel closes."""

    def __init__(self, control: socket.socket, start: dict[str, Any], fork: bool) -> None:
        self.control = control
        self.fork = fork
        self.running: set[int] = set()
        self.ended: dict[int, list[Any]] = {}
        sys.dont_write_bytecode = True
        for name in start["preload"]:
            for module in (name, *IMPORTED_LATE.get(name, ())):
                importlib.import_module(module)
        self.modules = worker.load_modules(start["modules"])
        # The harness and the hidden tests lie below this entry: no worker may find them.
        sys.path[:] = [entry for entry in sys.path if entry not in ("", *start["forget"])]
        self.confined = start["confinement"] is not None
        if self.confined:
            body = dict(start["confinement"])
            limits = SimpleNamespace(**body.pop("limits"))
            builders = body.pop("builders")
            body["reads"] = [*body["reads"], *package_paths(start["packages"])]
            body["lists"] = site_folders()
            body = {name: _frozen(value) for name, value in body.items()}
            self.prepared = confinement.prepare(confinement.Confinement(limits=limits, **body))
            if builders:
                limits = SimpleNamespace(**{**vars(limits), "processes": builders})
                self.builder = confinement.prepare(confinement.Confinement(limits=limits, **body))
        blas_guard.prepare()
        if syscalls.LINUX:
            syscalls.control(syscalls.PR_SET_CHILD_SUBREAPER, 1)
        gc.collect()
        gc.freeze()

    def run(self) -> None:
        """Answer requests; returns when the trusted side is gone."""
        while True:
            try:
                request, fds = receive_control(self.control)
            except (EOFError, OSError):
                return
            if request["op"] == "spawn":
                self._spawn(request, fds)
            elif request["pid"] in self.running:
                send_control(self.control, self._stop(request["pid"], request["uid"]))
            else:
                send_control(self.control, {"status": None, "cpu_seconds": 0.0, "survivors": []})

    def _spawn(self, request: dict[str, Any], fds: list[int]) -> None:
        if not self.fork:
            send_control(self.control, {"pid": os.getpid()})
            self._become_worker(request, fds)
        pid = os.fork()
        if pid == 0:
            self._become_worker(request, fds)
        for fd in fds:
            os.close(fd)
        self.running.add(pid)
        send_control(self.control, {"pid": pid})

    def _become_worker(self, request: dict[str, Any], fds: list[int]) -> None:
        """Confine this process and serve; never returns."""
        status = 70
        try:
            self.control.close()
            channel_fd, output_fd, error_fd, crash_fd, *switch = fds
            channel = socket.socket(fileno=channel_fd)
            channel.settimeout(None)
            worker.attach_output(output_fd, error_fd)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            if self.confined:
                self._confine(request, channel, [crash_fd, *switch])
            if switch:
                take_place(*request["place"], switch[0])
                free_at_once()
            setup = worker.WorkerSetup(**request["setup"], drivers=self.modules)
            worker.serve(channel, crash_fd, setup)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def _confine(
        self, request: dict[str, Any], channel: socket.socket, more_fds: list[int]
    ) -> None:
        try:
            confinement.apply(
                self.builder if request["builder"] else self.prepared,
                uid=request["uid"],
                work=request["work"],
                writes=request["writes"],
                keep_fds=[channel.fileno(), *more_fds],
                environment=confinement.clean_environment(request["work"], request["environment"]),
            )
            wire.send(channel, {"id": None, "status": "confined"}, None)
        except confinement.ConfinementError as error:
            wire.send(channel, {"id": None, "status": "unconfined"}, str(error))
            os._exit(70)

    def _stop(self, pid: int, uid: int | None) -> dict[str, Any]:
        """Kill one worker and whatever it started, reap it, and say how it ended."""
        if pid not in self.ended:
            os.kill(pid, signal.SIGKILL)  # ours and not reaped yet, so the number is still its own
            _, *self.ended[pid] = os.wait4(pid, 0)
        status, usage = self.ended.pop(pid)
        self.running.discard(pid)
        survivors = confinement.kill_everything(
            uid, [pid], ancestor=os.getpid(), spare=self.running
        )
        self._reap_orphans()
        return {
            "status": status,
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
            "survivors": survivors,
        }

    def _reap_orphans(self) -> None:
        """Reap what came to us as subreaper; keep the status of workers that ended meanwhile."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in self.running:
                self.ended[pid] = [status, usage]


def take_place(rank: int, size: int, switch: int) -> None:
    """Tell the homework's given communicator who it is and where its switch is."""
    os.environ["LLM_SYSTEMS_RANK"] = str(rank)
    os.environ["LLM_SYSTEMS_WORLD_SIZE"] = str(size)
    os.environ["LLM_SYSTEMS_SWITCH"] = str(switch)


def free_at_once() -> None:
    """Give large blocks back to the kernel the moment they are freed, in this process (glibc).

    Else malloc keeps them in holes that depend on where the heap happened to lie, and the peak of a
    rank differs by a quarter from one zygote to the next. Costs page faults; ranks are not timed.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(MALLOPT_MMAP_THRESHOLD, 1 << 17)


def site_folders() -> list[str]:
    """The folders that third-party packages are imported from."""
    return [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]


def package_paths(packages: Sequence[str]) -> list[str]:
    """What a worker must read to import `packages`, and nothing beside it in site-packages.

    A package's folder or file, the shared libraries that its wheel bundles (`numpy.libs`), and its
    metadata.
    """
    found = []
    for folder in site_folders():
        for name in sorted(os.listdir(folder)):
            base = name.partition("-")[0].partition(".")[0].lower()
            if base in packages or name.partition("-")[0] in {f"{p}.libs" for p in packages}:
                found.append(os.path.join(folder, name))
    return found


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def main() -> None:
    """`python -m autograder.sandbox.zygote CONTROL_FD fork|no-fork`, started by sandbox.host."""
    control = socket.socket(fileno=int(sys.argv[1]))
    start, _ = receive_control(control)
    try:
        zygote = Zygote(control, start, fork=sys.argv[2] == "fork")
    except Exception as error:
        send_control(control, {"ready": False, "error": f"{type(error).__name__}: {error}"})
        raise
    send_control(control, {"ready": True})
    zygote.run()


if __name__ == "__main__":
    main()
