"""Cases and oracles of task 4.4: AdamW in one process, and the bytes of each stage in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from data_parallel_cases import draw_batches, expected_buckets, output_of
from drivers_models import build_module, large_stack, loss_of
from plain_adamw import PlainAdamW
from traffic import (
    all_gather_bytes,
    all_reduce_bytes,
    around,
    chunk_sizes,
    in_words,
    pieces,
    reduce_scatter_bytes,
    sent_bytes,
)

from autograder.testing import Hint, assert_close, assert_equal

Batches = list[list[dict[str, Any]]]  # [rank][step]

# The gradients of two float64 computations differ by some 1e-15. AdamW divides by a root that is at
# least eps: at most lr · 1e-15 / eps a step, 2e-9 at lr 0.02 and eps 1e-8; five steps are 1e-8.
RTOL, ATOL = 1e-7, 1e-8
# With a large eps a gradient n times as large is another step: with 1e-8 AdamW would hide the factor.
OPTIONS = {"lr": 0.04, "eps": 0.1, "weight_decay": 0.1}
HINT = Hint(
    values="each rank steps its own chunk with the mean of all ranks' gradients, and then everybody "
    "gathers all chunks; all steps too long or too short: a sum in the place of the mean",
)


def train_alone(
    kind: str, seed: int, batches: Batches, options: dict[str, Any], max_norm: float = 0.0,
    added: dict[str, np.ndarray] | None = None, before_forward: bool = False,
) -> tuple[dict[str, np.ndarray], list[float]]:  # fmt: skip
    """(parameters, norms before clipping) after one process has trained on everybody's rows.

    What nobody uses has a gradient of zero, as ZeroOptimizer promises; frozen weights stay. added:
    to the weights in the second step, before its forward or else after its backward.
    """
    module = build_module(kind, seed)
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    adamw = PlainAdamW({name: p.detach().numpy() for name, p in trained.items()}, **options)
    norms = []
    for step in range(len(batches[0])):
        if added and step == 1 and before_forward:
            _add(trained, added)
        losses = [
            loss_of(output_of(module, mine[step]), torch.tensor(mine[step]["y"]))
            for mine in batches if mine[step]["use"] != "nothing"
        ]  # fmt: skip
        (torch.stack(losses).sum() / len(batches)).backward()
        if batches[0][step]["accumulate"]:
            continue
        gradients = {
            name: (torch.zeros_like(p) if p.grad is None else p.grad).numpy().copy()
            for name, p in trained.items()
        }
        if max_norm:
            norm = float(np.sqrt(sum((g**2).sum() for g in gradients.values())))
            norms.append(norm)
            scale = min(1.0, max_norm / (norm + 1e-6))
            gradients = {name: scale * g for name, g in gradients.items()}
        if added and step == 1 and not before_forward:
            _add(trained, added)
        adamw.step(gradients)
        module.zero_grad()
    return {n: p.detach().numpy().copy() for n, p in module.named_parameters()}, norms


def _add(weights: dict[str, Any], added: dict[str, np.ndarray]) -> None:
    with torch.no_grad():
        for name, numbers in added.items():
            weights[name] += torch.tensor(numbers)


def by_owner(
    kind: str, stage: int, unit_bytes: int, numbers: list[float]
) -> dict[str, np.ndarray]:
    """For each element of each trained parameter the number of the rank whose shard holds it."""
    module = build_module(kind, 0)
    names = [name for name, p in module.named_parameters() if p.requires_grad]
    if stage == 3:  # no weights are shared in these kinds
        keys = [name.split(".")[1] if name.startswith("blocks.") else "outer" for name in names]
        groups = [[n for n, k in zip(names, keys, strict=True) if k == key] for key in set(keys)]
    else:
        groups = [[]]
        for name in reversed(names):
            if sum(module.get_parameter(n).nbytes for n in groups[-1]) >= unit_bytes:
                groups.append([])
            groups[-1].append(name)
    found = {}
    for group in groups:
        shapes = [module.get_parameter(name).shape for name in group]
        counts = [shape.numel() for shape in shapes]
        flat = np.repeat(numbers, chunk_sizes(sum(counts), len(numbers)))
        pieces = np.split(flat, np.cumsum(counts)[:-1])
        for name, shape, piece in zip(group, shapes, pieces, strict=True):
            found[name] = piece.reshape(shape)
    return found


def large_step_alone(
    width: int, blocks: int, seed: int, each: list[dict[str, Any]], options: dict[str, Any]
) -> list[np.ndarray]:
    """The first row of each matrix after a step on everybody's rows, in one process."""
    module = large_stack(width, blocks, seed).double()
    weights = dict(module.named_parameters())
    losses = [(module(torch.tensor(mine["x"]).double()) - torch.tensor(mine["y"])).square().sum(1)
              for mine in each]  # fmt: skip
    torch.cat(losses).mean().backward()
    rows = {name: p.detach()[:1].numpy().copy() for name, p in weights.items()}
    adamw = PlainAdamW(rows, **options)
    adamw.step({name: p.grad[:1].numpy() for name, p in weights.items()})
    return [row[0] for row in rows.values()]


