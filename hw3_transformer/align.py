"""Align a model: DPO on pairs made from graded ratings, or GRPO on a task that can be checked.

    python align.py dpo                  # SmolLM2-135M with your LoRA, on texts rated by people
    python align.py dpo --tiny           # a small generated model on generated texts, in seconds
    python align.py dpo --resume         # go on after Ctrl-C, a crash or a kill: the same numbers
    python align.py grpo                 # a model that learns to count from rewards alone

`make fetch` brings the weights and the ratings; without the ratings, texts are generated. OUT
(runs/dpo, runs/grpo) gets state.pt, log.jsonl (a line a step), and plots.
"""

from __future__ import annotations

import csv
import html
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from language_model.batches import Responses
from language_model.config import ModelConfig
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
from language_model.model import Llama
from language_model.modes import in_eval_mode
from language_model.preference import (
    as_reference,
    dpo_step,
    pairs_from_ratings,
    sequence_log_probs,
)
from language_model.reinforcement import GRPOSettings, grpo_step
from language_model.rollouts import roll_out
from language_model.tokenizer import Tokenizer

# What was rated, and what a model is asked for. Ratings go from −4 to 4, means of 20 people each.
SOURCES = {
    "movieReviewSnippets_GroundTruth.txt": "A sentence from a film review:",
    "amazonReviewSnippets_GroundTruth.txt": "A sentence from a customer's review:",
    "tweets_GroundTruth.txt": "A tweet:",
}
DIGITS = 8  # of the task of `grpo`


@dataclass(frozen=True)
class Pair:
    """Tokens of a prompt, and of the two answers to it."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]


class Bytes:
    """A stand-in for a tokenizer, for the generated model."""

    def encode(self, text: str) -> list[int]:
        """The bytes of UTF-8."""
        return list(text.encode())


def rated_texts() -> dict[str, list[tuple[float, str]]]:
    """By prompt, texts with people's mean ratings; empty before `make fetch`."""
    found: dict[str, list[tuple[float, str]]] = {}
    for name, prompt in SOURCES.items():
        for path in find_data(name):
            with open(path, encoding="utf-8", errors="replace", newline="") as file:
                rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
                found[prompt] = [(float(r[1]), html.unescape(r[2]).strip()) for r in rows if r[2:]]
    return found


def generated_texts(rng: np.random.Generator, count: int) -> dict[str, list[tuple[float, str]]]:
    """A stand-in without any download: what is said twice decides the rating."""
    opinions = {"dull": -2, "awful": -3, "weak": -1, "fine": 1, "lovely": 2, "superb": 3}
    subjects = ["the film", "the book", "her song", "this play", "his talk"]
    texts = []
    for _ in range(count):
        first, second = rng.choice(list(opinions), 2)
        rating = (opinions[first] + opinions[second]) / 2
        texts.append((rating, f"{rng.choice(subjects)} is {first} and {second}."))
    return {"review:": texts}


def make_pairs(
    texts: dict[str, list[tuple[float, str]]], tokenizer: Any, count: int, options: dict[str, Any],
    rng: np.random.Generator,
) -> tuple[list[Pair], list[Pair]]:  # fmt: skip
    """`count` pairs to train on and `options["held_out"]` others, of disjoint sets of texts.

    Four answers to one prompt at a time are compared with each other: no text is in many pairs.
    """
    made: dict[bool, list[Pair]] = {True: [], False: []}
    for prompt, rated in texts.items():
        order = rng.permutation(len(rated))
        asked = tokenizer.encode(prompt)
        for place in range(0, len(order) - 3, 4):
            answers = [rated[i] for i in order[place : place + 4]]
            ratings = torch.tensor([rating for rating, _ in answers])
            held = place // 4 % 5 == 0
            for better, worse in pairs_from_ratings(ratings, options["least_gap"]).tolist():
                sides = (
                    tokenizer.encode(" " + answers[i][1])[: options["tokens"]]
                    for i in (better, worse)
                )
                made[held].append(Pair(asked, *sides))
    wanted = {True: options["held_out"], False: count}
    for held, pairs in made.items():
        if len(pairs) < wanted[held]:
            raise click.UsageError(f"{wanted[held]} pairs asked, {len(pairs)} there")
        rng.shuffle(pairs)  # type: ignore[arg-type]
    return made[False][:count], made[True][: options["held_out"]]


