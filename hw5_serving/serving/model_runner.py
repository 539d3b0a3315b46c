"""Given: one step of the plan, run on the model."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from serving.kv_cache import KVPool
from serving.lora_batch import LoRABank
from serving.model import Llama
from serving.paged_attention import AttentionSpan, paged_attention, slot_mapping, write_cache
from serving.scheduler import ScheduledStep
from serving.sequence import Sequence

Work = list[tuple[Sequence, int, int]]  # (sequence, first position, tokens to compute)


def lora_widths(model: Llama) -> dict[str, tuple[int, int]]:
    """(in_features, out_features) of every linear layer, by name: for a `LoRABank` of this model."""
    return {
        name: (module.in_features, module.out_features)
        for name, module in model.named_modules()
        if hasattr(module, "in_features") and name.startswith("layers.")
    }


class ModelRunner:
    """Turns a plan into flat batches, one for each version of the weights that it needs.

    model_of: name of a version -> its model, asked anew at every step. With a `bank`, the layers that
    it names add each token's low-rank update to what they give.
    """

    def __init__(
        self, model_of: Callable[[str], Llama], pool: KVPool, bank: LoRABank | None = None
    ) -> None:
        self.model_of = model_of
        self.pool = pool
        self.bank = bank
        self.steps = 0
        self.tokens = 0
        self._slots: Tensor | None = None
        self._with_hooks: weakref.WeakSet[Llama] = weakref.WeakSet()

    @torch.inference_mode()
    def run(self, step: ScheduledStep, sequences: Mapping[int, Sequence]) -> dict[int, Tensor]:
        """Logits by request id, of those whose text is all computed.

        (rows, vocab): the row after the last token, and one more after each guess that was computed.
        """
        by_version: dict[str, Work] = {}
        for request_id, first, count in step.counts:
            sequence = sequences[request_id]
            by_version.setdefault(sequence.version, []).append((sequence, first, count))
        found: dict[int, Tensor] = {}
        for version, work in by_version.items():
            found.update(self._run_version(self.model_of(version), work))
        self.steps += 1
        self.tokens += step.num_tokens
        return found

    def _run_version(self, model: Llama, work: Work) -> dict[int, Tensor]:
        ids: list[int] = []
        positions: list[int] = []
        slots_of_adapters: list[int] = []
        spans: list[AttentionSpan] = []
        wanted: dict[int, list[int]] = {}  # request id -> rows of the batch whose logits it needs
        for sequence, first, count in work:
            start, end = len(ids), first + count
            spans.append(AttentionSpan(start, count, first, tuple(sequence.block_table)))
            text = sequence.token_ids + sequence.proposed
            ids.extend(text[first:end])
            positions.extend(range(first, end))
            slots_of_adapters.extend([sequence.adapter_slot] * count)
            rows = [start + place - first for place in range(sequence.num_tokens - 1, end)]
            if rows:
                wanted[sequence.request_id] = rows
        slots = slot_mapping(spans, self.pool.keys.shape[2])

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            write_cache(self.pool.keys[layer], key, slots)
            write_cache(self.pool.values[layer], value, slots)
            return paged_attention(query, self.pool.keys[layer], self.pool.values[layer], spans)

        self._use_adapters(model, slots_of_adapters)
        hidden = model(torch.tensor(ids), torch.tensor(positions), attend)
        if not wanted:
            return {}
        logits = model.compute_logits(hidden[[row for rows in wanted.values() for row in rows]])
        parts = logits.split([len(rows) for rows in wanted.values()])
        return dict(zip(wanted, parts, strict=True))

    def _use_adapters(self, model: Llama, slots: list[int]) -> None:
        """Let the layers that the bank names add what the tokens' adapters say."""
        self._slots = torch.tensor(slots) if max(slots) >= 0 else None
        if self.bank is None or model in self._with_hooks:
            return
        for name in self.bank.widths:
            model.get_submodule(name).register_forward_hook(self._hook(self.bank, name))
        self._with_hooks.add(model)

    def _hook(self, bank: LoRABank, layer: str) -> Callable[..., Tensor]:
        def add(_module: object, args: tuple[Tensor], out: Tensor) -> Tensor:
            if self._slots is not None:
                bank.add_updates(layer, args[0], self._slots, out)
            return out

        return add
