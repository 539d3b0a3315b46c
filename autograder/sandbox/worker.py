"""The untrusted side: one process that imports the student's package and answers calls.

Runs in a child forked from the zygote, after confinement was applied. Everything in this process
may be under the student's control; nothing here decides a score.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib.abc
import io
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from autograder.sandbox import blas_guard, numba_cache, wire

MAX_MESSAGE = 4_000
MAX_FRAMES = 25
# The trusted side asks for the stack of a worker that hangs by this signal.
STACK_SIGNAL = signal.SIGUSR1


@dataclass(frozen=True)
class WorkerSetup:
    """What a worker needs to know; plain data, decided by the trusted side.

    overlay: the folder with the student's package; None for a worker of a peer.
    package: its name; imports: third-party packages that may be imported.
    cache: folder for byte code and numba's compiled kernels; writable only while warming up.
    drivers: modules the zygote loaded; calls name a function in one of them.
    """

    overlay: str | None
    package: str
    imports: tuple[str, ...]
    cache: str | None
    cache_writable: bool = False
    max_message_bytes: int = 256 << 20
    drivers: dict[str, ModuleType] = field(default_factory=dict)


class ForbiddenImport(ModuleNotFoundError):
    """An import that this homework does not allow."""


class ImportGuard(importlib.abc.MetaPathFinder):
    """Refuses, by name, imports outside the standard library, the package and the allowed list."""

    def __init__(self, package: str, imports: Sequence[str]) -> None:
        self.allowed = set(sys.stdlib_module_names) | {package, *imports}
        self.message = (
            "{name} can't be imported: this homework allows "
            + ", ".join([*imports, package])
            + " and the standard library"
        )

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] not in self.allowed:
            raise ForbiddenImport(self.message.format(name=name), name=name)


def serve(channel: socket.socket, crash_fd: int, setup: WorkerSetup) -> None:
    """Answer calls on `channel` until it closes."""
    faulthandler.enable(file=crash_fd, all_threads=False)
    faulthandler.register(STACK_SIGNAL, file=crash_fd, all_threads=False, chain=False)
    prepare_interpreter(setup)
    objects: dict[str, Any] = {}
    while True:
        try:
            message = wire.receive(channel, setup.max_message_bytes)
        except wire.WireClosed:
            return
        head, value = answer(message, setup, objects)
        _flush_output()
        try:
            wire.send(channel, head, value)
        except wire.UnsupportedValue as error:
            described = describe_error(error, setup.overlay, frames=False)
            wire.send(channel, {**head, "status": "error"}, described)


def prepare_interpreter(setup: WorkerSetup) -> None:
    """Point imports at the overlay, byte code and numba's cache at the cache folder."""
    sys.modules.pop("__main__", None)
    sys.modules["__main__"] = ModuleType("__main__")
    sys.argv = ["worker"]
    if setup.overlay:
        sys.path.insert(0, setup.overlay)
    sys.dont_write_bytecode = not setup.cache_writable
    if setup.cache:
        sys.pycache_prefix = os.path.join(setup.cache, "pycache")
        numba_cache.use(os.path.join(setup.cache, "numba"), setup.cache_writable)
        os.environ["LLM_SYSTEMS_KERNEL_CACHE"] = os.path.join(setup.cache, "kernels")
    sys.meta_path.insert(0, ImportGuard(setup.package, setup.imports))


def answer(
    message: wire.Message, setup: WorkerSetup, objects: dict[str, Any]
) -> tuple[dict[str, Any], Any]:
    """Run one call; returns the reply's head and value."""
    head = {"id": message.head.get("id"), "status": "ok"}
    try:
        if message.head.get("forbid_blas"):
            blas_guard.engage()
        return head, _call(message, setup, objects)
    except BaseException as error:  # SystemExit and KeyboardInterrupt are the student's too
        return {**head, "status": "error"}, describe_error(error, setup.overlay)


