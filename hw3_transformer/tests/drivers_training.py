"""Drivers of task 3.7: the loss in chunks, schedule, clipping, training steps."""

from __future__ import annotations

from typing import Any

import numpy as np


def chunked_loss(
    hidden: np.ndarray, weight: np.ndarray, targets: np.ndarray, chunk_rows: int,
    upstream: float = 1.0, frozen: str = "", dtype: str = "", autocast: bool = False,
    **options: Any,
) -> dict[str, Any]:  # fmt: skip
    """The loss and the gradients of upstream · loss; frozen: "hidden" or "weight" wants none."""
    import torch

    from language_model.training import chunked_cross_entropy

    kind = getattr(torch, dtype) if dtype else None
    leaves = {
        "hidden": torch.tensor(hidden, dtype=kind),
        "weight": torch.tensor(weight, dtype=kind),
    }
    for name, leaf in leaves.items():
        leaf.requires_grad_(name != frozen)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = chunked_cross_entropy(**leaves, targets=torch.tensor(targets),
                                     chunk_rows=chunk_rows, **options)  # fmt: skip
    (loss * upstream).backward()
    grads = {
        name: None
        if leaf.grad is None
        else leaf.grad.to(torch.promote_types(leaf.dtype, torch.float32)).numpy()
        for name, leaf in leaves.items()
    }
    kinds = [str(leaf.grad.dtype) for leaf in leaves.values() if leaf.grad is not None]
    return {"loss": loss.item(), "shape": list(loss.shape), "dtype": str(loss.dtype),
            "gradient dtypes": kinds, **grads}  # fmt: skip


def loss_without_gradient(
    hidden: np.ndarray, weight: np.ndarray, targets: np.ndarray, chunk_rows: int
) -> float:
    """The loss alone, under no_grad, of a weight that is a parameter."""
    import torch

    from language_model.training import chunked_cross_entropy

    with torch.no_grad():
        parameter = torch.nn.Parameter(torch.tensor(weight))
        loss = chunked_cross_entropy(
            torch.tensor(hidden), parameter, torch.tensor(targets), chunk_rows
        )
    return loss.item()


def rates(steps: list, options: dict) -> list[float]:
    """cosine_rate at each of `steps`."""
    from language_model.training import cosine_rate

    return [float(cosine_rate(step, **options)) for step in steps]


def clipped(
    gradients: list, frozen: list, twice: list, max_norm: float | None, dtype: str = "float64"
) -> list[Any]:
    """clip_gradients over parameters with these gradients: the norm, the gradients afterwards.

    frozen, twice: places of parameters that are frozen, and of those listed a second time.
    """
    import torch

    from language_model.training import clip_gradients

    parameters = []
    for place, gradient in enumerate(gradients):
        shape = np.shape(gradient) if gradient is not None else (2,)
        parameter = torch.nn.Parameter(torch.zeros(shape, dtype=getattr(torch, dtype)))
        if gradient is not None:
            parameter.grad = torch.tensor(gradient, dtype=parameter.dtype)
        parameter.requires_grad_(place not in frozen)
        parameters.append(parameter)
    listed = parameters + [parameters[place] for place in twice]
    norm = clip_gradients(iter(listed), max_norm)
    return [
        float(norm), [None if p.grad is None else p.grad.double().numpy() for p in parameters]
    ]  # fmt: skip


def _batch(arrays: dict[str, np.ndarray]) -> Any:
    import torch

    from language_model.training_setup import Batch

    return Batch(**{name: torch.tensor(a) for name, a in arrays.items() if a is not None})


def _model(sizes: dict, weights: dict, dtype: str, frozen: list | None = None) -> Any:
    from drivers_model import build_model

    model = build_model(sizes, weights, dtype)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not any(part in name for part in frozen or ()))
    return model


def _weights(model: Any) -> dict[str, np.ndarray]:
    return {name: p.detach().numpy().copy() for name, p in model.named_parameters()}


class _Listed:
    """Batches from a list, in order; its place is its state."""

    def __init__(self, batches: list) -> None:
        self.batches, self.place = [_batch(arrays) for arrays in batches], 0

    def __next__(self) -> Any:
        self.place += 1
        return self.batches[self.place - 1]

    def state_dict(self) -> dict[str, Any]:
        return {"place": self.place}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.place = state["place"]


def trained(
    sizes: dict, weights: dict, batches: list, settings: dict, steps: list, dtype: str = "float32"
) -> dict[str, Any]:
    """A Trainer over listed batches, SGD with momentum; `train` is called once per entry of steps."""
    import torch

    from language_model.training import Trainer
    from language_model.training_setup import Settings

    model = _model(sizes, weights, dtype).eval()
    optimizer = torch.optim.SGD(model.parameters(), 0.0, momentum=0.9)
    trainer = Trainer(model, optimizer, _Listed(batches), Settings(**settings))
    results: list[Any] = []
    seen: list[Any] = []

    def on_step(result: Any) -> None:
        results.append([result.norm, result.tokens, result.taken])
        seen.append([trainer.step, len(trainer.losses)])

    for count in steps:
        trainer.train(count, on_step)
    return {"losses": trainer.losses, "results": results, "seen": seen, "weights": _weights(model),
            "taken": trainer.stream.place}  # fmt: skip


