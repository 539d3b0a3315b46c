"""Put a server under load, the same load every time, and see what it does.

    python load.py run --url http://127.0.0.1:8000/v1     # a server that runs
    python load.py compare batching                       # static against continuous batching
    python load.py compare prefix                         # prefix caching off and on
    python load.py canary                                 # a bad canary and a good one
    python load.py swap                                   # other weights, ten times

All but `run` start serve.py themselves, one at a time (with --tiny: the tiny model). Each leaves a log
of JSON lines in --out, most of them a plot. The load is described in serving/traffic.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import httpx2
import openai
from tqdm import tqdm

from serving.experiment import JsonLines, run_script
from serving.load_report import draw_rollouts, draw_runs, save, table
from serving.traffic import Arrival, Mix, make_traffic

FOLDER = Path(__file__).resolve().parent
TOKEN_VARIABLE = "LOAD_ADMIN_TOKEN"
READY = re.compile(r"serving (\S+) at (http://\S+)/v1")

Record = dict[str, Any]


async def ask(
    client: openai.AsyncOpenAI, model: str, arrival: Arrival, started: float
) -> Record:
    """One streamed answer; times in seconds after `started`."""
    record: Record = {
        "at": arrival.at, "first": None, "last": None, "tokens": 0, "prompt_tokens": 0,
        "cached_tokens": 0, "prefix": arrival.prefix, "user": arrival.user, "status": 200,
        "version": None, "versions": [],
    }  # fmt: skip
    try:
        chunks = await client.completions.create(
            model=model, prompt=arrival.prompt, max_tokens=arrival.tokens, temperature=0,
            stream=True, stream_options={"include_usage": True}, user=arrival.user,
            extra_body={"ignore_eos": True},
        )  # fmt: skip
        async for chunk in chunks:
            now = time.perf_counter() - started
            if chunk.choices and record["first"] is None:
                record["first"] = now
            record["last"], record["version"] = now, chunk.system_fingerprint
            if chunk.system_fingerprint not in record["versions"]:
                record["versions"].append(chunk.system_fingerprint)
            if chunk.usage is not None:
                record["tokens"] = chunk.usage.completion_tokens
                record["prompt_tokens"] = chunk.usage.prompt_tokens
                record["cached_tokens"] = chunk.usage.prompt_tokens_details.cached_tokens
    except openai.APIStatusError as error:
        record["status"], record["last"] = error.status_code, time.perf_counter() - started
    except openai.APIError as error:  # in the middle of a stream, or no connection
        record["status"], record["last"] = 0, time.perf_counter() - started
        record["error"] = str(error)
    return record


class StaticBatches:
    """A gate that lets in a batch when the one before has ended: what continuous batching replaced."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._waiting: list[asyncio.Future[None]] = []
        self._inside = 0

    @contextlib.asynccontextmanager
    async def __call__(self) -> Any:
        """Wait for a place, be inside, leave."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._admit()
        await turn
        try:
            yield
        finally:
            self._inside -= 1
            self._admit()

    def _admit(self) -> None:
        if self._inside == 0:
            batch, self._waiting = self._waiting[: self.size], self._waiting[self.size :]
            self._inside = len(batch)
            for turn in batch:
                turn.set_result(None)


async def run_load(
    url: str, traffic: list[Arrival], log: JsonLines, name: str, gate: Callable[[], Any],
    meanwhile: Callable[[float], Awaitable[None]] | None = None,
) -> list[Record]:  # fmt: skip
    """Send the traffic on time, whatever the server does; the answers in the order of their ends."""
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    async with openai.AsyncOpenAI(
        base_url=url, api_key="none", max_retries=0, timeout=600,
        http_client=openai.DefaultAsyncHttpxClient(limits=limits),
    ) as client:  # fmt: skip
        model = (await client.models.list()).data[0].id
        started = time.perf_counter()
        records: list[Record] = []
        bar = tqdm(total=len(traffic), desc=name, unit="answer", disable=None)

        async def one(arrival: Arrival) -> None:
            await asyncio.sleep(max(0.0, arrival.at - (time.perf_counter() - started)))
            async with gate():
                record = await ask(client, model, arrival, started)
            records.append(record)
            log.write(run=name, **record)
            bar.update()

        beside = asyncio.create_task(meanwhile(started)) if meanwhile else None
        await asyncio.gather(*(one(arrival) for arrival in traffic))
        bar.close()
        if beside is not None:
            beside.cancel()
            try:
                await beside
            except asyncio.CancelledError:
                pass
    return records


@contextlib.contextmanager
def serving(*options: str) -> Iterator[str]:
    """serve.py with these options; gives its address. ClickException where it does not start."""
    command = [sys.executable, str(FOLDER / "serve.py"), "--port", "0", *options]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        found = READY.search(process.stdout.readline())
        if found is None:
            raise click.ClickException("serve.py did not start; what it says is above")
        yield found[2]
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def model_options(tiny: bool) -> list[str]:
    """What all servers of a comparison are started with."""
    return ["--tiny"] if tiny else []


def mix_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that describe the traffic, and where the results go."""
    plain = Mix()
    for name, text in (
        ("requests", "How many."), ("rate", "Requests a second, on average."),
        ("short", "Tokens of a short answer."), ("long", "Tokens of a long one."),
        ("long_share", "Share of the long ones."), ("prefixes", "Different beginnings of prompts."),
        ("prefix_words", "Words of such a beginning."), ("seed", "For the same traffic again."),
    ):  # fmt: skip
        option = click.option(f"--{name.replace('_', '-')}", name, default=getattr(plain, name),
                              show_default=True, help=text)  # fmt: skip
        command = option(command)
    out = click.option("--out", type=click.Path(file_okay=False, path_type=Path),
                       default=Path("runs/load"), show_default=True)  # fmt: skip
    return out(command)


