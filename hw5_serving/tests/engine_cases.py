"""Trusted side of tasks 5.3 and 5.4: a small Llama in numpy, loads, chi-square."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import Any

import drivers_engine as drivers
import numpy as np
from scipy import stats

SIZES = {
    "vocab_size": 31, "hidden_size": 16, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2,
    "intermediate_size": 24, "max_positions": 512, "tied": False,
}  # fmt: skip
FALSE_ALARM = 5e-8
Weights = dict[str, np.ndarray]


def drawn_weights(rng: np.random.Generator, sizes: dict[str, Any]) -> Weights:
    """Weights whose attention matters: which token comes next depends on all the text."""
    width, inner = sizes["hidden_size"], sizes["intermediate_size"]
    narrow = width // sizes["num_heads"] * sizes["num_kv_heads"]
    shapes: dict[str, tuple[int, ...]] = {
        "embedding.weight": (sizes["vocab_size"], width), "norm.weight": (width,),
        "lm_head.weight": (sizes["vocab_size"], width),
    }  # fmt: skip
    for layer in range(sizes["num_layers"]):
        own = {
            "input_norm": (width,), "post_norm": (width,), "q_proj": (width, width),
            "k_proj": (narrow, width), "v_proj": (narrow, width), "o_proj": (width, width),
            "gate_proj": (inner, width), "up_proj": (inner, width), "down_proj": (width, inner),
        }  # fmt: skip
        shapes |= {f"layers.{layer}.{name}.weight": shape for name, shape in own.items()}
    found = {}
    for name, shape in shapes.items():
        if len(shape) == 1:
            found[name] = rng.uniform(0.5, 1.5, shape)
        else:
            gain = {"embedding": 1.0, "lm_head": 0.5}.get(name.split(".")[0], 1.5 / shape[1] ** 0.5)
            found[name] = gain * rng.standard_normal(shape)
    return found


def next_logits(sizes: dict[str, Any], weights: Weights, text: Sequence[int]) -> np.ndarray:
    """(time, vocab) logits of a whole text, in float64: no cache, no blocks."""
    heads, kv_heads = sizes["num_heads"], sizes["num_kv_heads"]
    wide = sizes["hidden_size"] // heads
    time = np.arange(len(text))
    turn = time[:, None] * 10_000.0 ** (-np.arange(wide // 2) / (wide // 2))
    cosine, sine = np.tile(np.cos(turn), 2)[:, None], np.tile(np.sin(turn), 2)[:, None]
    stream = weights["embedding.weight"][np.asarray(text)]

    def normed(rows: np.ndarray, name: str) -> np.ndarray:
        return rows / np.sqrt((rows**2).mean(-1, keepdims=True) + 1e-5) * weights[f"{name}.weight"]

    def turned(rows: np.ndarray) -> np.ndarray:
        swapped = np.concatenate([-rows[..., wide // 2 :], rows[..., : wide // 2]], -1)
        return rows * cosine + swapped * sine

    for layer in range(sizes["num_layers"]):
        own = f"layers.{layer}."
        matrix = {
            name: weights[f"{own}{name}_proj.weight"].T
            for name in ("q", "k", "v", "o", "gate", "up", "down")
        }
        rows = normed(stream, f"{own}input_norm")
        query = turned((rows @ matrix["q"]).reshape(len(text), heads, wide))
        key = turned((rows @ matrix["k"]).reshape(len(text), kv_heads, wide))
        value = (rows @ matrix["v"]).reshape(len(text), kv_heads, wide)
        key, value = (np.repeat(part, heads // kv_heads, 1) for part in (key, value))
        scores = np.einsum("qhd,khd->hqk", query, key) / wide**0.5
        scores[:, time[None, :] > time[:, None]] = -np.inf
        mixed = np.exp(scores - scores.max(-1, keepdims=True))
        mixed /= mixed.sum(-1, keepdims=True)
        stream = (
            stream + np.einsum("hqk,khd->qhd", mixed, value).reshape(len(text), -1) @ matrix["o"]
        )
        rows = normed(stream, f"{own}post_norm")
        gate = rows @ matrix["gate"]
        stream = stream + (gate / (1 + np.exp(-gate)) * (rows @ matrix["up"])) @ matrix["down"]
    return normed(stream, "norm") @ weights["lm_head.weight"].T


def greedy(
    sizes: dict[str, Any], weights: Weights, prompt: Sequence[int], count: int,
    stop_ids: Iterable[int] = (),
) -> list[int]:  # fmt: skip
    """A request answered alone: the whole text computed anew for each token."""
    text, stop = list(prompt), set(stop_ids)
    while len(text) < len(prompt) + count and not (len(text) > len(prompt) and text[-1] in stop):
        text.append(int(next_logits(sizes, weights, text)[-1].argmax()))
    return text[len(prompt) :]


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities along the last axis."""
    powers = np.exp((logits - logits.max(-1, keepdims=True)) / temperature)
    return powers / powers.sum(-1, keepdims=True)


def all_alone(
    sizes: dict[str, Any], weights: Weights, events: dict[int, dict]
) -> dict[int, list[int]]:
    """The greedy answers of requests of `drivers.served`, each by itself."""
    return {
        number: greedy(
            sizes, weights, event["prompt"], event["sampling"]["max_new_tokens"],
            event["sampling"].get("stop_ids", ()),
        )
        for number, event in events.items()
    }  # fmt: skip