def _call(message: wire.Message, setup: WorkerSetup, objects: dict[str, Any]) -> Any:
    operation, arguments = message.head["op"], message.value
    if operation == "compile":
        return compile_package(setup)
    if operation == "call":
        staff_object = objects[message.head["object"]]
        return getattr(staff_object, message.head["method"])(**arguments)
    if operation == "hold":
        objects["held"] = arguments
        return None
    if operation == "run_held":
        arguments = objects.pop("held")
    result = find_driver(message.head["driver"], setup.drivers)(**arguments)
    if operation == "open":
        objects[message.head["object"]] = result
        return None
    return result


def compile_package(setup: WorkerSetup) -> None:
    """Leave byte code of the overlay in the cache; a file that does not compile is passed over."""
    import py_compile

    for path in sorted(Path(setup.overlay or "").rglob("*.py")):
        py_compile.compile(str(path), quiet=2)


def find_driver(name: str, modules: dict[str, ModuleType]) -> Callable[..., Any]:
    """The driver `module:function` among the modules the staff provides."""
    module, _, function = name.partition(":")
    return getattr(modules[module], function)


def describe_error(
    error: BaseException, overlay: str | None, frames: bool = True
) -> dict[str, Any]:
    """An exception as plain data: type, names of its bases, message, frames in the overlay."""
    try:
        text = str(error)
    except BaseException:
        text = "(its __str__ raised)"
    found = student_frames(error, overlay) if frames and overlay else []
    for file, line, function in getattr(error, "source_frames", ()) if overlay else ():
        found.append([*_relative(file, overlay), line, function])  # of a kernel file
    if isinstance(error, SyntaxError) and overlay and error.filename:
        found.append(_relative(error.filename, overlay) + [error.lineno or 0, "<module>"])
    return {
        "type": _writable(type(error).__name__),
        "bases": [_writable(base.__name__) for base in type(error).__mro__][:16],
        "message": _writable(text[:MAX_MESSAGE]),
        "frames": [frame for frame in found if len(frame) == 3],
        "unsupported": isinstance(error, wire.UnsupportedValue),
    }


def _writable(text: str) -> str:
    """`text` with lone surrogates, which no encoding can write, replaced."""
    return text.encode("utf-8", "replace").decode("utf-8")


def student_frames(error: BaseException, overlay: str) -> list[list[Any]]:
    """[file, line, function] of each frame inside the overlay, outermost first."""
    frames = []
    for summary in traceback.walk_tb(error.__traceback__):
        frame, line = summary
        relative = _relative(frame.f_code.co_filename, overlay)
        if relative:
            frames.append([*relative, line, frame.f_code.co_name])
    if len(frames) > MAX_FRAMES:
        frames = frames[:5] + frames[-(MAX_FRAMES - 5) :]
    return frames


def _relative(filename: str, overlay: str) -> list[Any]:
    prefix = overlay.rstrip("/") + "/"
    return [filename[len(prefix) :]] if filename.startswith(prefix) else []


def _flush_output() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def attach_output(stdout_fd: int, stderr_fd: int) -> None:
    """Make descriptors 1 and 2, and sys.stdout and sys.stderr, the pipes the trusted side reads."""
    os.dup2(stdout_fd, 1)
    os.dup2(stderr_fd, 2)
    sys.stdout = io.TextIOWrapper(
        io.FileIO(1, "w", closefd=False), "utf-8", "replace", line_buffering=True
    )
    sys.stderr = io.TextIOWrapper(
        io.FileIO(2, "w", closefd=False), "utf-8", "replace", line_buffering=True
    )


def load_modules(paths: Sequence[str | Path]) -> dict[str, ModuleType]:
    """Load staff modules (drivers, peers) by path under the names `<name>=<path>` gives them."""
    import importlib.util

    loaded = {}
    for entry in paths:
        name, _, path = str(entry).partition("=")
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise ImportError(f"can't load {path}")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        loaded[name] = module
    return loaded