def stepped(
    sizes: dict, weights: dict, batches: list, settings: dict, steps: int = 1,
    dtype: str = "float32", frozen: list | None = None, stale: bool = False, rate: float = 1e-2,
    warm: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """train_step by itself, `steps` times on the same batches, after `warm` steps on the first one.

    stale: every parameter begins with a gradient of ones, which must not count.
    """
    import torch

    from language_model.training import train_step
    from language_model.training_setup import Settings, make_optimizer

    model = _model(sizes, weights, dtype, frozen)
    optimizer = make_optimizer(model, 0.1)
    made = [_batch(arrays) for arrays in batches]
    options = Settings(**settings)
    model.rematerialize = not options.rematerialize
    for _ in range(warm):
        train_step(model, optimizer, made[:1], rate, options)
    before = {"weights": _weights(model), "moments": _moments(optimizer)}
    seen: list[Any] = []
    original = optimizer.step

    def step(*args: Any, **kwargs: Any) -> Any:
        seen.append({
            "lr": [group["lr"] for group in optimizer.param_groups],
            "gradients": {n: p.grad.double().numpy() for n, p in model.named_parameters()
                          if p.grad is not None},
        })  # fmt: skip
        return original(*args, **kwargs)

    optimizer.step = step
    results = []
    for _step in range(steps):
        if stale:
            for parameter in model.parameters():
                parameter.grad = torch.ones_like(parameter)
        result = train_step(model, optimizer, made, rate, options)
        results.append([result.loss, result.norm, result.tokens, result.taken])
    return {
        "results": results, "seen": seen, "weights": _weights(model), "before": before,
        "moments": _moments(optimizer), "training": model.training,
        "left": sum(p.grad is not None for p in model.parameters()),
        "rematerialize kept": model.rematerialize is not options.rematerialize,
    }  # fmt: skip


def _moments(optimizer: Any) -> list[np.ndarray]:
    return [v.numpy().copy() for s in optimizer.state.values() for v in s.values()]


def precision(sizes: dict, weights: dict, batch: dict, settings: dict) -> dict[str, Any]:
    """Loss and gradients of one batch as `train_step` sees them, and the types of everything."""

    from language_model.training import train_step
    from language_model.training_setup import Settings, make_optimizer

    model = _model(sizes, weights, "float32")
    optimizer = make_optimizer(model, 0.0)
    kinds: dict[str, str] = {}
    model.blocks[0].ffn.gate.register_forward_hook(
        lambda module, args, output: kinds.update(product=str(output.dtype))
    )
    gradients: dict[str, np.ndarray] = {}

    def step(*args: Any, **kwargs: Any) -> None:
        for name, parameter in model.named_parameters():
            gradients[name] = parameter.grad.numpy().copy()
            kinds[f"gradient of {name}"] = str(parameter.grad.dtype)

    optimizer.step = step
    result = train_step(model, optimizer, [_batch(batch)], 0.0, Settings(**settings))
    kinds |= {f"weight {name}": str(p.dtype) for name, p in model.named_parameters()}
    return {"loss": result.loss, "gradients": gradients, "kinds": kinds}


_held: dict[str, Any] = {}


def hold_step(sizes: dict, weights: dict, batches: list) -> None:
    """Keep a model and batches for `held_step`."""
    _held["model"] = _model(sizes, weights, "float32")
    _held["batches"] = [_batch(arrays) for arrays in batches]


def held_step(settings: dict, chosen: list) -> dict[str, Any]:
    """One step of the held model over some of the batches, with plain SGD at rate 0; gradients."""
    import torch

    from language_model.training import train_step
    from language_model.training_setup import Settings

    model = _held["model"]
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    gradients: dict[str, np.ndarray] = {}

    def step(*args: Any, **kwargs: Any) -> None:
        gradients.update({n: p.grad.numpy().copy() for n, p in model.named_parameters()})

    optimizer.step = step
    result = train_step(model, optimizer, [_held["batches"][i] for i in chosen], 0.0, Settings(**settings))
    return {"loss": result.loss, "gradients": gradients}


def evaluated(sizes: dict, weights: dict, batches: list, settings: dict) -> dict[str, Any]:
    """evaluate, and the modes afterwards."""
    import torch

    from language_model.training import evaluate
    from language_model.training_setup import Settings

    model = _model(sizes, weights, "float32").train()
    model.blocks[0].eval()
    before = [module.training for module in model.modules()]
    seen = []
    original = model.hidden_states

    def hidden_states(*args: Any, **kwargs: Any) -> Any:
        seen.append([any(m.training for m in model.modules()), torch.is_grad_enabled()])
        return original(*args, **kwargs)

    model.hidden_states = hidden_states
    loss = evaluate(model, (_batch(arrays) for arrays in batches), Settings(**settings))
    return {"loss": loss, "seen": seen,
            "modes kept": [m.training for m in model.modules()] == before}  # fmt: skip
