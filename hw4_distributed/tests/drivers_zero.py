"""Drivers of task 4.4: steps of ZeRO on one rank, and what is held meanwhile."""

from __future__ import annotations

from typing import Any


def _pack(named: Any) -> dict[str, Any]:
    from drivers_collectives import pack

    return {name: pack(value.detach().clone()) for name, value in named}


def _make(
    kind: str, seed: int, stage: int, dtype: str, unit_bytes: int, options: dict[str, Any]
) -> tuple[Any, Any, Any, Any]:
    """(communicator, the plain module, what to call, the optimizer)."""
    from distributed_training.communicator import connect
    from distributed_training.zero import ZeroModule, ZeroOptimizer
    from drivers_models import build_module

    ranks = connect()
    module = build_module(kind, seed, dtype)
    options = {**options, "betas": tuple(options.get("betas", (0.9, 0.999)))}
    if stage == 3:
        model = ZeroModule(module, module.blocks, ranks)
        return ranks, module, model, ZeroOptimizer(model.units, ranks, 3, **options)
    optimizer = ZeroOptimizer(
        module.parameters(), ranks, stage, unit_bytes=unit_bytes, **options
    )
    return ranks, module, module, optimizer


def _backward(model: Any, module: Any, batch: dict[str, Any]) -> None:
    """One backward, unless this rank's batch says "nothing"."""
    import torch
    from drivers_models import loss_of

    if batch.get("use") == "nothing":
        return
    dtype = next(module.parameters()).dtype
    output = model(torch.tensor(batch["x"]).to(dtype), batch.get("use", ""))
    loss_of(output, torch.tensor(batch["y"])).backward()


def _state(module: Any, model: Any) -> dict[str, Any]:
    """All parameters of this rank, gathered for it in stage 3."""
    if model is module:
        return _pack(module.named_parameters())
    with model.gathered():
        return _pack(module.named_parameters())


def _held_states(optimizer: Any) -> list[int]:
    """[elements of shards, of AdamW's moments, the most of one type of gradient there is]."""
    moments = sum(
        value.numel() for state in optimizer.adamw.state.values() for value in state.values()
        if value.dim()
    )  # fmt: skip
    return [sum(unit.shard.numel() for unit in optimizer.units), moments]


def _add(optimizer: Any, number: float) -> None:
    import torch

    with torch.no_grad():
        for unit in optimizer.units:
            unit.shard += number


def train(
    kind: str, seed: int, stage: int, batches: list[dict[str, Any]], dtype: str = "float64",
    unit_bytes: int = 300, max_norm: float = 0.0, options: dict[str, Any] | None = None,
    added: float = 0.0,
) -> dict[str, Any]:  # fmt: skip
    """A step for each batch that is not "accumulate"; a barrier after each batch, and before the
    parameters are looked at. Gives the parameters, the norms before clipping, and sizes.

    added: to every element of this rank's shards, in the second batch: before its forward in stage
    3, before its `step` in the others.
    """
    ranks, module, model, optimizer = _make(kind, seed, stage, dtype, unit_bytes, options or {})
    norms = []
    ranks.barrier()
    for place, batch in enumerate(batches):
        if stage == 3 and place == 1:
            _add(optimizer, added)
        _backward(model, module, batch)
        if stage < 3 and place == 1:
            _add(optimizer, added)
        if batch.get("accumulate"):
            if stage < 3 or place % 4:  # in stage 3 the next forward finishes as well
                optimizer.finish_backward()
        else:
            if max_norm:
                norms.append(optimizer.clip_grad_norm(max_norm))
            optimizer.step()
        ranks.barrier()
    return {
        "norms": norms,
        "parameters": _state(module, model),
        "sizes": _held_states(optimizer),
        "shard types": sorted({str(unit.shard.dtype) for unit in optimizer.units}),
        "grads left": sum(p.grad is not None for p in module.parameters() if p.requires_grad),
    }


