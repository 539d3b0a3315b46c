"""Drivers of task 4.6: schedules as lists, and one stage's part of a run.

A stage is given its own weights; those of others are NaN. The first rank has the ids and the last
one the targets; on others they are −1, of the same shape.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def schedules(cases: list[dict[str, Any]]) -> list[Any]:
    """case: {"kind", "stages", "microbatches"} -> [["F0", …] by stage], or the exception's name."""
    from distributed_training.schedules import gpipe, one_forward_one_backward

    makers = {"gpipe": gpipe, "1f1b": one_forward_one_backward}
    found: list[Any] = []
    for case in cases:
        try:
            made = makers[case["kind"]](case["stages"], case["microbatches"])
        except ValueError as error:
            found.append(type(error).__name__)
        else:
            found.append([[str(action) for action in actions] for actions in made])
    return found


def own_schedule(kind: str, stages: int, microbatches: int) -> list[list[str]]:
    """One schedule, as `schedules`."""
    case = {"kind": kind, "stages": stages, "microbatches": microbatches}
    return schedules([case])[0]


def _stage(config: dict[str, Any], state: dict[str, np.ndarray], dtype: str,
           frozen: list[str]) -> tuple[Any, Any]:  # fmt: skip
    import torch

    from distributed_training.communicator import connect
    from distributed_training.model import Llama, ModelConfig
    from distributed_training.pipeline import Stage

    ranks = connect()
    model = Llama(ModelConfig(**config)).to(getattr(torch, dtype))
    model.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    return ranks, Stage(model, ranks.rank, ranks.size)


def _run(ranks: Any, stage: Any, actions: list[str], batch: dict[str, Any], config: dict[str, Any],
         dtype: str) -> list[float]:  # fmt: skip
    import torch
    from torch.nn import functional

    from distributed_training.actions import Action
    from distributed_training.pipeline import run_schedule

    def loss(logits: Any, targets: Any) -> Any:
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    kinds = {"F": "forward", "B": "backward"}
    inputs = [torch.tensor(part) for part in batch["ids"]]
    return run_schedule(
        stage,
        [Action(kinds[text[0]], int(text[1:])) for text in actions],
        ranks,
        inputs,
        [torch.tensor(part) for part in batch["targets"]],
        loss,
        lambda m: (*inputs[m].shape, config["hidden_size"]),
        getattr(torch, dtype),
    )


def run_stage(
    config: dict[str, Any], state: dict[str, np.ndarray], actions: list[str],
    batches: list[dict[str, Any]], dtype: str = "float64", frozen: list[str] | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """After each batch {"ids", "targets"} (lists by micro-batch): the losses, and the gradients,
    which add up over batches. A barrier after each."""
    from drivers_collectives import pack

    ranks, stage = _stage(config, state, dtype, frozen or [])
    found = []
    for batch in batches:
        losses = _run(ranks, stage, actions, batch, config, dtype)
        ranks.barrier()
        gradients = {name: None if p.grad is None else pack(p.grad.clone())
                     for name, p in stage.named_parameters()}  # fmt: skip
        found.append({"losses": [float(x) for x in losses], "gradients": gradients})
    return found


def errors_of_runs(
    config: dict[str, Any], state: dict[str, np.ndarray], cases: list[dict[str, Any]]
) -> list[str]:
    """The exception of a run of each case {"actions", "ids", "targets"}, "none" where it runs."""
    ranks, stage = _stage(config, state, "float64", [])
    found = []
    for case in cases:
        try:
            _run(ranks, stage, case["actions"], case, config, "float64")
        except ValueError:
            found.append("ValueError")
        else:
            found.append("none")
    return found


class _Saved:
    """A tensor that autograd keeps for the backward pass."""

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor


class _Watched:
    """What is alive of each micro-batch: saved tensors, inputs, outputs, messages."""

    def __init__(self, order: list[int]) -> None:
        self.order, self.current = iter(order), -1
        self.alive: list[tuple[int, Any]] = []
        self.gradients: list[Any] = []
        self.most = self.most_gradients = 0

    def add(self, thing: Any, microbatch: int | None = None) -> None:
        import weakref

        self.alive.append((self.current if microbatch is None else microbatch, weakref.ref(thing)))

    def held(self) -> set[int]:
        import gc

        gc.collect()
        self.alive = [(m, ref) for m, ref in self.alive if ref() is not None]
        self.gradients = [ref for ref in self.gradients if ref() is not None]
        self.most_gradients = max(self.most_gradients, len(self.gradients))
        return {m for m, _ in self.alive}

    def begin(self) -> None:
        """A forward begins: what others hold, and this one."""
        self.current = next(self.order)
        self.most = max(self.most, len(self.held() | {self.current}))


def _watched_ranks(ranks: Any, watched: _Watched) -> Any:
    """The communicator, with weak references to what is sent."""
    import weakref

    class Watching:
        def __getattr__(self, name: str) -> Any:
            return getattr(ranks, name)

        def isend(self, tensor: Any, to: int, tag: int = 0) -> Any:
            if tag % 2 == 0:
                watched.add(tensor, tag // 2)
            else:
                watched.gradients.append(weakref.ref(tensor))
            return ranks.isend(tensor, to, tag)

    return Watching()


def held(
    config: dict[str, Any], state: dict[str, np.ndarray], actions: list[str], batch: dict[str, Any]
) -> dict[str, int]:
    """The most micro-batches of which anything is alive when a forward begins, it included; how many
    at the end; the most gradients that were sent and are still alive then."""
    import gc

    import torch
    from torch import nn

    ranks, stage = _stage(config, state, "float64", [])
    gc.freeze()  # what was imported is not looked through again
    watched = _Watched([int(text[1:]) for text in actions if text[0] == "F"])

    class Watching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside = stage

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            watched.begin()
            y = self.inside(x)
            if ranks.rank > 0:
                watched.add(x)
            watched.add(y)
            return y

    def pack(tensor: torch.Tensor) -> _Saved:
        kept = _Saved(tensor)
        watched.add(kept)
        return kept

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
        _run(_watched_ranks(ranks, watched), Watching(), actions, batch, config, "float64")
    return {"end": len(watched.held()), "most": watched.most, "gradients": watched.most_gradients}
