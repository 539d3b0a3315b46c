"""A `Run` in a sharded checkpoint, and out of one that another number of ranks wrote. Given.

Each tensor is saved under the name that it has in the whole model, in pieces: a replica saves its
part of what all replicas hold, a ZeRO rank its shards, a pipeline stage its own layers. So a run of
`zero3` on four ranks can go on as `dp` on two, or as `pp`. Not so tensor parallelism: its slices go
by the number of ranks that they were cut for, and their names say it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from distributed_training.collectives import ring_all_gather
from distributed_training.communicator import Communicator
from distributed_training.data_parallel import DataParallel
from distributed_training.partition import chunk_bounds
from distributed_training.shards import Shard
from distributed_training.training import Run
from distributed_training.zero import ShardedUnit

MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Piece:
    """Elements from `start` on of a tensor of this name and shape; the run uses `values` itself."""

    name: str
    shape: tuple[int, ...]
    start: int
    values: Tensor
    owner: torch.nn.Parameter  # whose optimizer state goes with it
    offset: int  # of the values in the owner


def pieces(run: Run) -> Iterator[Piece]:
    """What of the model's parameters this rank holds."""
    zero = run.plan.mode.startswith("zero")
    wrapped = run.plan.mode == "zero3" or isinstance(run.model, DataParallel)
    module = run.model.module if wrapped else run.model
    prefix = f"tensor {run.place} of {run.inner}/" if run.plan.mode.endswith("tp") else ""
    names = {id(p): prefix + name for name, p in module.named_parameters()}
    if zero:
        for unit in run.optimizer.units:
            yield from _unit_pieces(unit, names)
        return
    for parameter in module.parameters():
        yield Piece(names[id(parameter)], tuple(parameter.shape), 0, parameter.data.view(-1),
                    parameter, 0)  # fmt: skip


def _unit_pieces(unit: ShardedUnit, names: Mapping[int, str]) -> Iterator[Piece]:
    """The part of each of a unit's parameters that lies in this rank's shard."""
    first = 0
    for parameter in unit.parameters:
        low, high = max(first, unit.start), min(first + parameter.numel(), unit.stop)
        if low < high:
            place = slice(low - unit.start, high - unit.start)
            yield Piece(names[id(parameter)], tuple(parameter.shape), low - first,
                        unit.shard.data[place], unit.shard, low - unit.start)  # fmt: skip
        first += parameter.numel()


def _adamw(run: Run) -> torch.optim.AdamW:
    """ZeRO's optimizer has it inside."""
    return getattr(run.optimizer, "adamw", run.optimizer)


def _with_moments(run: Run, piece: Piece) -> Iterator[tuple[str, Tensor]]:
    """The values of a piece, and AdamW's two means of them, by name."""
    yield piece.name, piece.values
    for moment in MOMENTS:
        whole = _adamw(run).state[piece.owner][moment].view(-1)
        yield f"{piece.name}.{moment}", whole[piece.offset : piece.offset + len(piece.values)]


def run_shards(run: Run) -> dict[str, Shard]:
    """This rank's part of a checkpoint; after at least one step."""
    found: dict[str, Shard] = {}
    for piece in pieces(run):
        low, high = 0, len(piece.values)
        if not run.plan.mode.startswith("zero"):  # all replicas hold the same
            low, high = chunk_bounds(high, run.replicas)[run.replica]
        for name, values in _with_moments(run, piece):
            found[name] = Shard(piece.shape, piece.start + low, values[low:high])
    for name, tensor in _reducer_state(run).items():
        found[name] = Shard(tuple(tensor.shape), 0, tensor.reshape(-1))
    return found


def restore(run: Run, step: int, shards: Mapping[str, Shard], ranks: Communicator) -> list[str]:
    """Fill a new run from `load_newest`'s shards of step `step`; every rank calls it at once.

    ranks: all ranks, for CPU tensors. Returns what could not be taken over, in words. Raises
    ValueError that names the parameter where the checkpoint is another model's.
    """
    mine = list(pieces(run))
    for piece in mine:
        _adamw(run).state[piece.owner] = {
            "step": torch.tensor(float(step)),
            **{name: torch.zeros_like(piece.owner.data) for name in MOMENTS},
        }
    wanted: dict[str, list[tuple[Piece, Tensor]]] = {}
    for piece in mine:
        if piece.name not in shards:
            raise ValueError(f"the checkpoint has no {piece.name}: it is of another --mode or size")
        if shards[piece.name].shape != piece.shape:
            raise ValueError(
                f"{piece.name} has shape {shards[piece.name].shape} in the checkpoint, "
                f"{piece.shape} in this model"
            )
        for name, values in _with_moments(run, piece):
            wanted.setdefault(name, []).append((piece, values))
    compression: dict[str, Tensor] = {}
    for name in sorted(shards):
        whole = ring_all_gather(ranks, shards[name].values, shards[name].count)
        for piece, values in wanted.get(name, ()):
            values.copy_(whole[piece.start : piece.start + len(values)])
        if name.startswith(_reducer_prefix(run)):
            compression[name] = whole.view(shards[name].shape)
    if run.plan.mode in ("zero1", "zero2"):
        for unit in run.optimizer.units:
            unit.gather()
    return _restore_reducer(run, compression)


def _reducer_prefix(run: Run) -> str:
    return f"{run.plan.compress} of rank {run.ranks.rank} of {run.ranks.size}/"


def _reducer_state(run: Run) -> dict[str, Tensor]:
    """What the compression carries from step to step: a rank's own, in the order of its buckets."""
    if run.plan.compress == "none":
        return {}
    found = {}
    for part, value in run.model.reducer.state_dict().items():
        entries = value if isinstance(value, dict) else {"": value}
        for key, entry in entries.items():
            if entry is not None:
                found[f"{_reducer_prefix(run)}{part}/{key!r}"] = torch.as_tensor(entry).cpu()
    return found


def _restore_reducer(run: Run, saved: Mapping[str, Tensor]) -> list[str]:
    if run.plan.compress == "none":
        return []
    if not saved:
        return [f"{run.plan.compress}: what was not sent yet is another world's, and is lost"]
    state: dict[str, Any] = {}
    for name, tensor in saved.items():
        part, _, text = name.removeprefix(_reducer_prefix(run)).partition("/")
        key = ast.literal_eval(text)
        value = int(tensor) if tensor.dim() == 0 else tensor.to(run.device)
        if key == "":
            state[part] = tensor
        else:
            state.setdefault(part, {})[key] = value
    run.model.reducer.load_state_dict(state)
    return []
