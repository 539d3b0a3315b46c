"""Task 3.10: responses sampled from the policy, on the KV cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from language_model.batches import Responses
from language_model.generation import prefill
from language_model.model import Llama
from language_model.modes import in_eval_mode
from language_model.sampling import sample


@dataclass(frozen=True)
class Rollout:
    """Sampled responses: the rows of one prompt's group lie together.

    responses: prompts and responses, (rows, time), rows = prompts · group_size. log_probs: (rows,
    time), those of the sampled tokens under the policy that sampled them, at its temperature, 0
    elsewhere. tokens: the responses as lists, each with its stop token where it has one.
    """

    responses: Responses
    log_probs: Tensor
    tokens: list[list[int]]


@torch.no_grad()
def roll_out(
    model: Llama,
    prompts: Sequence[Sequence[int]],
    group_size: int,
    max_new_tokens: int,
    temperature: float = 1.0,
    stop_ids: Sequence[int] = (),
    generator: torch.Generator | None = None,
) -> Rollout:
    """`group_size` responses for each prompt, sampled token by token.

    Each prompt is prefilled once; its keys and values are then shared out to its group. A response
    ends after a stop token, which belongs to it, or after max_new_tokens. No state outlives the
    call: after an update of the weights, old keys and values would be another policy's. The model
    is in eval mode while it samples, and left as it was. Rows that have ended may run along until
    all have; the model isn't asked for what follows the last token. Log-probabilities are float32
    at least. Raises ValueError for an empty prompt, for no prompt, where nothing is to be sampled,
    and for a temperature that is not above 0.
    """
    raise NotImplementedError("task 3.10: roll_out")


def _rows(tokens: Sequence[Tensor], valid: Sequence[Tensor]) -> list[list[int]]:
    """Given: each row's tokens up to where it ended, from one tensor of tokens a step."""
    columns = torch.stack(list(tokens), 1).tolist()
    lengths = torch.stack(list(valid), 1).sum(1).tolist()
    return [row[:length] for row, length in zip(columns, lengths, strict=True)]
