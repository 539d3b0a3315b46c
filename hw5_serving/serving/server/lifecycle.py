"""Running a server: a port, a warm-up, and an end that loses nobody's answer."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from serving.engine import Engine
from serving.sequence import SamplingParams
from serving.server.app import create_app
from serving.server.service import Service

log = logging.getLogger("serving")


def warm_up(engine: Engine) -> None:
    """A short request through the engine, so that an unfinished task shows before a client comes.

    Longer than a block, and its last block is not full. Raises NotImplementedError.
    """
    length = min(engine.config.block_size + 2, engine.sizes.max_positions - 4)
    engine.generate([[1] * length], SamplingParams(max_new_tokens=3))
    engine.history.clear()
    engine.blocks.clear_cache()


class DrainingServer(uvicorn.Server):
    """The first SIGTERM or Ctrl-C drains: what runs is finished, new requests get 503. The second ends it.

    It goes on listening while it drains: a load balancer must be able to see /health turn 503.
    """

    def __init__(
        self, config: uvicorn.Config, service: Service, drain_seconds: float,
        on_ready: Callable[[], None],
    ) -> None:  # fmt: skip
        super().__init__(config)
        self.on_ready = on_ready
        self.service = service
        self.drain_seconds = drain_seconds
        self._draining: asyncio.Task[None] | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, and remembers the event loop for the signal."""
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, and says when clients can come."""
        await super().startup(sockets)
        if self.started:
            self.on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The signal handler; on the main thread, between two byte codes."""
        if self.service.draining or not self.started:
            super().handle_exit(sig, frame)
            self.force_exit = True
            return
        self.service.draining = True
        self._loop.call_soon_threadsafe(self._begin_drain)

    def _begin_drain(self) -> None:
        self._draining = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        loop = self.service.loop
        if loop.open:
            log.warning("draining: %d requests are in the server", len(loop.open))
        end = self._loop.time() + self.drain_seconds
        while loop.open and loop.failure is None and self._loop.time() < end:
            await asyncio.sleep(0.02)
        if loop.open:
            log.warning("%d requests did not end within %g s", len(loop.open), self.drain_seconds)
        self.should_exit = True  # uvicorn then waits until the answers are sent


def bind(host: str, port: int) -> socket.socket:
    """A listening socket, so that a port that is taken shows before the model is loaded. OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def run(
    service: Service, sock: socket.socket, drain_seconds: float, on_ready: Callable[[], None]
) -> None:
    """Serve on a bound socket until a signal ends it; `on_ready` is called when clients can come."""
    config = uvicorn.Config(
        create_app(service), log_level="warning", access_log=False, backlog=2048,
        timeout_graceful_shutdown=max(1, round(drain_seconds)),
    )  # fmt: skip
    asyncio.run(DrainingServer(config, service, drain_seconds, on_ready).serve([sock]))
