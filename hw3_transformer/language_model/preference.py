"""Task 3.9: direct preference optimisation with the adapter as policy, and a reward head."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from language_model.batches import Responses
from language_model.lora import adapters_disabled
from language_model.model import Llama
from language_model.modes import in_eval_mode


def token_log_probs(model: Llama, responses: Responses, temperature: float = 1.0) -> Tensor:
    """log p of each response token given all before it: (rows, time), 0 outside the responses.

    The token at t is predicted by the logits at t − 1, divided by `temperature` first. Computed in
    float32 at least, and only where it is asked for: logits of prompt tokens are never made.
    """
    raise NotImplementedError("task 3.9: token_log_probs")


def sequence_log_probs(model: Llama, responses: Responses) -> Tensor:
    """log p of each whole response given its prompt: (rows,), a sum and not a mean over tokens."""
    raise NotImplementedError("task 3.9: sequence_log_probs")


@contextmanager
def as_reference(model: nn.Module) -> Iterator[None]:
    """Inside, the model is the frozen reference policy: adapters off, dropout off, no gradients.

    The policy and its reference share one copy of the base: nothing is copied or loaded. What was
    changed is put back at the end, also after an exception.
    """
    raise NotImplementedError("task 3.9: as_reference")


@dataclass(frozen=True)
class DPOResult:
    """loss: a scalar; chosen, rejected: (pairs,) implicit rewards β·log(π/π_ref), detached."""

    loss: Tensor
    chosen: Tensor
    rejected: Tensor


def dpo_loss(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    beta: float,
    label_smoothing: float = 0.0,
) -> DPOResult:
    """The mean of −log σ(β·((π_c − ref_c) − (π_r − ref_r))) (Rafailov et al., 2023, equation 7).

    Each argument: (pairs,), log-probabilities of whole responses. label_smoothing ε takes each
    preference as turned round with probability ε: (1 − ε)·(−log σ(z)) + ε·(−log σ(−z)). Finite, with
    a finite gradient, for every finite argument.
    """
    raise NotImplementedError("task 3.9: dpo_loss")


def dpo_step(
    model: Llama, chosen: Responses, rejected: Responses, beta: float, label_smoothing: float = 0.0
) -> DPOResult:
    """`dpo_loss` of a batch of pairs for a model with adapters: the policy with them, the
    reference without. Gradients reach the adapters only; the caller runs backward."""
    raise NotImplementedError("task 3.9: dpo_step")


class RewardHead(nn.Module):
    """One number from a hidden state: the reward of a response, or the value of a prefix."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(hidden_size))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden: (…, hidden_size) -> (…), float32 at least."""
        raise NotImplementedError("task 3.9: RewardHead.forward")

    def score(self, model: Llama, responses: Responses) -> Tensor:
        """The reward of each response: (rows,), read at its last token, never at padding."""
        raise NotImplementedError("task 3.9: RewardHead.score")


def bradley_terry_loss(chosen: Tensor, rejected: Tensor, margin: Tensor | float = 0.0) -> Tensor:
    """The mean of −log σ(chosen − rejected − margin) (Bradley and Terry, 1952; Ouyang et al., 2022).

    chosen, rejected: (pairs,) rewards. margin: how far apart the two should be at least, a number
    or (pairs,). Returns a scalar.
    """
    raise NotImplementedError("task 3.9: bradley_terry_loss")


def pairs_from_ratings(ratings: Tensor, least_gap: float) -> Tensor:
    """Preference pairs (pairs, 2) int64 of a set of rated answers, the preferred one first.

    ratings: (answers,) float. Every two answers whose ratings differ by `least_gap` or more make
    one pair, in the order of (first index, second index) of the two as they stand in `ratings`.
    Equal ratings make no pair. Raises ValueError where least_gap is not positive.
    """
    raise NotImplementedError("task 3.9: pairs_from_ratings")
