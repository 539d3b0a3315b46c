"""Drivers of task 3.9: log-probabilities of responses, DPO with one base, reward heads."""

from __future__ import annotations

from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
Rows = list[list[int]]
TRAINED = ("query", "value", "output", "down")


def _responses(prompts: Rows, answers: Rows) -> Any:
    from language_model.batches import Responses

    return Responses.of(prompts, answers)


def _adapted(
    sizes: dict[str, Any], weights: Arrays, adapter: Arrays, rank: int, alpha: float,
    dropout: float = 0.0, targets: tuple[str, ...] = ("query", "value"),
) -> Any:  # fmt: skip
    """The student's Llama with adapters, A and B as given where they are."""
    import torch
    from drivers_model import build_model
    from language_model import lora

    model = build_model(sizes, weights)
    lora.attach_lora(model, rank, alpha, targets, dropout)
    if adapter:
        lora.load_adapter_state(model, {name: torch.tensor(a) for name, a in adapter.items()})
    return model


def log_probs(
    sizes: dict[str, Any], weights: Arrays, prompts: Rows, answers: Rows,
    temperature: float = 1.0, dtype: str = "float64",
) -> dict[str, Any]:  # fmt: skip
    """By token and by sequence, and the gradient of the embedding of the sum of squares."""
    from drivers_model import build_model
    from language_model.preference import sequence_log_probs, token_log_probs

    model = build_model(sizes, weights, dtype)
    asked = _responses(prompts, answers)
    by_token = token_log_probs(model, asked, temperature)
    by_token.square().sum().backward()
    gradient = model.embedding.weight.grad
    whole = sequence_log_probs(model, asked)
    wide = str(by_token.dtype)
    return {
        "tokens": by_token.detach().double().numpy(), "mask": asked.mask.numpy(), "dtype": wide,
        "sequences": whole.detach().double().numpy(), "gradient": gradient.double().numpy(),
    }  # fmt: skip


def rows_of_logits(sizes: dict[str, Any], weights: Arrays, prompts: Rows, answers: Rows) -> int:
    """How many rows of logits were made for `token_log_probs`."""
    from drivers_model import build_model
    from language_model.preference import token_log_probs

    model = build_model(sizes, weights)
    seen: list[int] = []
    make = model.logits

    def logits(hidden: Any) -> Any:
        seen.append(hidden[..., 0].numel())
        return make(hidden)

    model.logits = logits
    token_log_probs(model, _responses(prompts, answers))
    return sum(seen)


def loss_of(
    policy: np.ndarray, reference: np.ndarray, beta: float, label_smoothing: float = 0.0
) -> dict[str, Any]:
    """dpo_loss of (2, pairs) arrays, chosen first; its gradient with respect to all four."""
    import torch
    from language_model.preference import dpo_loss

    given = [torch.tensor(a, requires_grad=True) for a in (*policy, *reference)]
    got = dpo_loss(*given, beta, label_smoothing)
    got.loss.backward()
    return {
        "loss": got.loss.item(), "chosen": got.chosen.numpy(), "rejected": got.rejected.numpy(),
        "policy gradient": np.stack([given[0].grad.numpy(), given[1].grad.numpy()]),
        "detached": not (got.chosen.requires_grad or got.rejected.requires_grad),
        "shape": list(got.loss.shape),
    }  # fmt: skip


def reference_mode(
    sizes: dict[str, Any], weights: Arrays, adapter: Arrays, rank: int, alpha: float, ids: np.ndarray
) -> dict[str, Any]:
    """Logits inside `as_reference` for a model with another dropout in it; what is left behind."""
    import torch
    from language_model.preference import as_reference

    model = _adapted(sizes, weights, adapter, rank, alpha, dropout=0.5)
    model.norm = torch.nn.Sequential(model.norm, torch.nn.Dropout(0.5))
    model.norm[0].weight.requires_grad_(True)  # something of the base that trains as well
    model.train()
    model.blocks[0].eval()
    flags = [m.training for m in model.modules()]
    with as_reference(model):
        inside = model(torch.tensor(ids))
    raised = False
    try:
        with as_reference(model):
            raise KeyError
    except KeyError:
        raised = True
    kept = flags == [m.training for m in model.modules()]
    model.eval()
    with torch.no_grad():
        after = model(torch.tensor(ids))
    model.zero_grad()
    model(torch.tensor(ids)).sum().backward()
    trains = any(p.grad is not None and bool(p.grad.any()) for p in model.parameters())
    return {
        "inside": inside.detach().numpy(), "after": after.numpy(), "kept": kept and raised,
        "recorded": inside.requires_grad, "trains": trains,
    }  # fmt: skip


