"""Task 3.6: the key-value cache: keys and values of every position so far, kept, not recomputed."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from language_model.attention import attention_mask
from language_model.config import ModelConfig


class KVCache:
    """Room for `capacity` positions of each of `batch` rows, in every layer.

    keys, values: (num_layers, batch, num_kv_heads, capacity, head_dim). lengths: (batch,) int64,
    positions that hold a token; slot j of a row holds the token at position j, so rows may have
    other lengths than their neighbours.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch: int,
        capacity: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (config.num_layers, batch, config.num_kv_heads, capacity, config.head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.lengths = torch.zeros(batch, dtype=torch.int64, device=device)

    @property
    def capacity(self) -> int:
        """Positions that a row has room for."""
        return self.keys.shape[3]

    def update(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write the next positions of a layer; return all of that layer's that are in use.

        keys, values: (batch, num_kv_heads, time, head_dim), row b's for positions lengths[b],
        lengths[b] + 1, … Returns two views (batch, num_kv_heads, used, head_dim), used being the
        longest row's length after this step. `lengths` stays: all layers write to the same slots.
        Raises ValueError, before anything is written, where a row has no room left.
        """
        # BEGIN SOLUTION 3.6
        time = keys.shape[2]
        used = self._used(time)
        first = int(self.lengths[0])
        if bool((self.lengths == first).all()):
            self.keys[layer, :, :, first : first + time] = keys
            self.values[layer, :, :, first : first + time] = values
        else:
            slots = self.lengths[:, None] + torch.arange(time, device=keys.device)  # (batch, time)
            rows = torch.arange(len(slots), device=keys.device)[:, None]
            self.keys[layer][rows, :, slots] = keys.transpose(1, 2)
            self.values[layer][rows, :, slots] = values.transpose(1, 2)
        return self.keys[layer, :, :, :used], self.values[layer, :, :, :used]
        # END SOLUTION

    def mask(self, time: int) -> Tensor | None:
        """What the next `time` positions of each row may see: (batch, 1, time, used) bool, or None.

        None says that all of it may be seen: one position a row, all rows equally long.
        """
        # BEGIN SOLUTION 3.6
        used = self._used(time)
        if time == 1 and bool((self.lengths == self.lengths[0]).all()):
            return None
        queries = self.lengths[:, None] + torch.arange(time, device=self.lengths.device)
        keys = torch.arange(used, device=self.lengths.device)
        return attention_mask(queries, keys.expand(len(queries), used))
        # END SOLUTION

    def advance(self, time: int) -> None:
        """All layers have written: the next step starts `time` positions later."""
        # BEGIN SOLUTION 3.6
        self.lengths += time
        # END SOLUTION

    def truncate(self, lengths: Tensor | Sequence[int]) -> None:
        """Forget what lies at and after position lengths[b] of each row.

        lengths: (batch,), none above the row's own. Nothing is copied or cleared: the slots behind
        a row's length are never seen, and the next step writes over them. That is also how padding
        on the right leaves the cache: run the padded prompts, then truncate to their true lengths.
        Raises ValueError where a row would grow.
        """
        # BEGIN SOLUTION 3.6
        shorter = torch.as_tensor(lengths, dtype=torch.int64, device=self.lengths.device)
        if bool((shorter > self.lengths).any()) or bool((shorter < 0).any()):
            raise ValueError(f"can't truncate lengths {self.lengths.tolist()} to {shorter.tolist()}")
        self.lengths.copy_(shorter)
        # END SOLUTION

    def select(self, rows: Tensor | Sequence[int]) -> KVCache:
        """A cache of its own that holds only these rows, in this order; a row may come twice.

        rows: (new batch,) integers. Capacity, type and device stay; nothing is shared with `self`.
        """
        # BEGIN SOLUTION 3.6
        index = torch.as_tensor(rows, dtype=torch.int64, device=self.keys.device)
        other = copy.copy(self)
        other.keys, other.values = self.keys.index_select(1, index), self.values.index_select(1, index)
        other.lengths = self.lengths.index_select(0, index)
        return other
        # END SOLUTION

    def repeat(self, times: int) -> KVCache:
        """A cache of its own with each row `times` times, copies of a row side by side.

        For many continuations of one prompt: the prompt runs through the model once.
        """
        # BEGIN SOLUTION 3.6
        rows = torch.arange(len(self.lengths), device=self.lengths.device)
        return self.select(rows.repeat_interleave(times))
        # END SOLUTION

    def _used(self, time: int) -> int:
        """The longest row after `time` more positions; ValueError where there is no room."""
        used = int(self.lengths.max()) + time
        if used > self.capacity:
            raise ValueError(
                f"the cache has room for {self.capacity} positions; {used} would be in use"
            )
        return used