def traffic_of(options: dict[str, Any]) -> list[Arrival]:
    """The traffic that the options describe; UsageError where they make no sense."""
    try:
        return make_traffic(Mix(**options))
    except (ValueError, TypeError) as error:
        raise click.UsageError(str(error)) from None


def finish(runs: dict[str, list[Record]], out: Path, name: str, title: str) -> None:
    """Print the table and draw the plot."""
    click.echo(table(runs))
    if all(any(record["status"] == 200 for record in records) for records in runs.values()):
        save(draw_runs(runs, title), out / f"{name}.svg")
        click.echo(f"{out / name}.svg, {out / name}.jsonl")


@click.group(help=(__doc__ or "").split("\n\n")[0])
def main() -> None:
    """The group of commands."""


@main.command()
@click.option("--url", default="http://127.0.0.1:8000/v1", show_default=True)
@click.option("--name", default="run", show_default=True, help="Of the log and the plot.")
@mix_options
def run(url: str, name: str, out: Path, **mix: Any) -> None:
    """Put a server that runs under load."""
    traffic, log = traffic_of(mix), JsonLines(out / f"{name}.jsonl")
    try:
        records = asyncio.run(run_load(url, traffic, log, name, no_gate))
    except openai.APIConnectionError:
        raise click.ClickException(f"nobody answers at {url}; start `make serve` first") from None
    finish({name: records}, out, name, f"{len(traffic)} requests")


@main.command()
@click.argument("what", type=click.Choice(["batching", "prefix"]))
@click.option("--tiny", is_flag=True, help="The tiny random model.")
@click.option("--batch", default=8, show_default=True, help="Requests side by side.")
@mix_options
def compare(what: str, tiny: bool, batch: int, out: Path, **mix: Any) -> None:
    """The same traffic on two servers, one after the other."""
    traffic, log = traffic_of(mix), JsonLines(out / f"{what}.jsonl")
    common = [*model_options(tiny), "--max-sequences", str(batch), "--queue-limit", "100000"]
    if what == "batching":
        cases = {"static": ([], StaticBatches(batch)), "continuous": ([], no_gate)}
    else:
        cases = {"no prefix cache": (["--no-prefix-caching"], no_gate), "prefix cache": ([], no_gate)}
    runs = {}
    for name, (options, gate) in cases.items():
        with serving(*common, *options) as address:
            runs[name] = asyncio.run(run_load(f"{address}/v1", traffic, log, name, gate))
    finish(runs, out, what, f"{len(traffic)} requests, {mix['rate']:g} a second, {batch} side by side")


@dataclass(frozen=True)
class Admin:
    """A server's admin routes."""

    address: str
    token: str

    async def post(self, path: str, **body: Any) -> dict[str, Any]:
        """ClickException with the server's words where it is refused."""
        return await asyncio.to_thread(self._ask, path, json.dumps(body).encode())

    async def status(self) -> dict[str, Any]:
        """What is served."""
        return await asyncio.to_thread(self._ask, "", None)

    def _ask(self, path: str, body: bytes | None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.address}/admin{path}", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=600) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise click.ClickException(f"/admin{path}: {error.read().decode()}") from None