def check_answers(got: dict[str, list[int]], wanted: dict[int, list[int]], about: str) -> None:
    """Each answer against the one that the request gets by itself."""
    assert sorted(map(int, got)) == sorted(wanted), (
        f"{about}: answers of requests {sorted(map(int, got))} came, expected of {sorted(wanted)}"
    )
    for number, alone in wanted.items():
        answer = got[str(number)]
        if answer != alone:
            pairs = enumerate(zip(answer, alone, strict=False))
            same = next((i for i, (a, b) in pairs if a != b), min(len(answer), len(alone)))
            raise AssertionError(
                f"{about}: request {number} has {len(answer)} tokens {answer}, alone it gets "
                f"{len(alone)}: {alone}; they part at token {same}\nhint: a token depends on its "
                "request's text and on nothing else: not on who runs beside it, how its prompt was "
                "cut, whether it was preempted, or what was guessed"
            )


def check_engine_plans(
    plans: list[list[list[int]]], preempted: list[list[int]], config: dict[str, Any]
) -> int:
    """Budget, places and continuity of an engine's plans; how many tokens they compute in all."""
    reached: dict[int, int] = {}
    for step, plan in enumerate(plans):
        for number in preempted[step]:
            reached.pop(number, None)
        total = sum(count for _, _, count in plan)
        assert 0 < total <= config["token_budget"], (
            f"step {step} computes {total} tokens, the budget is {config['token_budget']}"
        )
        assert len(plan) <= config["max_sequences"], (
            f"step {step} has {len(plan)} requests, at most {config['max_sequences']} run together"
        )
        for number, first, count in plan:
            assert first <= reached.get(number, first), (
                f"step {step}: request {number} goes on at {first}, it reached {reached[number]}"
            )
            reached[number] = first + count
    return sum(count for plan in plans for _, _, count in plan)


def static_steps(prompts: Sequence[int], answers: Sequence[int], together: int, budget: int) -> int:
    """Steps of static batching: `together` requests, until the longest of them is done."""
    total = 0
    for start in range(0, len(answers), together):
        group = slice(start, start + together)
        # The prompts' last step gives everybody's first token.
        total += -(-sum(prompts[group]) // budget) + max(answers[group]) - 1
    return total


def eighty_twenty(
    rng: np.random.Generator, count: int, together: int
) -> tuple[list[int], list[int]]:
    """Lengths of prompts, and of answers: 80% of them short, 20% long, in random order.

    Drawn again where even a place that is never empty would not give 2.75 times fewer steps.
    """
    while True:
        long = rng.permutation(count) < count // 5
        answers = np.where(long, rng.integers(60, 81, count), rng.integers(4, 13, count)).tolist()
        places = [0] * together
        for length in answers:
            heapq.heapreplace(places, places[0] + length)
        if static_steps([1] * count, answers, together, together) > 2.75 * max(places):
            return rng.integers(4, 13, count).tolist(), answers


def chi_square_limit(probability: np.ndarray) -> float:
    """What chi-square exceeds by chance once in 20 million times."""
    return float(stats.chi2.isf(FALSE_ALARM, int((probability > 0).sum()) - 1))


def check_frequencies(counts: np.ndarray, probability: np.ndarray, about: str, hint: str) -> None:
    """Pearson's chi-square of counts (cells,) against exact probabilities."""
    draws = int(counts.sum())
    kept = probability > 0
    assert not counts[~kept].any(), (
        f"{about}: what has probability 0 came {counts[~kept].sum()} times"
    )
    expected = probability * draws
    rare = expected < 10  # counted together
    pooled = np.append(probability[~rare], probability[rare].sum())
    together = np.append(counts[~rare], counts[rare].sum())[pooled > 0]
    pooled = pooled[pooled > 0]
    if len(pooled) < 2:
        return
    statistic = float(((together - draws * pooled) ** 2 / (draws * pooled)).sum())
    worst = int(np.abs(counts - expected).argmax())
    assert statistic <= chi_square_limit(pooled), (
        f"{about}: chi-square {statistic:.0f} over {draws} draws; right ones stay below "
        f"{chi_square_limit(pooled):.0f}. Cell {worst} came {counts[worst]} times, expected "
        f"{expected[worst]:.1f}\nhint: {hint}"
    )


def edited_copy(rng: np.random.Generator, length: int, edits: float) -> tuple[list[int], list[int]]:
    """A prompt that holds a random text, and an answer that is it with some tokens changed."""
    text = rng.integers(0, 40, length)
    answer = np.where(rng.random(length) < edits, rng.integers(0, 40, length), text)
    return [*text.tolist(), *rng.integers(0, 40, 5).tolist()], answer.tolist()


def judged_steps(student: Any, texts: list[tuple[list[int], list[int]]], guesses: int) -> list[int]:
    """Steps by (prompt, answer), where the worker guesses and knows only what was said so far."""
    said, steps = [0] * len(texts), [0] * len(texts)
    while left := [n for n, (_, answer) in enumerate(texts) if said[n] < len(answer)]:
        questions = [
            {"tokens": [*texts[n][0], *texts[n][1][: said[n]]], "count": guesses} for n in left
        ]
        found = student.run_cases(drivers.looked_up, questions, lambda case: f"look-up of {case}")
        for n, guess in zip(left, found, strict=True):
            coming = texts[n][1][said[n] :]
            right = 0
            while right < min(guesses, len(guess), len(coming)) and guess[right] == coming[right]:
                right += 1
            said[n] += right + 1
            steps[n] += 1
    return steps