def step(
    sizes: dict[str, Any], weights: Arrays, adapter: Arrays, rank: int, alpha: float, beta: float,
    prompts: Rows, chosen: Rows, rejected: Rows, dropout: float = 0.0, seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """dpo_step of a batch in training mode: the loss, its gradients, what else got one."""
    import torch
    from language_model.preference import dpo_step

    model = _adapted(sizes, weights, adapter, rank, alpha, dropout).train()
    torch.manual_seed(seed)
    got = dpo_step(model, _responses(prompts, chosen), _responses(prompts, rejected), beta)
    got.loss.backward()
    named = dict(model.named_parameters())
    return {
        "loss": got.loss.item(), "chosen": got.chosen.numpy(), "rejected": got.rejected.numpy(),
        "gradients": {n: p.grad.numpy() for n, p in named.items() if p.grad is not None},
        "training": model.training,
    }  # fmt: skip


class Pairs:
    """A model with adapters that is trained on preference pairs, a call at a time."""

    def __init__(self, sizes: dict[str, Any], weights: Arrays, rank: int, alpha: float) -> None:
        import torch

        self._model = _adapted(sizes, weights, {}, rank, alpha, targets=TRAINED).train()
        trained = [p for p in self._model.parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(trained, lr=2e-2, weight_decay=0.0)

    def train(self, prompts: Rows, chosen: Rows, rejected: Rows, beta: float) -> float:
        """One step; the loss before it."""
        from language_model.preference import dpo_step

        got = dpo_step(
            self._model, _responses(prompts, chosen), _responses(prompts, rejected), beta
        )
        self._optimizer.zero_grad()
        got.loss.backward()
        self._optimizer.step()
        return got.loss.item()

    def adapter(self) -> Arrays:
        """A and B now."""
        from language_model.lora import adapter_state

        return {name: t.numpy() for name, t in adapter_state(self._model).items()}


def pairs(sizes: dict[str, Any], weights: Arrays, rank: int, alpha: float) -> Pairs:
    """A model to train."""
    return Pairs(sizes, weights, rank, alpha)


def large_pairs(sizes: dict[str, Any], seed: int, rank: int, alpha: float) -> Pairs:
    """The same with weights made here: they would be long in coming."""
    import torch
    from language_model.config import ModelConfig
    from language_model.lora import attach_lora
    from language_model.model import Llama

    made = Pairs.__new__(Pairs)
    made._model = Llama(ModelConfig(**sizes)).initialize(seed)
    attach_lora(made._model, rank, alpha)
    trained = [p for p in made._model.parameters() if p.requires_grad]
    made._optimizer = torch.optim.AdamW(trained, lr=1e-3)
    return made


def rewards(
    sizes: dict[str, Any], weights: Arrays, head: np.ndarray, bias: float, prompts: Rows,
    answers: Rows, dtype: str = "float64",
) -> dict[str, Any]:  # fmt: skip
    """Scores of responses by a head with these numbers, its values everywhere, its start."""
    import torch
    from drivers_model import build_model
    from language_model.preference import RewardHead

    model = build_model(sizes, weights, dtype)
    made = RewardHead(len(head))
    start = [made.weight.detach().numpy().copy(), made.bias.item()]
    with torch.no_grad():
        made.weight.copy_(torch.tensor(head))
        made.bias.fill_(bias)
        asked = _responses(prompts, answers)
        scores = made.score(model, asked)
        values = made(model.hidden_states(asked.ids))
    return {
        "scores": scores.double().numpy(), "values": values.double().numpy(), "start": start,
        "dtype": str(scores.dtype),
    }  # fmt: skip


def bradley_terry(chosen: np.ndarray, rejected: np.ndarray, margin: Any = 0.0) -> dict[str, Any]:
    """The loss and both gradients."""
    import torch
    from language_model.preference import bradley_terry_loss

    given = [torch.tensor(a, requires_grad=True) for a in (chosen, rejected)]
    margin = torch.tensor(margin) if isinstance(margin, np.ndarray) else margin
    loss = bradley_terry_loss(*given, margin)
    loss.backward()
    return {"loss": loss.item(), "gradients": np.stack([t.grad.numpy() for t in given])}


def train_head(
    sizes: dict[str, Any], weights: Arrays, prompts: Rows, chosen: Rows, rejected: Rows,
    steps: int, rate: float,
) -> dict[str, Any]:  # fmt: skip
    """A head trained on pairs over a frozen model: its weight and bias, and the losses."""
    import torch
    from drivers_model import build_model
    from language_model.preference import RewardHead, bradley_terry_loss

    model = build_model(sizes, weights)
    model.requires_grad_(False)
    head = RewardHead(model.config.hidden_size)
    optimizer = torch.optim.Adam(head.parameters(), lr=rate)
    sides = [_responses(prompts, side) for side in (chosen, rejected)]
    losses = []
    for _step in range(steps):
        loss = bradley_terry_loss(*(head.score(model, side) for side in sides))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return {"weight": head.weight.detach().numpy(), "losses": losses}


def pair_up(ratings: np.ndarray, least_gap: float) -> np.ndarray:
    """pairs_from_ratings."""
    import torch
    from language_model.preference import pairs_from_ratings

    return pairs_from_ratings(torch.tensor(ratings), least_gap).numpy()