def train_small_floats(
    kind: str, seed: int, batches: Batches, dtype: str, options: dict[str, Any]
) -> dict[str, np.ndarray]:
    """The same with weights rounded to `dtype` for each forward, and masters that are not."""
    module = build_module(kind, seed, dtype)
    masters = {n: p.detach().double().numpy().copy() for n, p in module.named_parameters()}
    adamw = PlainAdamW(masters, **options)
    for step in range(len(batches[0])):
        total = {name: np.zeros_like(value) for name, value in masters.items()}
        for mine in batches:
            module.zero_grad()
            loss_of(output_of(module, mine[step]), torch.tensor(mine[step]["y"])).backward()
            for name, weight in module.named_parameters():
                if weight.grad is not None:
                    total[name] += weight.grad.double().numpy() / len(batches)
        adamw.step(total)
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                parameter.copy_(torch.tensor(masters[name]))
    return masters


def check_parameters(
    results: list[Any], wanted: dict[str, np.ndarray], text: str, rtol: float = RTOL,
    atol: float = ATOL,
) -> None:  # fmt: skip
    """Every parameter near the oracle's, and the same bits on every rank."""
    for name, value in wanted.items():
        got = results[0]["parameters"][name]["value"]
        assert_close(got, value, rtol=rtol, atol=atol, name=f"{text}: {name}", hint=HINT)
        for rank, result in enumerate(results[1:], 1):
            assert_equal(result["parameters"][name]["value"], got,
                         name=f"{text}: {name}, rank {rank} against rank 0")  # fmt: skip


def check_small_floats(
    group: Any, kind: str, wanted: dict[str, np.ndarray], stage: int, size: int, steps: int
) -> None:
    """bfloat16 weights within two roundings of the masters, which are float32; the bytes of a step.

    2^-9 of a weight near 0.5 is 1e-3: a step of 1e-3 on the bfloat16 weight itself is lost or
    doubled by rounding. Ten are 1e-2; half a unit in the last place of |w| < 2 is 2^-8 = 3.9e-3,
    and another half where the masters lie on two sides of a tie.
    """
    text = f"bfloat16, stage {stage}, {in_words(size)}"
    for rank, result in enumerate(group.results):
        types = result["shard types"]
        assert types == ["torch.float32"], f"{text}: rank {rank}'s shards are {types}"
        for name, value in wanted.items():
            got = result["parameters"][name]
            assert got["dtype"] == "bfloat16", f"{text}: {name} became {got['dtype']}"
            near = 2.0**-8 * np.maximum(np.abs(value), 2.0**-4)
            off = float((np.abs(got["value"] - value) - near).max())
            assert off <= 0, (
                f"{text}: {name} on rank {rank} is off by {off + near.max():.2g} after {steps} steps: "
                "they add up in the float32 shard only; a shard that is read back from the bfloat16 "
                "weights loses each of them"
            )
    crossed = step_bytes(kind, stage, size, 300, width=2, master=4)
    for step in pieces(group, size, steps + 1)[1 : steps + 1]:
        assert_equal(sent_bytes(step), crossed, name=f"{text}: bytes from (row) to (column)",
                     hint="gradients in float32, parameters in their own type")  # fmt: skip


