"""Drivers of task 3.6: the cache, the samplers, and generation on them."""

from __future__ import annotations

from typing import Any

import numpy as np


def _model(sizes: dict[str, Any], weights: dict[str, np.ndarray], dtype: str = "float32") -> Any:
    from drivers_model import build_model

    return build_model(sizes, weights, dtype)


def _cache(sizes: dict[str, Any], batch: int, capacity: int, dtype: str = "float32") -> Any:
    import torch

    from language_model.cache import KVCache
    from language_model.config import ModelConfig

    return KVCache(ModelConfig(**sizes), batch, capacity, getattr(torch, dtype))


def _forward(model: Any, cache: Any, ids: Any) -> np.ndarray:
    import torch

    with torch.no_grad():
        return model(torch.as_tensor(ids), cache=cache).float().numpy()


class CacheProgram:
    """A cache without a model; states come back as arrays, a snapshot each."""

    def __init__(
        self, sizes: dict, batch: int, capacity: int, dtype: str, lengths: np.ndarray | None
    ) -> None:
        import torch

        self.cache = _cache(sizes, batch, capacity, dtype)
        if lengths is not None:
            self.cache.lengths.copy_(torch.tensor(lengths))

    def update(self, layer: int, keys: np.ndarray, values: np.ndarray) -> dict[str, Any]:
        """The two tensors that come back, and whether they are views of the cache's own memory."""
        import torch

        kind = self.cache.keys.dtype
        got = self.cache.update(layer, torch.tensor(keys).to(kind), torch.tensor(values).to(kind))
        own = (self.cache.keys, self.cache.values)
        shared = all(
            g.untyped_storage().data_ptr() == o.untyped_storage().data_ptr()
            for g, o in zip(got, own, strict=True)
        )
        return {"keys": got[0].float().numpy(), "values": got[1].float().numpy(), "views": shared}

    def update_raises(self, layer: int, keys: np.ndarray, values: np.ndarray) -> str:
        """The name of the exception that `update` ends in, "" for none."""
        try:
            self.update(layer, keys, values)
        except NotImplementedError:
            raise
        except Exception as error:
            return type(error).__name__
        return ""

    def mask(self, time: int) -> np.ndarray | None:
        """`cache.mask(time)`."""
        mask = self.cache.mask(time)
        return None if mask is None else mask.numpy()

    def advance(self, time: int) -> None:
        """`cache.advance(time)`."""
        self.cache.advance(time)

    def truncate(self, lengths: list, as_tensor: bool) -> str:
        """`cache.truncate`; the name of the exception it ends in, "" for none."""
        import torch

        try:
            self.cache.truncate(torch.tensor(lengths) if as_tensor else lengths)
        except NotImplementedError:
            raise
        except Exception as error:
            return type(error).__name__
        return ""

    def state(self) -> dict[str, Any]:
        """All there is in it."""
        cache = self.cache
        return {
            "keys": cache.keys.float().numpy().copy(), "values": cache.values.float().numpy().copy(),
            "lengths": cache.lengths.numpy().copy(), "capacity": cache.capacity,
            "dtype": str(cache.keys.dtype).removeprefix("torch."),
        }  # fmt: skip

    def derived(self, operation: str, argument: Any, overwrite: bool) -> dict[str, Any]:
        """The state of `cache.select(argument)` or `.repeat(argument)`; then maybe spoil that one."""
        other = getattr(self.cache, operation)(argument)
        kept, self.cache = self.cache, other
        state = self.state()
        self.cache = kept
        if overwrite:
            for part in (other.keys, other.values, other.lengths):
                part.fill_(7)
        return state


def cache_program(
    sizes: dict, batch: int, capacity: int, dtype: str = "float32",
    lengths: np.ndarray | None = None,
) -> CacheProgram:  # fmt: skip
    """A session around a cache."""
    return CacheProgram(sizes, batch, capacity, dtype, lengths)


def logits_in_chunks(
    sizes: dict, weights: dict, ids: np.ndarray, chunks: list, dtype: str = "float32"
) -> list[Any]:
    """Logits of all positions, the ids run through a cache in chunks; the lengths afterwards."""
    model, cache = _model(sizes, weights, dtype), _cache(sizes, *ids.shape, dtype)
    parts, start = [], 0
    for size in chunks:
        parts.append(_forward(model, cache, ids[:, start : start + size]))
        start += size
    return [np.concatenate(parts, axis=1), cache.lengths.numpy()]


def ragged_logits(
    sizes: dict, weights: dict, prompts: list, following: np.ndarray, spare: int = 0
) -> list[np.ndarray]:
    """Prompts prefilled together, then row b is fed following[b] token by token.

    Logits for the next token: (rows, 1 + steps, vocab), and the lengths at the end.
    """
    import torch

    from language_model.generation import prefill

    model = _model(sizes, weights)
    room = max(len(p) for p in prompts) + following.shape[1] + spare
    with torch.no_grad():
        last, cache = prefill(model, prompts, room)
        steps = [model.logits(last).numpy()]
    for step in range(following.shape[1]):
        steps.append(_forward(model, cache, following[:, step : step + 1])[:, 0])
    return [np.stack(steps, axis=1), cache.lengths.numpy()]


