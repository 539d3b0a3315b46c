"""Drivers of task 4.3: steps of DataParallel on one rank, a barrier between them."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np


def _arrays(named: Any) -> dict[str, Any]:
    from drivers_collectives import pack

    return {name: None if value is None else pack(value.detach().clone()) for name, value in named}


def _grads(module: Any) -> dict[str, Any]:
    return _arrays((name, p.grad) for name, p in module.named_parameters())


def _make(kind: str, seed: int, dtype: str, bucket_bytes: int, **more: Any) -> tuple[Any, Any, Any]:
    from distributed_training.communicator import connect
    from distributed_training.data_parallel import DataParallel
    from drivers_models import build_module

    ranks = connect()
    module = build_module(kind, seed, dtype)
    return ranks, module, DataParallel(module, ranks, bucket_bytes=bucket_bytes, **more)


def _backward(model: Any, batch: dict[str, Any]) -> None:
    import torch
    from drivers_models import loss_of

    inputs = torch.tensor(batch["x"]).to(next(model.module.parameters()).dtype)
    output = model(inputs, batch["use"]) if batch.get("use") else model(inputs)
    loss_of(output, torch.tensor(batch["y"])).backward()


def gradients(
    kind: str, seed: int, batches: list[dict[str, Any]], bucket_bytes: int,
    dtype: str = "float64", clear: str = "none",
) -> dict[str, Any]:  # fmt: skip
    """The state at the start, and the gradients after each batch that is not "accumulate".

    batch: {"x", "y", "use", "accumulate"}; a barrier after construction and after each batch. clear:
    what happens to .grad after a finish: "none" (to None), "zero" (in place), "keep".
    """
    ranks, module, model = _make(kind, seed, dtype, bucket_bytes)
    start = _arrays(module.state_dict().items())
    ranks.barrier()
    after = []
    for batch in batches:
        with model.no_sync() if batch.get("accumulate") else contextlib.nullcontext():
            _backward(model, batch)
        if not batch.get("accumulate"):
            model.finish()
            after.append(_grads(module))
            if clear != "keep":
                module.zero_grad(set_to_none=clear == "none")
        ranks.barrier()
    return {"start": start, "after": after}


def overlapped(
    seed: int, batches: list[dict[str, Any]], bucket_bytes: int, raising: bool
) -> dict[str, Any]:
    """A chain with a bucket for each layer, two micro-batches, the first in no_sync (left by an
    exception where `raising`). In the second, before a layer's gradient is put in its place, this
    rank waits until the buckets of all later layers have gone, at most 5 s in all; a note says
    that the gradient is there."""
    import time

    ranks, module, model = _make("chain", seed, "float64", bucket_bytes)
    layers = list(module.layers)
    before = sum(ranks.counters.calls_to.values())
    with contextlib.suppress(ZeroDivisionError), model.no_sync():
        _backward(model, batches[0])
        if raising:
            raise ZeroDivisionError
    limit = time.monotonic() + 5

    def stop(place: int) -> Any:
        def hook(gradient: Any) -> None:
            wanted = 2 * (ranks.size - 1) * (len(layers) - 1 - place)
            while sum(ranks.counters.calls_to.values()) - before < wanted:
                if time.monotonic() > limit:
                    break
                time.sleep(0.001)
            ranks.note(f"layer {place}")

        return hook

    for place, layer in enumerate(layers):
        layer.weight.register_hook(stop(place))
    ranks.barrier()
    _backward(model, batches[1])
    ranks.note("backward is over")
    model.finish()
    return _grads(module)


def in_the_background(
    seed: int, batches: list[dict[str, Any]], bucket_bytes: int
) -> dict[str, Any]:
    """A backward of the chain that nothing holds up; a note when it is over, before finish."""
    ranks, module, model = _make("chain", seed, "float64", bucket_bytes)
    ranks.barrier()
    _backward(model, batches[0])
    ranks.note("backward is over")
    model.finish()
    return _grads(module)


def second_backward(seed: int, batches: list[dict[str, Any]], bucket_bytes: int) -> dict[str, Any]:
    """The exception of a second backward before finish, "none" where it raises none; gradients."""
    _, module, model = _make("chain", seed, "float64", bucket_bytes)
    _backward(model, batches[0])
    model.finish()
    first = _grads(module)
    module.zero_grad()
    _backward(model, batches[0])
    try:
        _backward(model, batches[1])
        error = "none"
    except RuntimeError as raised:
        error = type(raised).__name__
    model.finish()
    return {"after": [first], "error": error}


def reduced_by(
    seed: int, batches: list[dict[str, Any]], bucket_bytes: int, factor: float
) -> dict[str, Any]:
    """With a reducer of the test's: rank 0's gradients times `factor`; the order of its calls."""
    from distributed_training.collectives import broadcast

    calls: list[list[int]] = []

    def reducer(ranks: Any, bucket: Any) -> None:
        calls.append([bucket.index, len(bucket.flat), len(bucket.parameters)])
        broadcast(ranks, bucket.flat)
        bucket.flat.mul_(factor)

    ranks, module, model = _make("wide", seed, "float64", bucket_bytes, reducer=reducer)
    after = []
    for batch in batches:
        _backward(model, batch)
        model.finish()
        after.append(_grads(module))
        module.zero_grad()
    return {"after": after, "calls": calls}


def misused(seed: int, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """What a second backward before finish, a reducer that raises, and a module with nothing to
    train end in."""
    from distributed_training.data_parallel import DataParallel

    found: dict[str, Any] = {}
    ranks, module, model = _make("chain", seed, "float64", 1)
    batch = {"x": x, "y": y}
    _backward(model, batch)
    try:
        _backward(model, batch)
        found["second backward"] = "none"
    except RuntimeError as error:
        found["second backward"] = type(error).__name__
    model.finish()

    def broken(ranks: Any, bucket: Any) -> None:
        raise KeyError("the reducer is broken")

    _, other, model = _make("chain", seed, "float64", 1, reducer=broken)
    try:
        _backward(model, batch)
        model.finish()
        found["broken reducer"] = "none"
    except KeyError as error:
        found["broken reducer"] = str(error)

    for parameter in module.parameters():
        parameter.requires_grad_(False)
    frozen = DataParallel(module, ranks)
    frozen.finish()
    found["buckets of a frozen module"] = len(frozen.buckets)
    return found


def trained(
    kind: str, seed: int, batches: list[dict[str, Any]], bucket_bytes: int, lr: float
) -> dict[str, Any]:
    """The state after a step of AdamW for each batch."""
    import torch

    _, module, model = _make(kind, seed, "float64", bucket_bytes)
    adamw = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=lr)
    for batch in batches:
        _backward(model, batch)
        model.finish()
        adamw.step()
        adamw.zero_grad()
    return _arrays(module.state_dict().items())
