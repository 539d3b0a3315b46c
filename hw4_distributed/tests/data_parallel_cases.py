"""Cases and oracles of task 4.3: one process on everybody's batch, in float64; buckets in loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from collectives_cases import ROUNDOFF, assert_within
from drivers_models import build_module, loss_of
from plain_adamw import PlainAdamW
from traffic import chunk_sizes

from autograder.testing import assert_close, assert_equal

HINT = "the mean over ranks of each rank's gradient: reduced once, divided once"


def draw_batches(
    rng: np.random.Generator, size: int, count: int, rows: int = 3, uses: list[list[str]] | None = None,
    accumulate: tuple[int, ...] = (),
) -> list[list[dict[str, Any]]]:  # fmt: skip
    """[rank][step]: rows of 8 inputs and 8 targets. uses: [step][rank] what each call uses."""
    return [
        [
            {"x": rng.standard_normal((rows, 8)), "y": rng.standard_normal((rows, 8)),
             "use": uses[step][rank] if uses else "", "accumulate": step in accumulate}
            for step in range(count)
        ]
        for rank in range(size)
    ]  # fmt: skip


def output_of(module: Any, batch: dict[str, Any]) -> Any:
    """The module on one batch."""
    inputs = torch.tensor(batch["x"]).to(next(module.parameters()).dtype)
    return module(inputs, batch["use"]) if batch["use"] else module(inputs)


def one_process(
    kind: str, seed: int, batches: list[list[dict[str, Any]]], dtype: str = "float64",
    keep: bool = False,
) -> list[dict[str, np.ndarray | None]]:  # fmt: skip
    """The gradients of the mean of all ranks' losses after each synchronised step, in float64.

    One graph over all ranks' rows: nothing is distributed here. None for frozen parameters; zeros
    for what nobody used, as DataParallel promises.
    """
    module = build_module(kind, seed, dtype).double()
    found = []
    for step in range(len(batches[0])):
        losses = [loss_of(output_of(module, mine[step]), torch.tensor(mine[step]["y"]))
                  for mine in batches]  # fmt: skip
        torch.stack(losses).mean().backward()
        if batches[0][step]["accumulate"]:
            continue
        found.append({
            name: None if not p.requires_grad
            else (torch.zeros_like(p) if p.grad is None else p.grad).numpy().copy()
            for name, p in module.named_parameters()
        })  # fmt: skip
        if not keep:
            module.zero_grad()
    return found


def trained_alone(
    kind: str, seed: int, batches: list[list[dict[str, Any]]], lr: float
) -> dict[str, np.ndarray]:
    """The state after a step of AdamW for each batch of all ranks, in one process."""
    module = build_module(kind, seed)
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    adamw = PlainAdamW({name: p.detach().numpy() for name, p in trained.items()}, lr)
    for step in range(len(batches[0])):
        losses = [loss_of(output_of(module, mine[step]), torch.tensor(mine[step]["y"]))
                  for mine in batches]  # fmt: skip
        module.zero_grad()
        torch.stack(losses).mean().backward()
        adamw.step({name: p.grad.numpy() for name, p in trained.items()})
    return {name: value.numpy() for name, value in module.state_dict().items()}


def expected_buckets(
    kind: str, bucket_bytes: int, dtype: str = "float64"
) -> list[tuple[int, int]]:
    """(elements, bytes of one) of each bucket: parameters from the last to the first, until full."""
    module = build_module(kind, 0, dtype)
    wanted = [p for p in module.parameters() if p.requires_grad]
    buckets: list[list[torch.nn.Parameter]] = []
    while wanted:
        parameter = wanted.pop()
        last = buckets[-1] if buckets else []
        full = sum(p.numel() * p.element_size() for p in last) >= bucket_bytes
        if not last or full or last[0].dtype != parameter.dtype:
            buckets.append([])
        buckets[-1].append(parameter)
    return [(sum(p.numel() for p in b), b[0].element_size()) for b in buckets]


def ring_message_sizes(count: int, width: int, size: int, rank: int) -> list[int]:
    """Bytes of each message of `rank` in a ring all-reduce, in order."""
    own = [width * n for n in chunk_sizes(count, size)]
    scatter = [own[(rank - 1 - step) % size] for step in range(size - 1)]
    return scatter + [own[(rank - step) % size] for step in range(size - 1)]


def check_messages(
    sends: list[list[Any]], buckets: list[tuple[int, int]], text: str, runs: int = 1
) -> None:
    """One ring all-reduce a bucket, in the buckets' order, on every rank, and nothing else."""
    size = len(sends)
    for rank, events in enumerate(sends):
        wanted = [n for count, width in buckets * runs
                  for n in ring_message_sizes(count, width, size, rank)]  # fmt: skip
        got = [event.size for event in events]
        assert len(got) == len(wanted), (
            f"{text}: rank {rank} sent {len(got)} messages, expected {len(wanted)}: an all-reduce of "
            f"2·(size − 1) messages for each of {len(buckets)} buckets"
        )
        assert_equal(
            got, wanted, name=f"{text}: bytes of each message of rank {rank}, in order",
            hint="buckets from the last parameter to the first, full at bucket_bytes or more, and "
            "launched in this order on every rank, whatever is ready first",
        )  # fmt: skip


