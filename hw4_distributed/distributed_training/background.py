"""Work in another thread, in order: how communication runs beside the backward pass. Given."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from distributed_training.communicator import Work


class _Task(Work):
    def __init__(self, run: Callable[[], None]) -> None:
        self.run, self.ready = run, threading.Event()
        self.error: BaseException | None = None

    def wait(self) -> None:
        """Return when the work is done; raises what it raised."""
        self.ready.wait()
        if self.error is not None:
            raise self.error


class Background:
    """One thread that does what it is given, one thing after the other, in the order it was given.

    All ranks must submit the same collectives in the same order; the main thread must not use the
    same communicator meanwhile. After an error the rest is not done: it fails with the same error.
    """

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="communication", daemon=True)
        self._thread.start()

    def submit(self, run: Callable[[], None]) -> Work:
        """Queue `run`; returns at once. `wait()` of what is returned waits for it to be done."""
        task = _Task(run)
        self._tasks.put(task)
        return task

    def close(self) -> None:
        """End the thread when everything submitted is done."""
        self._tasks.put(None)
        self._thread.join()

    def _serve(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                if self._error is not None:
                    raise self._error
                task.run()
            except BaseException as error:
                self._error = task.error = error
            task.ready.set()
