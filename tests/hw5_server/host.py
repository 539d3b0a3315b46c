"""Servers for the tests, several in one process, with routes that hold, slow and break the engine.

Run in an overlay of homework 5: `python host.py FOLDER`; prints a line of JSON, name -> port, and ends
when its standard input does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import torch
import uvicorn

from serving.config import EngineConfig
from serving.encoder import SentenceEncoder
from serving.engine import Engine
from serving.experiment import find_data
from serving.lora_batch import LoRABank
from serving.model_runner import lora_widths
from serving.server.app import create_app
from serving.server.files import write_adapter, write_weights
from serving.server.lifecycle import DrainingServer, bind
from serving.server.service import Service, Settings
from serving.server.tiny import ByteTokenizer, tiny_model
from serving.versions import VersionedWeights

TOKEN = "the-token-of-the-tests"


class TestEngine(Engine):
    """An engine that can be held before a step, slowed, or made to fail."""

    __test__ = False

    def prepare(self) -> None:
        """Nothing is held at first."""
        self.gate, self.allowed = threading.Condition(), math.inf
        self.pause, self.broken = 0.0, False

    def allow(self, steps: float) -> None:
        """So many steps may be made from now on."""
        with self.gate:
            self.allowed = steps
            self.gate.notify()

    def step(self):
        """A step, when it may."""
        with self.gate:
            self.gate.wait_for(lambda: self.allowed > 0)
            self.allowed -= 1
        if self.pause:
            time.sleep(self.pause)
        if self.broken:
            raise ZeroDivisionError("secret detail")
        return super().step()


def make_service(folder: Path, encoder, *, sequences=64, queue=64, blocks=2048, admin=True):
    """A service of the tiny model with versions and adapters."""
    model = tiny_model()
    engine = TestEngine(
        VersionedWeights(model, "base"), EngineConfig(16, blocks, 512, sequences),
        bank=LoRABank(lora_widths(model), 2),
    )  # fmt: skip
    engine.prepare()
    settings = Settings(
        "tiny", queue, admin_token=TOKEN if admin else None, admin_folder=folder, max_body=200_000
    )
    return Service(engine, ByteTokenizer(), settings, encoder)


def add_test_routes(app, service: Service) -> None:
    """What no client could do otherwise."""
    engine = service.engine

    @app.post("/test/hold")
    async def hold() -> None:
        engine.allow(0)

    @app.post("/test/step")
    async def step() -> None:
        engine.allow(1)

    @app.post("/test/go")
    async def go() -> None:
        engine.allow(math.inf)

    @app.post("/test/pause")
    async def pause(seconds: float) -> None:
        engine.pause = seconds

    @app.post("/test/break")
    async def break_it() -> None:
        engine.broken = True

    @app.get("/test/state")
    async def state() -> dict:
        return {
            "open": len(service.loop.open),
            "commands": len(service.loop._inbox),
            "sequences": len(engine.sequences),
            "held": engine.config.num_blocks - engine.blocks.num_free,
            "versions": engine.weights.versions,
        }


def add_signal_route(app, server: DrainingServer) -> None:
    """The signal, for one server of several in the process."""

    @app.post("/test/sigterm")
    async def sigterm() -> None:
        server.handle_exit(signal.SIGTERM, None)


def write_files(folder: Path) -> None:
    """Versions and adapters for the admin routes."""
    for name, seed in (("second", 1), ("third", 2)):
        write_weights(folder / f"{name}.safetensors", tiny_model(seed))
    write_weights(folder / "same.safetensors", tiny_model())
    bad = tiny_model()
    with torch.no_grad():
        bad.norm.weight.fill_(3e38)  # finite, so it can be staged; its logits are not
    write_weights(folder / "bad.safetensors", bad)
    generator = torch.Generator().manual_seed(5)
    adapter = {
        layer: (torch.randn(4, wide, generator=generator), torch.randn(tall, 4, generator=generator))
        for layer, (wide, tall) in lora_widths(bad).items()
    }
    write_adapter(folder / "loud.safetensors", adapter, 0.5)
    whole = (folder / "second.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[: len(whole) // 2])


async def main(folder: Path) -> None:
    """Serve until the standard input ends."""
    write_files(folder)
    place = find_data("minilm-*")
    encoder = SentenceEncoder.from_folder(place) if place else None
    services = {
        "main": make_service(folder, encoder),
        "small": make_service(folder, None, sequences=2, queue=2, admin=False),
        "fragile": make_service(folder, None),
        "scarce": make_service(folder, None, sequences=8, blocks=12),
        "leaving": make_service(folder, None),
    }
    ports, running = {}, []
    for name, service in services.items():
        sock = bind("127.0.0.1", 0)
        # Small buffers, which accepted connections inherit: else the kernel swallows whole answers,
        # and no reader is slow.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        ports[name] = sock.getsockname()[1]
        app = create_app(service)
        add_test_routes(app, service)
        server = DrainingServer(uvicorn.Config(app, log_level="error"), service, 60.0, lambda: None)
        server.capture_signals = contextlib.nullcontext
        add_signal_route(app, server)
        running.append(asyncio.create_task(server.serve([sock])))
        while not server.started:
            await asyncio.sleep(0.01)
    print(json.dumps(ports), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    os._exit(0)  # whatever the servers are doing: nobody is left to look


if __name__ == "__main__":
    torch.set_num_threads(1)
    asyncio.run(main(Path(sys.argv[1])))
