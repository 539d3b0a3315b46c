"""Drivers of task 4.5: f and g, the divided layers, the loss, a divided model, on one rank.

A rank is given its own parts of the weights; the rest of each weight is NaN, so that nothing can be
computed from it. A barrier after each piece lets the switch count what the piece sent.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def _leaf(values: np.ndarray, dtype: str = "float64", needs_grad: bool = True) -> Any:
    import torch

    return torch.tensor(values).to(getattr(torch, dtype)).requires_grad_(needs_grad)


def _pack(tensor: Any) -> Any:
    from drivers_collectives import pack

    return None if tensor is None else pack(tensor.detach())


def _transposed(tensor: Any) -> Any:
    """The same numbers, in memory with the first dimension innermost."""
    backwards = tuple(reversed(range(tensor.dim())))
    return tensor.permute(backwards).contiguous().permute(backwards)


def conjugates(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """f or g of x, and the gradient; a barrier after the forward and after the backward.

    case: "operator", "x", "upstream" (added up by a sum, so expanded from one number, where it has
    no shape), "transposed": x and upstream lie transposed in memory.
    """
    from distributed_training.communicator import connect
    from distributed_training.tensor_parallel import CopyToRanks, SumOverRanks

    ranks, found = connect(), []
    for case in cases:
        operator = CopyToRanks if case["operator"] == "f" else SumOverRanks
        x, upstream = _leaf(case["x"]), _leaf(case["upstream"], needs_grad=False)
        if case["transposed"]:
            x = _transposed(x.detach()).requires_grad_()
            upstream = _transposed(upstream)
        y = operator.apply(x, ranks)
        ranks.barrier()
        before = upstream.clone()
        if upstream.shape == y.shape:
            y.backward(upstream)
        else:
            (y.sum() * upstream).backward()
        ranks.barrier()
        found.append({"y": _pack(y), "gradient": _pack(x.grad), "x": _pack(x),
                      "intact": bool((before == upstream).all())})  # fmt: skip
    return found


def layers(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Column, row, or column after column then row ("mlp"), forward and backward.

    case: "kind", "weights" (one or three, NaN outside of this rank's part), "bounds", "x",
    "upstream". An mlp is row(column(x) · column(x)) whose input is copied to the ranks once.
    """
    from distributed_training.communicator import connect
    from distributed_training.tensor_parallel import (
        ColumnParallelLinear,
        CopyToRanks,
        RowParallelLinear,
    )

    ranks, found = connect(), []
    for case in cases:
        weights, bounds = [_leaf(w) for w in case["weights"]], tuple(case["bounds"])
        x = _leaf(case["x"])
        if case["kind"] == "mlp":
            parts = [ColumnParallelLinear(w, ranks, bounds, True) for w in weights[:2]]
            parts.append(RowParallelLinear(weights[2], ranks, bounds))
            copied = CopyToRanks.apply(x, ranks)
            y = parts[2](parts[0](copied) * parts[1](copied))
        else:
            kind = ColumnParallelLinear if case["kind"] == "column" else RowParallelLinear
            parts = [kind(weights[0], ranks, bounds)]
            y = parts[0](x)
        ranks.barrier()
        y.backward(_leaf(case["upstream"], needs_grad=False))
        ranks.barrier()
        found.append({"y": _pack(y), "x": _pack(x.grad),
                      "weights": [_pack(part.weight.grad) for part in parts]})  # fmt: skip
    return found