def held_in_backward(
    kind: str, seed: int, stage: int, batches: list[dict[str, Any]], unit_bytes: int
) -> dict[str, Any]:
    """Bytes of .grad that this rank holds whenever backward brings a gradient, and in the end; a note
    into the switch's record when the first parameter's comes, which is the last."""
    ranks, module, model, optimizer = _make(kind, seed, stage, "float64", unit_bytes, {})
    parameters = [p for p in module.parameters() if p.requires_grad]
    held: list[int] = []

    def look(*_: Any) -> None:
        held.append(sum(p.grad.numel() * 8 for p in parameters if p.grad is not None))

    for parameter in parameters:
        parameter.register_hook(look)
    parameters[0].register_hook(lambda _: ranks.note("the last gradient"))
    ranks.barrier()
    for batch in batches:
        _backward(model, module, batch)
        look()
        optimizer.step()
        look()
    return {"held": held, "parameters": _state(module, model)}


def held_by_blocks(kind: str, seed: int, batches: list[dict[str, Any]]) -> dict[str, Any]:
    """Bytes of parameters' memory on this rank, stage 3: where, and how much."""
    import torch

    ranks, module, model, optimizer = _make(kind, seed, 3, "float64", 0, {})
    held: list[list[Any]] = []

    def look(where: str) -> None:
        storages = {}
        for parameter in module.parameters():
            storage = parameter.untyped_storage()
            if parameter.requires_grad:
                storages[storage._cdata] = storage.nbytes()
        held.append([where, sum(storages.values())])

    def watch(place: int, block: Any) -> None:
        def inside(_: Any, inputs: Any, output: Any) -> None:
            look(f"forward {place}")
            if output.requires_grad:
                output.register_hook(lambda _: look(f"backward {place}"))

        block.first.register_forward_hook(inside)

    for place, block in enumerate(module.blocks):
        watch(place, block)
    look("start")
    for batch in batches:
        _backward(model, module, batch)
        optimizer.step()
        look("after step")
    with torch.no_grad():
        model(torch.tensor(batches[0]["x"]))
    look("after no_grad")
    return {"held": held, "parameters": _state(module, model)}


def one_large_step(
    width: int, blocks: int, seed: int, stage: int, x: Any, y: Any, options: dict[str, Any]
) -> list[Any]:
    """A step of a float32 stack of square matrices, each a unit; the first row of each afterwards."""
    import torch
    from distributed_training.communicator import connect
    from distributed_training.zero import ZeroModule, ZeroOptimizer
    from drivers_models import large_stack

    ranks, module = connect(), large_stack(width, blocks, seed)
    model: Any = ZeroModule(module, module, ranks) if stage == 3 else module
    given = model.units if stage == 3 else module.parameters()
    optimizer = ZeroOptimizer(given, ranks, stage, unit_bytes=1, **options)
    (model(torch.tensor(x)) - torch.tensor(y)).square().sum(1).mean().backward()
    optimizer.step()
    rows = []
    for block in module:
        units = [u for u in optimizer.units if stage == 3 and u.parameters[0] is block.weight]
        for unit in units:  # one at a time
            unit.gather()
        rows.append(block.weight[0].detach().clone().numpy())
        for unit in units:
            unit.free()
    return rows


def misused(seed: int, batch: dict[str, Any]) -> dict[str, str]:
    """What parameters of several types in one unit, an unknown stage, and a second backward of stage
    2 without finish_backward raise."""
    import torch
    from distributed_training.zero import ShardedUnit, ZeroOptimizer

    found = {}
    ranks, module, model, optimizer = _make("stack", seed, 2, "float64", 1, {})
    two = [torch.nn.Parameter(torch.ones(3, dtype=d)) for d in (torch.float32, torch.bfloat16)]

    def twice() -> None:
        _backward(model, module, batch)
        _backward(model, module, batch)

    calls = {
        "types": lambda: ShardedUnit(two, ranks),
        "stage": lambda: ZeroOptimizer(two, ranks, 4),
        "second backward": twice,
    }
    for name, call in calls.items():
        try:
            call()
            found[name] = "none"
        except (ValueError, RuntimeError) as error:
            found[name] = type(error).__name__
    return found
