"""Drivers of tasks 5.1 and 5.2: blocks, and attention over them."""

from __future__ import annotations

from typing import Any

import numpy as np


def operated(
    num_blocks: int, block_size: int, prefix_caching: bool, operations: list[dict[str, Any]]
) -> list[dict[str, Any] | None]:
    """A block manager through all operations: its state after each, None where `quiet` is set.

    Numbers name the sequences. grow: append the tokens, then allocate and compute all there are.
    """
    from serving.block_manager import BlockManager, OutOfBlocks
    from serving.sequence import Sequence

    manager = BlockManager(num_blocks, block_size, prefix_caching)
    sequences: dict[int, Any] = {}
    states: list[dict[str, Any] | None] = []
    for operation in operations:
        do, number, argument = operation["do"], operation["sequence"], operation["argument"]
        tokens, error, copies = list(operation["tokens"]), "", []
        if do == "add":
            sequences[number] = Sequence(number, tokens, namespace=operation["namespace"])
        sequence = sequences.get(number)
        try:
            if do in ("append", "grow"):
                sequence.token_ids.extend(tokens)
            if do in ("allocate", "grow"):
                manager.allocate(sequence, argument)
            if do in ("compute", "grow"):
                sequence.num_computed_tokens = argument
                manager.register(sequence)
            if do in ("free", "drop"):
                manager.free(sequence)
            if do == "fork":
                child = Sequence(argument, list(sequence.token_ids), namespace=sequence.namespace)
                copies = manager.fork(sequence, child)
                sequences[argument] = child
            if do == "clear":
                manager.clear_cache()
        except OutOfBlocks:
            error = "OutOfBlocks"
        if do == "drop":
            del sequences[number]
        quiet = operation.get("quiet", False)
        states.append(None if quiet else _state(manager, sequences, error, copies))
    return states


def _state(manager: Any, sequences: dict[int, Any], error: str, copies: Any) -> dict[str, Any]:
    each = sequences.items()
    return {
        "error": error,
        "copies": [[int(a), int(b)] for a, b in copies],
        "tables": {str(n): [int(b) for b in s.block_table] for n, s in each},
        "computed": {str(n): int(s.num_computed_tokens) for n, s in each},
        "prefixes": {str(n): [int(b) for b in manager.cached_prefix(s)] for n, s in each},
        "wanted": {str(n): int(manager.blocks_wanted(s, s.num_tokens)) for n, s in each},
        "holders": [int(count) for count in manager.ref_counts],
        "free": int(manager.num_free),
    }


def hashed(cases: list[dict[str, Any]]) -> list[str]:
    """block_hash of (parent as hexadecimal digits, tokens, namespace), as such digits."""
    from serving.block_manager import block_hash

    names = [block_hash(bytes.fromhex(c["parent"]), c["tokens"], c["namespace"]) for c in cases]
    return [name.hex() for name in names]


def _spans(spans: list[dict[str, Any]]) -> Any:
    from serving.paged_attention import AttentionSpan

    return [AttentionSpan(s["start"], s["count"], s["first"], tuple(s["table"])) for s in spans]


def attended(
    query: np.ndarray, keys: np.ndarray, values: np.ndarray, spans: list[dict[str, Any]],
    dtype: str = "float32", strided: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """paged_attention over a pool that is already written; whether pool and query were left alone.

    dtype: what all three are turned into. strided: the query is every second row, head and number
    of a larger tensor.
    """
    import torch

    from serving.paged_attention import paged_attention

    kind = getattr(torch, dtype)
    q, k, v = (torch.tensor(array).to(kind) for array in (query, keys, values))
    if strided:
        wide = torch.full([2 * size for size in q.shape], torch.nan, dtype=kind)
        wide[::2, ::2, ::2] = q
        q = wide[::2, ::2, ::2]
    before = [tensor.clone() for tensor in (q, k, v)]
    out = paged_attention(q, k, v, _spans(spans))
    same = [
        torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip((q, k, v), before, strict=True)
    ]
    return {"out": out.double().numpy(), "dtype": str(out.dtype), "untouched": all(same)}


def attended_long(
    query: np.ndarray, keys: np.ndarray, values: np.ndarray, times: int, spans: list[dict[str, Any]]
) -> np.ndarray:
    """paged_attention over pools that are what was sent, `times` over: block b is sent[b % len]."""
    import torch

    from serving.paged_attention import paged_attention

    pools = [torch.from_numpy(array).repeat(times, 1, 1, 1) for array in (keys, values)]
    return paged_attention(torch.from_numpy(query), *pools, _spans(spans)).numpy()


def written(
    pool: np.ndarray, rows: np.ndarray, spans: list[dict[str, Any]], layers: int = 1,
    dtype: str = "float32",
) -> dict[str, Any]:  # fmt: skip
    """The slots of a batch, and a pool of `layers` alike with the rows written into its last."""
    import torch

    from serving.paged_attention import slot_mapping, write_cache

    slots = slot_mapping(_spans(spans), pool.shape[1])
    tensor = torch.tensor(pool).to(getattr(torch, dtype)).repeat(layers, 1, 1, 1, 1)
    write_cache(tensor[-1], torch.tensor(rows), slots)
    return {"slots": slots.numpy(), "dtype": str(slots.dtype), "pool": tensor.double().numpy()}