def embeddings(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of a divided embedding and its gradient, or the exception's name.

    case: "weight" (NaN outside of this rank's rows), "ids", "upstream", "dtype".
    """
    from distributed_training.communicator import connect
    from distributed_training.tensor_parallel import VocabParallelEmbedding

    ranks, found = connect(), []
    for case in cases:
        table = VocabParallelEmbedding(_leaf(case["weight"], case.get("dtype", "float64")), ranks)
        try:
            y = table(_leaf(case["ids"], "int64", needs_grad=False))
        except (IndexError, ValueError) as error:
            found.append({"error": type(error).__name__})
        else:
            ranks.barrier()
            y.backward(_leaf(case["upstream"], case.get("dtype", "float64"), needs_grad=False))
            found.append({"y": _pack(y), "weight": _pack(table.weight.grad)})
            ranks.barrier()
    return found


def losses(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The divided loss and the gradient of this rank's logits, or the exception's name.

    case: "logits" (rows, this rank's columns), "targets", "vocab_size", "dtype", "scale": the
    gradient that the loss itself gets.
    """
    from distributed_training.communicator import connect
    from distributed_training.tensor_parallel import vocab_parallel_cross_entropy

    ranks, found = connect(), []
    for case in cases:
        logits = _leaf(case["logits"], case["dtype"])
        targets = _leaf(case["targets"], "int64", needs_grad=False)
        try:
            loss = vocab_parallel_cross_entropy(logits, targets, ranks, case["vocab_size"])
        except (IndexError, ValueError) as error:
            found.append({"error": type(error).__name__})
            continue
        ranks.barrier()
        (loss * case.get("scale", 1.0)).backward()
        ranks.barrier()
        found.append({"loss": _pack(loss), "gradient": _pack(logits.grad)})
    return found


def _divided_model(config: dict[str, Any], state: dict[str, np.ndarray], dtype: str,
                   frozen: list[str]) -> tuple[Any, Any]:  # fmt: skip
    """(ranks, model): built from `state`, divided; weights named in `frozen` are not trained."""
    import torch

    from distributed_training.communicator import connect
    from distributed_training.model import Llama, ModelConfig
    from distributed_training.tensor_parallel import parallelize

    ranks = connect()
    model = Llama(ModelConfig(**config)).to(getattr(torch, dtype))
    tensors = {name: torch.tensor(value) for name, value in state.items()}
    if config.get("tie_embeddings"):
        tensors["head.weight"] = tensors["embedding.weight"]
    model.load_state_dict(tensors)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    return ranks, parallelize(model, ranks)


def steps(
    config: dict[str, Any], state: dict[str, np.ndarray], batches: list[dict[str, Any]],
    dtype: str = "float64", lr: float = 0.0, frozen: list[str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """A divided model: a step of plain descent for each batch {"ids", "targets"}.

    Barriers after the logits, after the loss and after the backward pass of each step. Returns, by
    step, this rank's logits, loss and gradients; and the weights at the end.
    """
    import torch

    from distributed_training.tensor_parallel import vocab_parallel_cross_entropy

    ranks, model = _divided_model(config, state, dtype, frozen or [])
    found = []
    for batch in batches:
        logits = model(torch.tensor(batch["ids"]))
        ranks.barrier()
        targets = torch.tensor(batch["targets"]).flatten()
        loss = vocab_parallel_cross_entropy(
            logits.flatten(0, 1), targets, ranks, model.config.vocab_size
        )
        ranks.barrier()
        loss.backward()
        ranks.barrier()
        named = list(model.named_parameters())
        found.append({"logits": _pack(logits), "loss": _pack(loss),
                      "gradients": {name: _pack(p.grad) for name, p in named}})  # fmt: skip
        with torch.no_grad():
            for _, weight in named:
                if weight.grad is not None:
                    weight -= lr * weight.grad
                    weight.grad = None
    return {"steps": found, "state": {name: _pack(p) for name, p in model.named_parameters()}}


def error_of_parallelize(config: dict[str, Any]) -> str:
    """The exception's name where a model can't be divided, "none" where it can."""
    from distributed_training.communicator import connect
    from distributed_training.model import Llama, ModelConfig
    from distributed_training.tensor_parallel import parallelize

    try:
        parallelize(Llama(ModelConfig(**config)), connect())
    except ValueError as error:
        return type(error).__name__
    return "none"
