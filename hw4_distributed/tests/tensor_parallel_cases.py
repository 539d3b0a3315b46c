"""Cases and oracles of task 4.5: shards, one process's numbers, bytes in closed form."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from llama_cases import U, assert_near
from traffic import (
    all_gather_bytes,
    all_reduce_bytes,
    around,
    chunk_sizes,
    in_words,
    messages,
    pieces,
    sent_bytes,
)

from autograder.testing import assert_equal

WIDTH = {"float64": 8, "float32": 4}
COLUMNS = ("query", "key", "value", "gate", "up")
OWN_PART = "a rank is given its own part of each weight, the rest is NaN: nan means another's part"
SUMMED = (
    "the numbers are finite, so it is no other rank's weight: of what is divided each rank has a part "
    "of the sum, and g adds the parts up once: after `output`, after `down`, after the embedding"
)
KINDS = ("attention_norm", "query", "key", "value", "output", "ffn_norm", "gate", "up", "down")


def bounds_of(count: int, size: int, rank: int) -> tuple[int, int]:
    """(start, stop) of a rank's part of `count` things."""
    stops = np.cumsum([0, *chunk_sizes(count, size)])
    return int(stops[rank]), int(stops[rank + 1])


def part_of(name: str, config: dict[str, Any], size: int, rank: int) -> tuple[slice, ...]:
    """Which part of a weight a rank has: all of a norm, rows or columns of the others."""
    kind = name.split(".")[-2]
    if kind in ("embedding", "head"):
        return (slice(*bounds_of(config["vocab_size"], size, rank)),)
    if "attention." in name:
        width = config["hidden_size"] // config["num_heads"]
        first, last = bounds_of(config["num_heads"], size, rank)
        part = slice(first * width, last * width)
    elif "ffn." in name:
        part = slice(*bounds_of(config["intermediate_size"], size, rank))
    else:
        return ()
    return (part,) if kind in COLUMNS else (slice(None), part)


def only_part(value: np.ndarray, part: tuple[slice, ...]) -> np.ndarray:
    """NaN outside of a part."""
    hidden = np.full_like(value, np.nan)
    hidden[part] = value[part]
    return hidden


def state_by_rank(
    config: dict[str, Any], state: dict[str, np.ndarray], size: int
) -> list[dict[str, Any]]:
    """Each rank's arguments: its own parts of the weights."""
    return [
        {"state": {n: only_part(v, part_of(n, config, size, rank)) for n, v in state.items()}}
        for rank in range(size)
    ]


def from_the_head(names: Iterable[str]) -> list[str]:
    """Parameters in the order in which backward comes to them."""

    def place(name: str) -> tuple[int, int]:
        parts = name.split(".")
        if parts[0] == "blocks":
            return int(parts[1]), KINDS.index(parts[-2])
        return (-1, 0) if parts[0] == "embedding" else (1_000_000, int(parts[0] == "head"))

    return sorted(names, key=place, reverse=True)


def _why(got: Any, otherwise: str) -> str:
    """NaN means another rank's part; for finite numbers there are other reasons."""
    return OWN_PART if np.isnan(np.asarray(got, np.float64)).any() else otherwise


def _why_gradient(name: str) -> str:
    return (
        f"{name} is the first that is wrong on the way from the head, so look at what reads its "
        "output: an input that goes into divided columns (head; query, key, value; gate, up) passes "
        "f once, whose backward sums the ranks' gradients; and g's backward sums nothing"
    )


def check_parts(
    got: list[dict[str, Any]], wanted: dict[str, np.ndarray | None], bounds: dict[str, Any],
    config: dict[str, Any], what: str, dtype: str,
) -> None:  # fmt: skip
    """By rank, tensors by name, against one process's: the right parts, near enough; what every rank
    has whole is the same on all to the bit, or the copies would drift apart."""
    size = len(got)
    for rank, mine in enumerate(got):
        assert sorted(mine) == sorted(wanted), (
            f"{what}: rank {rank} has parameters {sorted(mine)}, expected {sorted(wanted)}"
        )
        for name in from_the_head(wanted):
            whole = wanted[name]
            text = f"{what} of {name}, {in_words(size)}: rank {rank}'s part"
            if whole is None:
                assert mine[name] is None, f"{text}: there is one, of a weight that is not trained"
                continue
            assert mine[name] is not None, f"{text} is missing"
            assert mine[name]["dtype"] == dtype, f"{text} is {mine[name]['dtype']}, not {dtype}"
            part = part_of(name, config, size, rank)
            hint = _why_gradient(name) if "gradient" in what else "steps of the right gradients"
            value = mine[name]["value"]
            assert_near(value, whole[part], bounds[name], text, _why(value, hint))
            if not part:
                assert_equal(
                    mine[name]["value"], got[0][name]["value"], name=f"{text} against rank 0's",
                    hint="an all-reduce leaves the same bits everywhere; what follows must too",
                )  # fmt: skip


