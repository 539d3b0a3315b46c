"""Given: requests in, tokens out, step by step."""

from __future__ import annotations

import torch

from serving.block_manager import BlockManager
from serving.config import EngineConfig
from serving.kv_cache import KVPool
from serving.model import Llama
from serving.model_runner import ModelRunner
from serving.sampling import distribution, draw
from serving.scheduler import ScheduledStep, Scheduler
from serving.sequence import SamplingParams, Sequence


class Engine:
    """Model, pool, block manager and scheduler; `history` keeps each step's plan."""

    def __init__(self, model: Llama, config: EngineConfig) -> None:
        self.config = config
        self.blocks = BlockManager(config.num_blocks, config.block_size, config.prefix_caching)
        self.scheduler = Scheduler(config, self.blocks)
        self.runner = ModelRunner(model.eval(), KVPool(model.sizes, config, model.norm.weight.dtype))
        self.sequences: dict[int, Sequence] = {}
        self.history: list[ScheduledStep] = []
        self._generators: dict[int, torch.Generator] = {}
        self._next_id = 0

    def submit(
        self, prompt: list[int], sampling: SamplingParams | None = None, namespace: str = ""
    ) -> int:
        """Queue a request; its id. ValueError where it can never be served."""
        sequence = Sequence(self._next_id, prompt, sampling or SamplingParams(), namespace)
        reach = len(prompt) + sequence.sampling.max_new_tokens
        longest = self.runner.model.sizes.max_positions
        if reach > longest:
            raise ValueError(f"{reach} positions are asked for, the model has {longest}")
        self.scheduler.add(sequence)
        self._next_id += 1
        self.sequences[sequence.request_id] = sequence
        if sequence.sampling.temperature > 0:
            generator = torch.Generator()
            if sequence.sampling.seed is None:
                generator.seed()
            else:
                generator.manual_seed(sequence.sampling.seed)
            self._generators[sequence.request_id] = generator
        return sequence.request_id

    def abort(self, request_id: int) -> bool:
        """Drop a request; its blocks are free when this returns."""
        self._generators.pop(request_id, None)
        self.sequences.pop(request_id, None)
        return self.scheduler.abort(request_id)

    @property
    def busy(self) -> bool:
        """Whether any request is not complete."""
        return bool(self.scheduler.running or self.scheduler.waiting)

    def step(self) -> list[Sequence]:
        """Plan and run one step; the sequences that it completed."""
        plan = self.scheduler.schedule()
        self.history.append(plan)
        if not plan.counts:
            raise RuntimeError("the scheduler planned nothing although requests wait")
        logits = self.runner.run(plan, self.sequences)
        new: dict[int, list[int]] = {}
        for request_id, row in logits.items():
            probs = distribution(row[None], self.sequences[request_id].sampling)[0]
            new[request_id] = [draw(probs, self._generators.get(request_id))]
        complete = self.scheduler.finish_step(plan, new)
        for sequence in complete:
            self.sequences.pop(sequence.request_id)
            self._generators.pop(sequence.request_id, None)
        return complete

    def generate(
        self, prompts: list[list[int]], sampling: SamplingParams | list[SamplingParams] | None = None
    ) -> list[list[int]]:
        """Answers (new tokens, a stop token included) to prompts, in their order."""
        each = sampling if isinstance(sampling, list) else [sampling] * len(prompts)
        ids = [self.submit(p, s) for p, s in zip(prompts, each, strict=True)]
        answers: dict[int, list[int]] = {}
        while self.busy:
            answers.update({done.request_id: done.answer for done in self.step()})
        return [answers[request_id] for request_id in ids]