def branched_logits(
    sizes: dict, weights: dict, prompts: list, times: int, following: np.ndarray, rows: list,
    keep: list,
) -> list[np.ndarray]:  # fmt: skip
    """Prefill, repeat, feed following, select `rows`, cut to `keep`, feed following[rows] again.

    The logits of both feedings: (prompts · times, steps, vocab) and (len(rows), steps, vocab).
    """
    import torch

    from language_model.generation import prefill

    model = _model(sizes, weights)
    room = max(len(p) for p in prompts) + 2 * following.shape[1]
    with torch.no_grad():
        _, cache = prefill(model, prompts, room)
    cache = cache.repeat(times)
    first = _forward(model, cache, following)
    cache = cache.select(torch.tensor(rows))
    cache.truncate(keep)
    return [first, _forward(model, cache, following[rows])]


def draw(logits: np.ndarray, options: dict, seed: int, dtype: str = "float32") -> list[Any]:
    """`sample` with a seeded generator; the ids, their type, and the generator's next number."""
    import torch

    from language_model.sampling import sample

    generator = torch.Generator().manual_seed(seed)
    ids = sample(torch.tensor(logits).to(getattr(torch, dtype)), generator=generator, **options)
    return [ids.numpy(), str(ids.dtype), float(torch.rand((), generator=generator))]


def filtered(logits: np.ndarray, top_k: int, top_p: float) -> list[np.ndarray]:
    """`filter_logits`, and its argument afterwards."""
    import torch

    from language_model.sampling import filter_logits

    given = torch.tensor(logits)
    return [filter_logits(given, top_k, top_p).numpy(), given.numpy()]


def _watched(model: Any) -> list[dict[str, Any]]:
    """A list that grows by one entry with each call of the model's hidden_states."""
    import torch

    calls: list[dict[str, Any]] = []
    original = model.hidden_states

    def hidden_states(ids: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append({
            "rows": int(ids.shape[0]), "time": int(ids.shape[1]),
            "training": any(m.training for m in model.modules()),
            "grad": torch.is_grad_enabled(),
        })  # fmt: skip
        return original(ids, *args, **kwargs)

    model.hidden_states = hidden_states
    return calls


def generated(
    sizes: dict, weights: dict, prompts: list, options: dict, seed: int | None = None,
    dtype: str = "float32",
) -> dict[str, Any]:  # fmt: skip
    """`generate`: the tokens, the model's calls, and the modes before and after."""
    import torch

    from language_model.generation import generate

    model = _model(sizes, weights, dtype).train()
    model.blocks[0].ffn.eval()
    before = [module.training for module in model.modules()]
    calls = _watched(model)
    if seed is not None:
        options = {**options, "generator": torch.Generator().manual_seed(seed)}
    tokens = generate(model, prompts, **options)
    return {
        "tokens": tokens, "calls": calls, "grad after": torch.is_grad_enabled(),
        "modes kept": [module.training for module in model.modules()] == before,
    }  # fmt: skip


def conversation(
    sizes: dict, weights: dict, turns: list, takes: list, capacity: int, options: dict,
    dtype: str = "float32",
) -> dict[str, Any]:  # fmt: skip
    """Turns of a talk on one cache: each adds tokens, then takes[i] of the stream's are read.

    Returns the tokens of each turn, the positions that each turn ran, and the modes at the yields.
    """
    import torch

    from language_model.generation import stream

    model = _model(sizes, weights, dtype).train()
    calls = _watched(model)
    cache = _cache(sizes, 1, capacity, dtype)
    history: list[int] = []
    spoken, positions, modes = [], [], []
    for turn, take in zip(turns, takes, strict=True):
        history += turn
        calls.clear()
        reply = []
        tokens = stream(model, history, cache=cache, **options)
        for token in tokens:
            reply.append(token)
            modes.append([model.training, torch.is_grad_enabled()])
            if len(reply) == take:
                break
        tokens.close()
        history += reply
        spoken.append(reply)
        positions.append(sum(call["rows"] * call["time"] for call in calls))
    return {"tokens": spoken, "positions": positions, "modes": modes,
            "length": int(cache.lengths[0])}  # fmt: skip


def streamed(
    sizes: dict, weights: dict, prompt: list, options: dict, dtype: str = "float32"
) -> list[int]:
    """`stream` without a cache, read to its end."""
    from language_model.generation import stream

    return list(stream(_model(sizes, weights, dtype), prompt, **options))


_timed: dict[str, Any] = {}


def hold_model(sizes: dict, seed: int) -> None:
    """Keep a model with the weights of `peers_generation.seeded_weights` for the calls below."""
    from peers_generation import seeded_weights

    weights = {name: w.numpy() for name, w in seeded_weights(sizes, seed).items()}
    _timed["model"], _timed["sizes"] = _model(sizes, weights), sizes


def hold_context(context: np.ndarray, room: int) -> None:
    """Fill a cache with context (batch, time), with room for more."""
    cache = _cache(_timed["sizes"], len(context), context.shape[1] + room)
    _forward(_timed["model"], cache, context)
    _timed["cache"] = cache


def next_logits(context: np.ndarray, following: np.ndarray, sizes: dict, seed: int) -> np.ndarray:
    """Logits after each of `following` (batch, steps), one step at a time, on the held cache.

    context: what the cache holds; it is not run again. The rest is for the peer.
    """
    model, cache = _timed["model"], _timed["cache"]
    steps = [
        _forward(model, cache, following[:, i : i + 1])[:, 0] for i in range(following.shape[1])
    ]
    return np.stack(steps, axis=1)