def check_gradients(
    results: list[Any], wanted: list[dict[str, Any]], text: str, rtol: float = 1e-9
) -> None:
    """All ranks' gradients after each step: near the oracle's, and the same bits everywhere.

    rtol 1e-9 of the largest entry: in float64 a few hundred operations, each within 1.1e-16 of
    terms that are not much larger than the largest result, stay a thousand times below it.
    """
    for step, gradients in enumerate(wanted):
        for name, gradient in gradients.items():
            got = results[0]["after"][step][name]
            label = f"{text}, step {step}: {name}.grad"
            if gradient is None:
                assert got is None, f"{label}: a frozen parameter got a gradient"
                continue
            assert got is not None, f"{label} is None, expected a tensor (zeros where it is unused)"
            near = rtol * max(float(np.abs(gradient).max()), 1e-30)
            assert_close(got["value"], gradient, rtol=rtol, atol=near, name=label, hint=HINT)
            for rank, result in enumerate(results[1:], 1):
                other = result["after"][step][name]
                assert other is not None, f"{label} is None on rank {rank}"
                assert_equal(other["value"], got["value"], name=f"{label}, rank {rank} against 0")


def check_small_floats(
    results: list[Any], kind: str, seed: int, batches: list[list[dict[str, Any]]], dtype: str
) -> None:
    """One step in `dtype`: within the rounding of the ring's sums of the ranks' own gradients.

    n − 1 additions and a division, each within u of the running sum: n · u · Σ|gᵢ| / n; and 4 u of
    the largest entry for what another order inside a matrix product may do.
    """
    size = len(batches)
    own: list[dict[str, np.ndarray]] = []
    for mine in batches:
        module = build_module(kind, seed, dtype)
        loss_of(output_of(module, mine[0]), torch.tensor(mine[0]["y"])).backward()
        own.append({n: p.grad.double().numpy() for n, p in module.named_parameters()})
    for name in own[0]:
        each = np.stack([gradients[name] for gradients in own])
        bound = 1.02 * ROUNDOFF[dtype] * np.abs(each).sum(0)
        bound = bound + 4 * ROUNDOFF[dtype] * np.abs(each).max()
        for rank, result in enumerate(results):
            got = result["after"][0][name]
            assert got is not None and got["dtype"] == dtype, f"{name}.grad is no {dtype}"
            assert_within(got["value"], each.sum(0) / size, bound, f"{name}.grad on rank {rank}")
            assert_equal(got["value"], results[0]["after"][0][name]["value"],
                         name=f"{name}.grad, rank {rank} against 0")  # fmt: skip


def start_bytes(kind: str) -> int:
    """Bytes of all parameters (tied ones once) and buffers."""
    module = build_module(kind, 0)
    return sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))
