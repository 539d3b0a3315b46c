"""Drivers of tasks 5.1 and 5.2: blocks, and attention over them."""

from __future__ import annotations

from typing import Any

import numpy as np


class Blocks:
    """A block manager and sequences by number; a state comes back after every operation."""

    def __init__(self, num_blocks: int, block_size: int, prefix_caching: bool) -> None:
        from serving.block_manager import BlockManager

        self.manager = BlockManager(num_blocks, block_size, prefix_caching)
        self.sequences: dict[int, Any] = {}

    def add(self, number: int, tokens: list[int], namespace: str = "") -> None:
        """A sequence that holds nothing yet."""
        from serving.sequence import Sequence

        self.sequences[number] = Sequence(number, [int(t) for t in tokens], namespace=namespace)

    def run(self, operation: str, number: int, argument: int = 0, tokens: Any = ()) -> dict:
        """One operation; its name of exception, "" for none, and the state afterwards."""
        sequence, error, copies = self.sequences[number], "", []
        try:
            if operation == "allocate":
                self.manager.allocate(sequence, argument)
            elif operation == "compute":
                sequence.num_computed_tokens = argument
                self.manager.register(sequence)
            elif operation == "append":
                sequence.token_ids.extend(int(t) for t in tokens)
            elif operation == "free":
                self.manager.free(sequence)
            elif operation == "fork":
                copies = self.manager.fork(sequence, self.sequences[argument])
            elif operation == "clear":
                self.manager.clear_cache()
        except NotImplementedError:
            raise
        except Exception as caught:
            error = type(caught).__name__
        return {
            "error": error,
            "copies": [[int(a), int(b)] for a, b in copies],
            "tables": {str(n): [int(b) for b in s.block_table] for n, s in self.sequences.items()},
            "computed": {str(n): int(s.num_computed_tokens) for n, s in self.sequences.items()},
            "free": int(self.manager.num_free),
        }


def block_manager(num_blocks: int, block_size: int, prefix_caching: bool = True) -> Blocks:
    """A session."""
    return Blocks(num_blocks, block_size, prefix_caching)


def hashed(cases: list[dict[str, Any]]) -> list[str]:
    """block_hash of (parent as hexadecimal digits, tokens, namespace), as such digits."""
    from serving.block_manager import block_hash

    return [
        block_hash(bytes.fromhex(c["parent"]), c["tokens"], c["namespace"]).hex() for c in cases
    ]


def attended(
    query: np.ndarray, keys: np.ndarray, values: np.ndarray, spans: list[dict[str, Any]]
) -> np.ndarray:
    """paged_attention over a pool that is already written."""
    import torch

    from serving.paged_attention import AttentionSpan, paged_attention

    made = [AttentionSpan(s["start"], s["count"], s["first"], tuple(s["table"])) for s in spans]
    return paged_attention(
        torch.tensor(query), torch.tensor(keys), torch.tensor(values), made
    ).numpy()


def written(
    pool: np.ndarray, rows: np.ndarray, spans: list[dict[str, Any]]
) -> tuple[np.ndarray, np.ndarray]:
    """The slots of a batch, and the pool with its rows written there."""
    import torch

    from serving.paged_attention import AttentionSpan, slot_mapping, write_cache

    made = [AttentionSpan(s["start"], s["count"], s["first"], tuple(s["table"])) for s in spans]
    slots = slot_mapping(made, pool.shape[1])
    tensor = torch.tensor(pool)
    write_cache(tensor, torch.tensor(rows), slots)
    return slots.numpy(), tensor.numpy()