def moved(kind: str, seed: int, after: dict[str, np.ndarray]) -> float:
    """How far training has taken the parameter that moved most: an oracle that stands still proves
    nothing."""
    before = dict(build_module(kind, seed).named_parameters())
    return max(float(np.abs(after[n] - p.detach().numpy()).max()) for n, p in before.items())


def stage_three_units(kind: str) -> tuple[list[int], int]:
    """(elements of each block's unit, elements of the outer one)."""
    module = build_module(kind, 0)
    places: dict[int, set[str]] = {}
    sizes: dict[int, int] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        inside = name.startswith("blocks.")
        place = ".".join(name.split(".")[:2]) if inside else "outside"
        if parameter.requires_grad:
            places.setdefault(id(parameter), set()).add(place)
            sizes[id(parameter)] = parameter.numel()
    counts = dict.fromkeys((f"blocks.{i}" for i in range(len(module.blocks))), 0)
    outer = 0
    for key, where in places.items():
        if len(where) == 1 and "outside" not in where:
            counts[next(iter(where))] += sizes[key]
        else:
            outer += sizes[key]
    return list(counts.values()), outer


def units_of(kind: str, stage: int, unit_bytes: int, dtype: str = "float64") -> list[int]:
    """Elements of every unit."""
    if stage == 3:
        blocks, outer = stage_three_units(kind)
        return [*blocks, outer]
    return [count for count, _ in expected_buckets(kind, unit_bytes, dtype)]


def step_bytes(
    kind: str, stage: int, size: int, unit_bytes: int, width: int = 8, master: int = 8
) -> np.ndarray:
    """(ranks, ranks) bytes of a step: gradients scattered in the master's width, parameters gathered
    in their own; in stage 3 the blocks' parameters twice."""
    dtype = {8: "float64", 4: "float32", 2: "bfloat16"}[width]
    counts = units_of(kind, stage, unit_bytes, dtype)
    total = np.zeros((size, size), np.int64)
    for place, count in enumerate(counts):
        gathers = 2 if stage == 3 and place < len(counts) - 1 else 1
        total += around(reduce_scatter_bytes(count, size, master))
        total += gathers * around(all_gather_bytes(count, size, width))
    return total


def clip_bytes(size: int) -> np.ndarray:
    """One float64, all-reduced."""
    return around(all_reduce_bytes(1, size, 8))


def shard_elements(kind: str, stage: int, unit_bytes: int, size: int, rank: int) -> int:
    """Elements of all of a rank's shards."""
    return sum(chunk_sizes(n, size)[rank] for n in units_of(kind, stage, unit_bytes))


def random_uses(
    rng: np.random.Generator, size: int, steps: int, words: list[str]
) -> list[list[str]]:
    """[step][rank] what a call uses, so that every word occurs where there are ranks enough."""
    return [
        [words[int(k)] for k in rng.permutation(max(size, len(words)))[:size] % len(words)]
        for _ in range(steps)
    ]


def batches_with(
    rng: np.random.Generator, size: int, steps: int, use: Any, accumulate: tuple[int, ...] = ()
) -> Batches:
    """Batches of which each call uses the same, or what `use` [step][rank] says."""
    uses = [[use] * size] * steps if isinstance(use, str) else use
    return draw_batches(rng, size, steps, uses=uses, accumulate=accumulate)