def check_steps(
    group: Any, config: dict[str, Any], wanted: dict[str, Any], size: int, dtype: str
) -> None:
    """Logits, loss, gradients of each step on each rank, and the weights at the end."""
    for place, step in enumerate(wanted["steps"]):
        mine = [result["steps"][place] for result in group.results]
        text = f"step {place}, {in_words(size)}, {dtype}"
        for rank, found in enumerate(mine):
            part = slice(*bounds_of(config["vocab_size"], size, rank))
            assert_near(found["logits"]["value"], step["logits"][..., part],
                        step["bounds"]["logits"], f"{text}: rank {rank}'s columns of the logits",
                        _why(found["logits"]["value"], SUMMED))  # fmt: skip
            assert_near(found["loss"]["value"], step["loss"], step["bounds"]["loss"],
                        f"{text}: rank {rank}'s loss", _why(found["loss"]["value"], SUMMED))  # fmt: skip
            assert found["loss"] == mine[0]["loss"], f"{text}: rank {rank}'s loss is not rank 0's"
        check_parts([found["gradients"] for found in mine], step["gradients"],
                    step["bounds"]["gradients"], config, f"{text}: the gradient", dtype)  # fmt: skip
    check_parts([result["state"] for result in group.results], wanted["state"],
                wanted["state_bounds"], config, "the weights at the end", dtype)  # fmt: skip


def reduce_traffic(count: int, size: int, width: int, times: int) -> tuple[np.ndarray, np.ndarray]:
    """(bytes, messages) between ranks of `times` all-reduces of `count` numbers."""
    sent = [times * size_ for size_ in all_reduce_bytes(count, size, width)]
    return around(sent), around([times * 2 * (size - 1)] * size)


