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
    # BEGIN SOLUTION 3.10
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; a policy that explores needs more than 0")
    if not prompts or group_size < 1 or max_new_tokens < 1:
        raise ValueError("nothing to sample: prompts, group_size and max_new_tokens are 1 at least")
    with in_eval_mode(model):
        last, cache = prefill(model, prompts, max(map(len, prompts)) + max_new_tokens - 1)
        last, cache = last.repeat_interleave(group_size, 0), cache.repeat(group_size)
        stops = torch.tensor(list(stop_ids), dtype=torch.int64, device=last.device)
        running = torch.ones(len(last), dtype=torch.bool, device=last.device)
        tokens, log_probs, valid = [], [], []
        for step in range(max_new_tokens):
            logits = model.logits(last)
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            token = sample(logits, temperature=temperature, generator=generator)
            tempered = (logits / temperature).log_softmax(-1)
            tokens.append(token)
            log_probs.append(tempered.gather(1, token[:, None])[:, 0])
            valid.append(running)
            running = running & ~torch.isin(token, stops)
            if step + 1 == max_new_tokens or not bool(running.any()):
                break
            last = model.hidden_states(token[:, None], cache=cache)[:, 0]
    rows = _rows(tokens, valid)
    responses = Responses.of([p for p in prompts for _ in range(group_size)], rows, last.device)
    kept = torch.stack(log_probs, 1)[torch.stack(valid, 1)]
    empty = kept.new_zeros(responses.ids.shape)
    return Rollout(responses, empty.masked_scatter(responses.mask, kept), rows)
    # END SOLUTION


def _rows(tokens: Sequence[Tensor], valid: Sequence[Tensor]) -> list[list[int]]:
    """Given: each row's tokens up to where it ended, from one tensor of tokens a step."""
    columns = torch.stack(list(tokens), 1).tolist()
    lengths = torch.stack(list(valid), 1).sum(1).tolist()
    return [row[:length] for row, length in zip(columns, lengths, strict=True)]
