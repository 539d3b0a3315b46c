"""The fixtures: homework 5's reference in an overlay, the servers of host.py, the stock client."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import openai
import pytest

from autograder.batch.bench_hw4 import no_loopback
from autograder.batch.mutants import reference_files
from autograder.course.assignment import load_assignment
from autograder.course.overlay import build_overlay

HOMEWORK = Path(__file__).parents[2] / "hw5_serving"
HOST = Path(__file__).with_name("host.py")
TOKEN = "the-token-of-the-tests"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
PATIENCE = 60  # seconds until something that does not come is called missing; nothing takes so long

pytestmark = pytest.mark.skipif(not (HOMEWORK / "solution").is_dir(), reason="a student's copy")


@dataclass
class Server:
    """One server of the host."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @cached_property
    def client(self) -> openai.OpenAI:
        """The stock client, which does not try again by itself."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE)

    @property
    def async_client(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE
        )

    def http(
        self, method: str, path: str, body: Any = None, token: str | None = None, raw: bytes | None = None
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, body (JSON where it is), headers of a plain request."""
        import urllib.error
        import urllib.request

        data = raw if raw is not None else json.dumps(body).encode() if body is not None else None
        headers = {"Content-Type": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            answer = urllib.request.urlopen(request, timeout=PATIENCE)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            text = answer.read().decode()
        kind = answer.headers.get("Content-Type", "")
        parsed = json.loads(text) if kind.startswith("application/json") and text else text
        return answer.status, parsed, {key.lower(): value for key, value in answer.headers.items()}

    def admin(self, method: str, path: str = "", body: Any = None) -> Any:
        """An admin request that must succeed."""
        status, parsed, _ = self.http(method, f"/admin{path}", body, TOKEN)
        assert status == 200, parsed
        return parsed

    def test(self, path: str) -> None:
        """One of the host's own routes."""
        assert self.http("POST", f"/test/{path}")[0] == 200

    def state(self) -> dict[str, Any]:
        return self.http("GET", "/test/state")[1]

    def metric(self, name: str) -> float:
        """The value of a metric without labels."""
        text = self.http("GET", "/metrics")[1]
        (line,) = [line for line in text.splitlines() if line.startswith(f"serving_{name} ")]
        return float(line.split()[1])

    def idle(self) -> None:
        """Wait until no request is in the server and nobody holds a block."""
        wait(lambda: not any(self.state()[name] for name in ("open", "sequences", "held")))


def wait(true: Callable[[], Any]) -> None:
    """Until it is true."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


def overlay(folder: Path) -> Path:
    """The homework as a student has it who has done everything."""
    assignment = load_assignment(HOMEWORK)
    build_overlay(assignment, reference_files(assignment), folder)
    for script in HOMEWORK.glob("*.py"):
        shutil.copy(script, folder)
    return folder


@cache
def built() -> Path:
    """The overlay, one for all test files: a fixture that is imported by name is one in each."""
    folder = Path(tempfile.mkdtemp(prefix="hw5_server."))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return overlay(folder / "overlay")


@cache
def started() -> dict[str, Server]:
    """The host's servers, for all test files; they end with the test run, as their input does."""
    homework = built()
    folder = homework.parent / "files"
    folder.mkdir()
    with open(homework.parent / "host.log", "w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, str(HOST), str(folder)], cwd=homework, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=log, text=True,
            env={**ENVIRONMENT, "PYTHONPATH": str(homework)},
        )  # fmt: skip
    line = process.stdout.readline()
    assert line, (homework.parent / "host.log").read_text(encoding="utf-8")[-3000:]
    return {name: Server(port) for name, port in json.loads(line).items()}


@pytest.fixture
def homework() -> Path:
    """The overlay; skips where there is no loopback."""
    if reason := no_loopback():
        pytest.skip(reason)
    return built()


@pytest.fixture
def servers(homework: Path) -> dict[str, Server]:
    """All servers of the host, by name."""
    return started()


@pytest.fixture
def main(servers: dict[str, Server]) -> Iterator[Server]:
    """A server with admin routes and much room; each test must leave it idle."""
    server = servers["main"]
    yield server
    server.test("go")
    server.test("pause?seconds=0")
    server.idle()