def loss_traffic(rows: int, size: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """(bytes, messages) of the loss: an all-reduce of the maxima (each hands each its chunk, then a
    ring all-gather), and one of two sums a row. 3 numbers a row, each 2·(size − 1)/size times."""
    chunks = np.array(chunk_sizes(rows, size))
    handed = width * np.tile(chunks, (size, 1))
    np.fill_diagonal(handed, 0)
    sums, counted = reduce_traffic(2 * rows, size, width, 1)
    gathered = around(all_gather_bytes(rows, size, width))
    once = 1 - np.eye(size, dtype=np.int64)
    return handed + gathered + sums, counted + once + around([size - 1] * size)


def check_pieces(
    group: Any, size: int, wanted: list[tuple[str, tuple[np.ndarray, np.ndarray], str]]
) -> None:
    """What each piece between barriers sent: [(its name, (bytes, messages), a hint)]."""
    found = pieces(group, size, len(wanted))
    for sends, (name, (sent, counted), hint) in zip(found, wanted, strict=False):
        text = f"{name}, {in_words(size)}"
        assert_equal(
            messages(sends), counted, name=f"{text}: messages from (row) to (column)", hint=hint
        )
        assert_equal(
            sent_bytes(sends), sent, name=f"{text}: bytes from (row) to (column)", hint=hint
        )
    assert not any(found[len(wanted)]), "something was sent after the last piece"


def check_step_traffic(
    group: Any, config: dict[str, Any], shape: tuple[int, int], size: int, dtype: str, count: int,
    backwards: int | None = None,
) -> None:  # fmt: skip
    """The bytes of `count` steps: two all-reduces a block each way, one for the embedding forward
    and one for the head backward, and the loss. backwards: all-reduces of a backward pass."""
    width, rows = WIDTH[dtype], shape[0] * shape[1]
    numbers, times = rows * config["hidden_size"], 2 * config["num_layers"] + 1
    passes = (
        f"{2 * config['num_layers']} all-reduces of (batch, time, hidden) for the blocks, one for"
    )
    forward = reduce_traffic(numbers, size, width, times)
    backward = reduce_traffic(numbers, size, width, times if backwards is None else backwards)
    wanted = [
        ("forward", forward, f"{passes} the embedding"),
        ("loss", loss_traffic(rows, size, width), "three numbers a row, no logits"),
        ("backward", backward, f"{passes} the head; layers that read one input share one"),
    ]  # fmt: skip
    check_pieces(group, size, wanted * count)


def loss_oracle(case: dict[str, Any]) -> dict[str, Any]:
    """The whole's loss and gradient in float64, with bounds for `dtype`.

    A row's loss is log Σ exp(x − top) − (x_t − top): exp has a relative error of |x − top| + 2
    roundings, where |x − top| ≤ 104 (745 in float64) or it is 0; V terms are added, and divided by
    in the gradient: at most (V + 2 · 750 + 16) · u of what is not zero. x_t − top is rounded once.
    """
    x, targets = case["whole"], case["targets"]
    vocab = x.shape[1]
    top = x.max(1, keepdims=True)
    exps = np.exp(x - top)
    sums = exps.sum(1)
    chosen = np.take_along_axis(x - top, targets[:, None], 1)[:, 0]
    by_row = np.log(sums) - chosen
    gradient = exps / sums[:, None]
    probabilities = gradient.copy()
    gradient[np.arange(len(x)), targets] -= 1.0
    scale = case.get("scale", 1.0) / len(x)
    u = U[case["dtype"]]
    roundings = u * (vocab + 1516)
    loss_bound = roundings + 2 * u * np.abs(by_row).mean() * (4 + len(x))
    return {
        "loss": by_row.mean(), "loss_bound": loss_bound, "gradient": gradient * scale,
        "gradient_bound": abs(scale) * (roundings * probabilities + 8 * u),
    }  # fmt: skip


def check_losses(student: Any, driver: Any, cases: list[dict[str, Any]], size: int) -> float:
    """Loss and gradient on each rank of each case, and what crossed: numbers all-reduced a row."""
    each = []
    for rank in range(size):
        mine = []
        for case in cases:
            part = slice(*bounds_of(case["whole"].shape[1], size, rank))
            kept = {k: v for k, v in case.items() if k not in ("whole", "name")}
            mine.append({**kept, "logits": case["whole"][:, part],
                         "vocab_size": case["whole"].shape[1]})  # fmt: skip
        each.append({"cases": mine})
    group = student.group(size, driver, each=each)
    wanted = []
    for place, case in enumerate(cases):
        oracle = loss_oracle(case)
        rows, vocab = case["whole"].shape
        text = f"{case['name']}: {rows} rows, vocabulary {vocab}, {case['dtype']}"
        for rank, result in enumerate(group.results):
            got, part = result[place], slice(*bounds_of(vocab, size, rank))
            assert "error" not in got, f"{text}: rank {rank} of {size} raised {got['error']}"
            name = f"{text}, rank {rank} of {size}"
            assert_near(got["loss"]["value"], oracle["loss"], oracle["loss_bound"], f"{name}: loss",
                        "subtract the largest logit of all ranks before exp; add the target's "
                        "logit from the rank that has it")  # fmt: skip
            assert got["gradient"] is not None, f"{name}: the logits have no gradient"
            assert_near(got["gradient"]["value"], oracle["gradient"][:, part],
                        oracle["gradient_bound"][:, part], f"{name}: gradient of the logits",
                        "(softmax − one-hot) / rows of this rank's columns, times the loss's own "
                        "gradient")  # fmt: skip
            assert got["gradient"]["dtype"] == case["dtype"], f"{name}: {got['gradient']['dtype']}"
        width = WIDTH[case["dtype"]]
        wanted.append((f"{text}: forward", loss_traffic(rows, size, width),
                       "three numbers a row: the maxima, then one all-reduce of (2, rows)"))  # fmt: skip
        none = (np.zeros((size, size), np.int64),) * 2
        wanted.append((f"{text}: backward", none, "the gradient needs nothing from other ranks"))
    check_pieces(group, size, wanted)
    # An all-reduce sends each number 2 · (size − 1) times, all ranks together.
    bytes_a_row = sum(len(case["whole"]) * WIDTH[case["dtype"]] for case in cases)
    return float(group.sent.sum()) / bytes_a_row / max(1, 2 * (size - 1))


def loss_case(
    rng: np.random.Generator, name: str, rows: int, vocab: int, spread: float = 2.0,
    shift: float = 0.0, dtype: str = "float64", **more: Any,
) -> dict[str, Any]:  # fmt: skip
    """Logits normal around `shift`, rounded to float32; any targets."""
    whole = rng.standard_normal((rows, vocab)) * spread + shift
    whole = whole.astype(np.float32).astype(np.float64)
    return {"name": name, "whole": whole, "targets": rng.integers(0, vocab, rows), "dtype": dtype,
            **more}  # fmt: skip