def as_responses(pairs: Sequence[Pair]) -> tuple[Responses, Responses]:
    """The chosen answers and the rejected ones, each with its prompt."""
    prompts = [pair.prompt for pair in pairs]
    chosen = Responses.of(prompts, [pair.chosen for pair in pairs])
    return chosen, Responses.of(prompts, [pair.rejected for pair in pairs])


@torch.no_grad()
def held_out_log_probs(model: Llama, pairs: Sequence[Pair], rows: int) -> Tensor:
    """(2, pairs): log p of the chosen and of the rejected answers, `rows` pairs at a time."""
    with in_eval_mode(model):
        parts = [
            torch.stack([sequence_log_probs(model, side) for side in as_responses(some)])
            for some in (pairs[first : first + rows] for first in range(0, len(pairs), rows))
        ]
    return torch.cat(parts, dim=1)


def in_order(gap: Tensor) -> float:
    """The share of pairs whose gap is above 0; a tie is half."""
    return float((gap > 0).float().mean() + 0.5 * (gap == 0).float().mean())


def described(options: dict[str, Any]) -> dict[str, str]:
    """The options that a resumed run must share with the one it goes on with."""
    free = ("out", "resume", "save_every", "steps")
    return {name: str(value) for name, value in options.items() if name not in free}


def save_state(path: Path, state: dict[str, Any]) -> None:
    """All or nothing: a kill in the middle leaves the state before."""
    temporary = path.with_name(f".{path.name}.tmp")
    torch.save(state | {"torch": torch.get_rng_state()}, temporary)
    os.replace(temporary, path)


def load_state(path: Path, how: dict[str, Any]) -> dict[str, Any]:
    """A saved run with the same options; raises a UsageError that says what differs."""
    if not path.exists():
        raise click.UsageError(f"there is nothing to resume: {path} does not exist")
    state: dict[str, Any] = torch.load(path, weights_only=True)
    held = state["how"]
    other = [f"{name} was {held.get(name)}" for name, v in how.items() if held.get(name) != v]
    if other:
        raise click.UsageError(f"not the run that {path} was saved by: {', '.join(other)}")
    torch.set_rng_state(state["torch"])
    return state


