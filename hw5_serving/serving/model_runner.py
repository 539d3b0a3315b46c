"""Given: one step of the plan, run on the model."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from serving.kv_cache import KVPool
from serving.model import Llama
from serving.paged_attention import AttentionSpan, paged_attention, slot_mapping, write_cache
from serving.scheduler import ScheduledStep
from serving.sequence import Sequence


class ModelRunner:
    """Turns a plan into one flat batch, and gives the logits of each sequence that caught up."""

    def __init__(self, model: Llama, pool: KVPool) -> None:
        self.model = model
        self.pool = pool
        self.steps = 0
        self.tokens = 0

    @torch.inference_mode()
    def run(self, step: ScheduledStep, sequences: Mapping[int, Sequence]) -> dict[int, Tensor]:
        """Logits (vocab,) after the last token, by request id, of those whose text is all computed."""
        ids: list[int] = []
        positions: list[int] = []
        spans: list[AttentionSpan] = []
        ends: dict[int, int] = {}
        for request_id, first, count in step.counts:
            sequence = sequences[request_id]
            spans.append(AttentionSpan(len(ids), count, first, tuple(sequence.block_table)))
            ids.extend(sequence.token_ids[first : first + count])
            positions.extend(range(first, first + count))
            if first + count == sequence.num_tokens:
                ends[request_id] = len(ids) - 1
        if not ids:
            return {}
        slots = slot_mapping(spans, self.pool.keys.shape[2])

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            write_cache(self.pool.keys[layer], key, slots)
            write_cache(self.pool.values[layer], value, slots)
            return paged_attention(query, self.pool.keys[layer], self.pool.values[layer], spans)

        hidden = self.model(torch.tensor(ids), torch.tensor(positions), attend)
        self.steps += 1
        self.tokens += len(ids)
        if not ends:
            return {}
        logits = self.model.compute_logits(hidden[list(ends.values())])
        return dict(zip(ends, logits, strict=True))
