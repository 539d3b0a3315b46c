"""Task 3.6: text from a model and a cache: many prompts at once, or one as a stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from language_model.batches import pad_right
from language_model.cache import KVCache
from language_model.model import Llama
from language_model.modes import in_eval_mode
from language_model.sampling import sample


def prefill(
    model: Llama, prompts: Sequence[Sequence[int]], capacity: int
) -> tuple[Tensor, KVCache]:
    """Run all prompts through the model at once; what predicts each row's next token, and a cache.

    Prompts of different lengths are padded on the right. Returns the hidden state at the last real
    token of each prompt, (rows, hidden_size), and a cache of `capacity` positions a row, of the
    model's type and on its device, that holds the prompts and nothing of the padding.
    Raises ValueError for an empty prompt, and where a prompt is longer than the cache.
    """
    # BEGIN SOLUTION 3.6
    if any(len(prompt) == 0 for prompt in prompts):
        raise ValueError("an empty prompt: there is nothing to go on from")
    weight = model.embedding.weight
    ids, lengths = (part.to(weight.device) for part in pad_right(prompts))
    cache = KVCache(model.config, len(prompts), capacity, weight.dtype, weight.device)
    hidden = model.hidden_states(ids, cache=cache)
    cache.truncate(lengths)
    return hidden[torch.arange(len(ids), device=ids.device), lengths - 1], cache
    # END SOLUTION


@torch.no_grad()
def generate(
    model: Llama,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    stop_ids: Sequence[int] = (),
    generator: torch.Generator | None = None,
) -> list[list[int]]:
    """New tokens after each prompt, at most max_new_tokens, without the stop token that ended a row.

    Each prompt runs through the model once, each new token once, and the last one not at all: its
    successor is not asked for. A row that met one of stop_ids leaves the batch, and costs nothing
    from then on. A greedy row gets the tokens it would get alone. The model runs in eval mode, and
    is left as it was. Sampling arguments as in `sample`. Raises ValueError for an empty prompt.
    """
    # BEGIN SOLUTION 3.6
    new: list[list[int]] = [[] for _ in prompts]
    if not new or max_new_tokens < 1:
        return new
    stops = set(stop_ids)
    rows = list(range(len(new)))  # which prompt each row of the batch goes on from
    with in_eval_mode(model):
        last, cache = prefill(model, prompts, max(map(len, prompts)) + max_new_tokens - 1)
        for step in range(1, max_new_tokens + 1):
            tokens = sample(model.logits(last), temperature, top_k, top_p, generator)
            drawn = tokens.tolist()
            going = [place for place, token in enumerate(drawn) if token not in stops]
            for place in going:
                new[rows[place]].append(drawn[place])
            if step == max_new_tokens or not going:
                break
            if len(going) < len(rows):
                rows = [rows[place] for place in going]
                tokens, cache = tokens[going], cache.select(going)
            last = model.hidden_states(tokens[:, None], cache=cache)[:, 0]
    return new
    # END SOLUTION


@torch.no_grad()
def stream(
    model: Llama,
    prompt: Sequence[int],
    max_new_tokens: int,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    stop_ids: Sequence[int] = (),
    generator: torch.Generator | None = None,
    cache: KVCache | None = None,
) -> Iterator[int]:
    """Yield the new tokens of one prompt as they come; the same ones that `generate` returns.

    cache: of one row, holding the first `cache.lengths[0]` tokens of this prompt from earlier
    calls; only the rest of the prompt is run. That is how a conversation goes on: its whole history
    is the prompt, and only what was said since is new. When the stream ends, or is dropped by its
    reader, the cache holds a beginning of prompt and yielded tokens. None makes a cache of its own.
    Raises ValueError where the prompt is empty or has nothing that is not in the cache already, and
    where the cache has no room for the prompt; a full cache ends the stream.
    """
    # BEGIN SOLUTION 3.6
    if cache is None:
        weight = model.embedding.weight
        room = len(prompt) + max(max_new_tokens - 1, 0)
        cache = KVCache(model.config, 1, room, weight.dtype, weight.device)
    pending = list(prompt[int(cache.lengths[0]) :])
    if not pending:
        raise ValueError("the prompt has no token that is not in the cache: nothing to go on from")
    stops = set(stop_ids)
    for _ in range(max_new_tokens):
        with in_eval_mode(model):  # not across the yield: the reader may train in between
            ids = torch.tensor([pending], dtype=torch.int64, device=cache.lengths.device)
            last = model.hidden_states(ids, cache=cache)[:, -1]
            token = int(sample(model.logits(last), temperature, top_k, top_p, generator)[0])
        if token in stops:
            return
        yield token
        if int(cache.lengths[0]) == cache.capacity:
            return
        pending = [token]
    # END SOLUTION