def batch_of(pairs: Sequence[Pair], step: int, rows: int, seed: int) -> list[Pair]:
    """A step's pairs: each once an epoch, in an order that only seed and epoch decide."""
    places = range((step - 1) * rows, step * rows)
    orders: dict[int, np.ndarray] = {}
    for epoch in {place // len(pairs) for place in places}:
        orders[epoch] = np.random.default_rng([seed, epoch]).permutation(len(pairs))
    return [pairs[orders[place // len(pairs)][place % len(pairs)]] for place in places]


def dpo_model(options: dict[str, Any]) -> tuple[Llama, Any]:
    """The base with a new adapter, and its tokenizer."""
    if options["tiny"]:
        config = ModelConfig(256, 64, 2, 4, 2, 128, max_positions=512)
        model, tokenizer = Llama(config).initialize(options["seed"], 0.1), Bytes()
    else:
        path = options["model"] or next(iter(find_data("SmolLM2-135M-Instruct*.gguf")), None)
        if path is None:
            raise click.ClickException("no weights: run `make fetch`, or try --tiny")
        model, tokenizer = load_gguf(path), Tokenizer.from_gguf(path)
    targets = options["targets"].split(",")
    attach_lora(model, options["rank"], options["alpha"], targets, options["dropout"],
                options["seed"])  # fmt: skip
    return model, tokenizer


def train_dpo(
    model: Llama, pairs: Sequence[Pair], options: dict[str, Any], how: dict[str, Any]
) -> None:
    """Adam on the adapters; logs each step, saves every `save_every` steps and at the end."""
    out, steps = options["out"], options["steps"]
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=options["rate"], weight_decay=0.0)
    done = 0
    if options["resume"]:
        state = load_state(out / "state.pt", how)
        load_adapter_state(model, state["adapter"])
        optimizer.load_state_dict(state["optimizer"])
        done = state["step"]
    log = JsonLog(out / "log.jsonl", keep=done if options["resume"] else -1)
    model.train()
    with tqdm(initial=done, total=steps, unit="step") as bar:
        for step in range(done + 1, steps + 1):
            started = time.perf_counter()
            warm = min(1.0, step / options["warmup"])
            optimizer.param_groups[0]["lr"] = options["rate"] * warm
            some = as_responses(batch_of(pairs, step, options["rows"], options["seed"]))
            result = dpo_step(model, *some, options["beta"], options["label_smoothing"])
            optimizer.zero_grad()
            result.loss.backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            chosen, rejected = result.chosen.mean().item(), result.rejected.mean().item()
            log.write(step=step, loss=result.loss.item(), chosen=chosen, rejected=rejected,
                      seconds=round(time.perf_counter() - started, 3))  # fmt: skip
            bar.set_postfix(
                loss=f"{result.loss.item():.3f}", reward_gap=f"{chosen - rejected:.3f}",
                refresh=False,
            )  # fmt: skip
            bar.update()
            if step % options["save_every"] == 0 or step == steps:
                save_state(out / "state.pt", {
                    "how": how, "step": step, "adapter": adapter_state(model),
                    "optimizer": optimizer.state_dict(),
                })  # fmt: skip
    model.eval()


@click.group(context_settings={"show_default": True}, help=(__doc__ or "").splitlines()[0])
def main() -> None:
    """Two ways to align."""


@main.command()
@click.option("--tiny", is_flag=True, help="A generated model and generated texts.")
@click.option("--model", type=click.Path(exists=True, path_type=Path), help="A GGUF file.")
@click.option("--rank", default=8)
@click.option("--alpha", default=16.0)
@click.option("--targets", default="query,value,output,down", help="Layers to adapt.")
@click.option("--dropout", default=0.0, help="On the adapters' input; never on the reference.")
@click.option("--beta", default=0.1)
@click.option("--label-smoothing", default=0.0)
@click.option("--least-gap", default=1.5, help="Between two ratings that make a pair.")
@click.option("--pairs", default=400, help="To train on.")
@click.option("--held-out", default=100, help="Pairs to judge by.")
@click.option("--tokens", default=24, help="Of each answer.")
@click.option("--steps", default=80)
@click.option("--rows", default=4, help="Pairs in a step.")
@click.option("--rate", default=5e-4)
@click.option("--warmup", default=8, help="Steps until the rate is reached.")
@click.option("--save-every", default=10)
@click.option("--seed", default=0)
@click.option("--resume", is_flag=True, help="Go on from OUT/state.pt.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/dpo"))
def dpo(**options: Any) -> None:
    """Direct preference optimisation of an adapter: the base without it is the reference."""
    out: Path = options["out"]
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options["seed"])
    if options["tiny"]:
        options |= {"tokens": 40, "rate": max(options["rate"], 3e-3)}
    how = described(options)
    rng = np.random.default_rng(options["seed"])
    model, tokenizer = dpo_model(options)
    texts = {} if options["tiny"] else rated_texts()
    if not texts and not options["tiny"]:
        say_generated("rated texts", "texts put together from parts")
    texts = texts or generated_texts(rng, 4000)
    pairs, held_out = make_pairs(texts, tokenizer, options["pairs"], options, rng)
    trainable, total = count_parameters(model)
    click.echo(f"{trainable:,} of {total:,} weights are trained, on {len(pairs)} pairs")
    with as_reference(model):
        reference = held_out_log_probs(model, held_out, 2 * options["rows"])
    train_dpo(model, pairs, options, how)
    gain = held_out_log_probs(model, held_out, 2 * options["rows"]) - reference
    lengths = torch.tensor([[len(p.chosen), len(p.rejected)] for p in held_out]).T
    base = (reference / lengths)[0] - (reference / lengths)[1]
    found = {
        "accuracy": in_order(gain[0] - gain[1]), "margin": float((gain[0] - gain[1]).mean()),
        "base": in_order(base),
    }  # fmt: skip
    steps = [record for record in read_log(out / "log.jsonl") if "loss" in record]
    if not steps:
        return
    JsonLog(out / "log.jsonl", keep=options["steps"]).write(step=options["steps"], **found)
    x = [record["step"] for record in steps]
    plot_curves(
        out / "rewards.svg", {n: (x, [r[n] for r in steps]) for n in ("chosen", "rejected")},
        title="Implicit rewards of the training pairs", ylabel="β · log(π / π_ref)",
    )  # fmt: skip
    plot_curves(out / "loss.svg", {"DPO": (x, [r["loss"] for r in steps])}, title="Loss",
                ylabel="nats", references={"log 2": float(np.log(2))})  # fmt: skip
    click.echo(
        f"held-out pairs in order: 50% before, where policy and reference are one, and "
        f"{found['accuracy']:.0%} after (reward gap "
        f"{options['beta'] * found['margin']:.2f}); by the base's own log p a token "
        f"{found['base']:.0%}\nlog {out / 'log.jsonl'}"
    )


def counting_reward(prompt: Sequence[int], response: Sequence[int]) -> float:
    """The share of places where the response counts on from the prompt's digit, modulo DIGITS."""
    right = [t == (prompt[1] + i + 1) % DIGITS for i, t in enumerate(response)]
    return sum(right) / len(right)


@main.command()
@click.option("--length", default=3, help="Tokens of a response.")
@click.option("--prompts", default=16, help="In a step.")
@click.option("--group", default=16, help="Responses to each prompt.")
@click.option("--epochs", default=1, help="Updates on each rollout.")
@click.option("--clip", default=0.2)
@click.option("--temperature", default=1.0)
@click.option("--rate", default=3e-3)
@click.option("--steps", default=150)
@click.option("--save-every", default=25)
@click.option("--seed", default=0)
@click.option("--resume", is_flag=True, help="Go on from OUT/state.pt.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/grpo"))
def grpo(**options: Any) -> None:
    """GRPO from scratch: after [9, d] the model is to count on from d; it is told a reward only."""
    out, seed, steps = options["out"], options["seed"], options["steps"]
    out.mkdir(parents=True, exist_ok=True)
    how = described(options)
    model = Llama(ModelConfig(DIGITS + 2, 32, 2, 4, 2, 96, max_positions=64)).initialize(seed, 0.05)
    optimizer = torch.optim.Adam(model.parameters(), lr=options["rate"], betas=(0.9, 0.99))
    generator = torch.Generator().manual_seed(seed)
    settings = GRPOSettings(
        options["group"], options["length"], options["temperature"], options["clip"],
        epochs=options["epochs"],
    )  # fmt: skip
    done = 0
    if options["resume"]:
        state = load_state(out / "state.pt", how)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        generator.set_state(state["generator"])
        done = state["step"]
    log = JsonLog(out / "log.jsonl", keep=done if options["resume"] else -1)
    with tqdm(initial=done, total=steps, unit="step") as bar:
        for step in range(done + 1, steps + 1):
            digits = np.random.default_rng([seed, step]).integers(0, DIGITS, options["prompts"])
            prompts = [[DIGITS + 1, int(digit)] for digit in digits]
            made = grpo_step(model, optimizer, prompts, counting_reward, settings, generator)
            groups = made.rewards.view(-1, options["group"])
            reward = made.rewards.mean().item()
            log.write(step=step, reward=reward, loss=made.losses[0],
                      spread=groups.std(1, unbiased=False).mean().item())  # fmt: skip
            bar.set_postfix(reward=f"{reward:.3f}", refresh=False)
            bar.update()
            if step % options["save_every"] == 0 or step == steps:
                save_state(out / "state.pt", {
                    "how": how, "step": step, "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(), "generator": generator.get_state(),
                })  # fmt: skip
    records = read_log(out / "log.jsonl")
    if not records:
        return
    x = [record["step"] for record in records]
    plot_curves(
        out / "reward.svg", {
            "mean reward": (x, [r["reward"] for r in records]),
            "deviation within a group": (x, [r["spread"] for r in records]),
        },
        title="Counting, learned from rewards", ylabel="reward",
        references={"chance": 1 / (DIGITS + 2)},
    )  # fmt: skip
    last = [record["reward"] for record in records[-10:]]
    shown = roll_out(model, [[DIGITS + 1, 5]], 1, options["length"], 1.0, generator=generator)
    counted = [(5 + i + 1) % DIGITS for i in range(options["length"])]
    click.echo(
        f"mean reward of the last {len(last)} steps: {sum(last) / len(last):.3f}"
        f"\nafter 5: {shown.tokens[0]}, expected {counted}\nlog {out / 'log.jsonl'}"
    )


if __name__ == "__main__":
    run_script(main)