@contextlib.contextmanager
def serving_beside(kind: str, tiny: bool, out: Path) -> Iterator[Admin]:
    """A server whose admin folder holds the file of another version, named `kind`."""
    folder = (out / "served").resolve()
    target = str(folder / f"{kind}.safetensors")
    make = [sys.executable, str(FOLDER / "make_version.py"), kind, target, *model_options(tiny)]
    subprocess.run(make, check=True)
    token = os.environ[TOKEN_VARIABLE] = secrets.token_hex(16)
    options = ["--admin-token-env", TOKEN_VARIABLE, "--admin-folder", str(folder)]
    with serving(*model_options(tiny), *options, "--queue-limit", "100000") as address:
        yield Admin(address, token)


@main.command()
@click.option("--tiny", is_flag=True, help="The tiny random model.")
@click.option("--steps", default="0.25,0.5", show_default=True, help="Rising shares of the users.")
@click.option("--per-step", default=20, show_default=True, help="Answers of the canary in a step.")
@mix_options
def canary(tiny: bool, steps: str, per_step: int, out: Path, **mix: Any) -> None:
    """Roll out a version that is broken, then one that is not, under load."""
    traffic, log = traffic_of(mix), JsonLines(out / "canary.jsonl")
    shares = [float(share) for share in steps.split(",")]
    runs = {}
    for kind in ("broken", "noisy"):
        states: list[dict[str, Any]] = []
        with serving_beside(kind, tiny, out) as admin:
            plan = {"version": kind, "steps": shares, "requests_per_step": per_step}
            watch = rollout_watch(admin, plan, states)
            url = f"{admin.address}/v1"
            records = asyncio.run(run_load(url, traffic, log, kind, no_gate, watch))
        for state in states:
            log.write(run=kind, **state)
        runs[f"{kind} canary"] = (records, states)
        failed = sum(record["status"] != 200 for record in records)
        click.echo(f"{kind}: {states[-1]['state']}, {failed} of {len(records)} answers failed")
    title = f"{len(traffic)} requests, shares {steps}"
    save(draw_rollouts(runs, title), out / "canary.svg")
    click.echo(f"{out / 'canary'}.svg, {out / 'canary'}.jsonl")


def rollout_watch(
    admin: Admin, plan: dict[str, Any], states: list[dict[str, Any]]
) -> Callable[[float], Awaitable[None]]:
    """What runs beside the load: stage, begin the rollout, then note its state ever and again."""

    async def watch(started: float) -> None:
        version = plan["version"]
        await admin.post("/weights", version=version, file=f"{version}.safetensors")
        await admin.post("/rollout", **plan)
        while True:
            rollout = (await admin.status())["rollout"]
            at = round(time.perf_counter() - started, 3)
            states.append({"at": at, "share": rollout["share"], "state": rollout["state"]})
            await asyncio.sleep(0.1)

    return watch


@main.command()
@click.option("--tiny", is_flag=True, help="The tiny random model.")
@click.option("--swaps", default=10, show_default=True, help="How often the weights change.")
@mix_options
def swap(tiny: bool, swaps: int, out: Path, **mix: Any) -> None:
    """Change the weights under load, there and back; nobody may notice but by the answers."""
    traffic, log = traffic_of(mix), JsonLines(out / "swap.jsonl")
    done = 0
    with serving_beside("noisy", tiny, out) as admin:

        async def watch(_started: float) -> None:
            nonlocal done
            await admin.post("/weights", version="noisy", file="noisy.safetensors")
            for number in range(swaps):
                await asyncio.sleep(traffic[-1].at / (swaps + 1))
                version = ("noisy", "base")[number % 2]
                await admin.post("/weights/activate", version=version)
                done += 1

        url = f"{admin.address}/v1"
        records = asyncio.run(run_load(url, traffic, log, "swap", no_gate, watch))
    failed = sum(record["status"] != 200 for record in records)
    mixed = sum(len(record["versions"]) > 1 for record in records)
    by_version = Counter(record["version"] for record in records if record["version"])
    click.echo(
        f"{done} swaps in {records[-1]['last']:.0f} s: {len(records)} answers, {failed} failed, "
        f"{mixed} of mixed versions; {dict(by_version)}"
    )


@contextlib.asynccontextmanager
async def no_gate() -> Any:
    """Everybody goes in at once: the server itself decides who waits."""
    yield


if __name__ == "__main__":
    run_script(main)
