"""Serve a model to every client that speaks OpenAI's API.

    python serve.py                     # SmolLM2-135M-Instruct, which `make fetch` brought
    python serve.py --tiny              # a tiny random model: nonsense, but no download
    curl http://127.0.0.1:8000/v1/models

It runs your code: 5.1 to 5.3 for any answer; 5.5 for --quantise, 5.4 for --speculate, 5.11 and 5.12
for the admin routes. Ctrl-C lets what runs end; pressed again it ends at once.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

import click
import torch

from serving.config import EngineConfig
from serving.encoder import SentenceEncoder
from serving.engine import Engine
from serving.experiment import find_data, run_script, task_of
from serving.lora_batch import LoRABank
from serving.model import Llama
from serving.model_runner import lora_widths
from serving.server.lifecycle import bind, run, warm_up
from serving.server.loading import load_model, quantise_model
from serving.server.service import Service, Settings
from serving.speculative import LookupProposer
from serving.versions import VersionedWeights

MIN_TOKEN = 16


def make_engine(
    model: Llama, config: EngineConfig, versioned: bool, adapter_slots: int, speculate: bool
) -> Engine:
    """The engine; with one model for ever where versions are not asked for or not written yet."""
    weights: Any = model
    if versioned:
        try:
            weights = VersionedWeights(model, "base")
            weights.release(weights.acquire())
        except NotImplementedError as error:
            weights = model
            click.echo(f"weights can't be swapped: that needs {task_of(error)}", err=True)
    bank = LoRABank(lora_widths(model), adapter_slots) if adapter_slots else None
    return Engine(weights, config, bank=bank, proposer=LookupProposer() if speculate else None)


def admin_token(variable: str | None) -> str | None:
    """The token in an environment variable: on a command line everybody on the machine sees it."""
    if variable is None:
        return None
    token = os.environ.get(variable, "")
    if len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable():
        raise click.UsageError(
            f"--admin-token-env {variable}: the variable must hold at least {MIN_TOKEN} printable "
            f"ASCII characters, for example of: export {variable}=$(openssl rand -hex 16)"
        )
    return token


@click.command(help=(__doc__ or "").split("\n\n")[0])
@click.option("--model", "path", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="A GGUF file of a Llama; by default the SmolLM2 that `make fetch` brought.")
@click.option("--tiny", is_flag=True, help="A tiny random model instead, one token a byte.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, help="0: any free one.")
@click.option("--quantise", type=click.Choice(["int8", "int4"]), help="Packed weights (5.5).")
@click.option("--speculate", is_flag=True, help="Guess tokens by prompt look-up (5.4).")
@click.option("--block-size", default=16, show_default=True, help="Tokens of a cache block.")
@click.option("--blocks", default=1024, show_default=True, help="Blocks of the cache.")
@click.option("--token-budget", default=256, show_default=True, help="Tokens of a step, at most.")
@click.option("--max-sequences", default=32, show_default=True, help="Requests side by side.")
@click.option("--queue-limit", default=64, show_default=True,
              help="Requests that may wait beyond those; more get 429.")
@click.option("--no-prefix-caching", is_flag=True, help="Compute every prompt anew.")
@click.option("--adapter-slots", default=4, show_default=True, help="LoRA adapters at once (5.11).")
@click.option("--admin-token-env", metavar="NAME", help="The environment variable that holds the "
              "token of the admin routes. Without it there are none.")
@click.option("--admin-folder", type=click.Path(file_okay=False, path_type=Path),
              default=Path("runs/served"), show_default=True,
              help="Where the files of adapters and weights lie.")
@click.option("--drain-seconds", default=30.0, show_default=True,
              help="How long Ctrl-C or SIGTERM waits for answers that run.")
@click.option("--threads", type=int, help="Threads of torch; by default one a core.")
@click.option("--seed", default=0, show_default=True, help="Of the tiny model's weights.")
def main(
    path: Path | None, tiny: bool, host: str, port: int, quantise: str | None, speculate: bool,
    block_size: int, blocks: int, token_budget: int, max_sequences: int, queue_limit: int,
    no_prefix_caching: bool, adapter_slots: int, admin_token_env: str | None, admin_folder: Path,
    drain_seconds: float, threads: int | None, seed: int,
) -> None:  # fmt: skip
    """Load, warm up, serve."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    token = admin_token(admin_token_env)
    if threads:
        torch.set_num_threads(threads)
    try:
        sock = bind(host, port)
    except (OSError, OverflowError) as error:
        raise click.UsageError(f"{host}:{port} can't be listened on: {error}") from None
    name, model, tokenizer = load_model(path, tiny, seed)
    if quantise:
        quantise_model(model, int(quantise.removeprefix("int")))
    try:
        config = EngineConfig(block_size, blocks, token_budget, max_sequences, not no_prefix_caching)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    engine = make_engine(model, config, quantise is None, adapter_slots, speculate)
    warm_up(engine)
    folder = find_data("minilm-*")
    encoder = SentenceEncoder.from_folder(folder) if folder else None
    settings = Settings(name, queue_limit, admin_token=token, admin_folder=admin_folder)
    shown = f"[{host}]" if ":" in host else host
    ready = f"serving {name} at http://{shown}:{sock.getsockname()[1]}/v1"
    service = Service(engine, tokenizer, settings, encoder)
    run(service, sock, drain_seconds, lambda: click.echo(ready))


if __name__ == "__main__":
    run_script(main)
