"""Given: requests in, tokens out, step by step."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from serving.block_manager import BlockManager
from serving.config import EngineConfig
from serving.kv_cache import KVPool
from serving.lora_batch import LoRABank
from serving.model import Llama
from serving.model_runner import ModelRunner
from serving.sampling import distribution, draw
from serving.scheduler import ScheduledStep, Scheduler
from serving.sequence import SamplingParams, Sequence, Status
from serving.speculative import Proposal, Proposer, verify


class Weights(Protocol):
    """Where the engine gets its models from: `FixedWeights`, or 5.11's `VersionedWeights`."""

    @property
    def active(self) -> str: ...  # the version that new requests get

    def acquire(self, version: str | None = None) -> str: ...

    def release(self, version: str) -> None: ...

    def model(self, version: str) -> Llama: ...

    def namespace(self, version: str) -> str: ...

    def activate(self, version: str) -> None: ...

    def rollback(self) -> str: ...


class FixedWeights:
    """One model, of version "", for ever."""

    active = ""

    def __init__(self, model: Llama) -> None:
        self._model = model

    def acquire(self, version: str | None = None) -> str:
        """The one version. KeyError for another."""
        if version:
            raise KeyError(f"there is no version {version!r}: the engine has one model")
        return ""

    def release(self, version: str) -> None:
        """Nothing to do."""

    def model(self, version: str) -> Llama:
        """The model."""
        return self._model

    def namespace(self, version: str) -> str:
        """One for all."""
        return ""

    def activate(self, version: str) -> None:
        """KeyError: there is no other."""
        raise KeyError(f"there is no version {version!r}: the engine has one model")

    def rollback(self) -> str:
        """KeyError: there is no other."""
        raise KeyError("there is no version before: the engine has one model")


class Engine:
    """Weights, pool, block manager, scheduler; `history` keeps each step's plan.

    bank: adapters that requests may name (5.11). proposer: guesses tokens ahead (5.4), up to
    `config.num_guesses` for each request and step. Not for several threads at once.
    """

    def __init__(
        self, weights: Llama | Weights, config: EngineConfig, *,
        bank: LoRABank | None = None, proposer: Proposer | None = None,
    ) -> None:  # fmt: skip
        self.config = config
        self.weights: Weights = FixedWeights(weights) if isinstance(weights, Llama) else weights
        self.bank = bank
        self.proposer = proposer
        model = self.weights.model(self.weights.active)
        self.sizes = model.sizes
        vocabulary = getattr(proposer, "vocab_size", model.sizes.vocab_size)
        if vocabulary != model.sizes.vocab_size:
            raise ValueError(
                f"the draft has {vocabulary} tokens, the model {model.sizes.vocab_size}"
            )
        self.blocks = BlockManager(config.num_blocks, config.block_size, config.prefix_caching)
        self.scheduler = Scheduler(config, self.blocks)
        pool = KVPool(model.sizes, config, model.norm.weight.dtype)
        self.runner = ModelRunner(self.weights.model, pool, bank)
        self.sequences: dict[int, Sequence] = {}
        self.history: list[ScheduledStep] = []
        self.new_tokens: dict[int, list[int]] = {}  # what the last step added, by request id
        self._free_to_move: set[int] = set()  # requests that named no version
        self._generators: dict[int, torch.Generator] = {}
        self._proposals: dict[int, Proposal] = {}
        self._next_id = 0

    def submit(
        self, prompt: list[int], sampling: SamplingParams | None = None, *,
        adapter: str | None = None, version: str | None = None,
    ) -> int:  # fmt: skip
        """Queue a request; its id.

        ValueError where it can never be served, KeyError where adapter or version are not there.
        version None is the one that is active when the request begins.
        """
        sequence = Sequence(self._next_id, list(prompt), sampling or SamplingParams())
        reach = len(prompt) + sequence.sampling.max_new_tokens
        if reach > self.sizes.max_positions:
            raise ValueError(
                f"{reach} positions are asked for, the model has {self.sizes.max_positions}"
            )
        if not 0 <= min(prompt) <= max(prompt) < self.sizes.vocab_size:
            raise ValueError(f"a token id is not in 0 … {self.sizes.vocab_size - 1}")
        self._equip(sequence, adapter, version)
        try:
            self.scheduler.add(sequence)
        except BaseException:
            self._let_go(sequence)
            raise
        self._next_id += 1
        self.sequences[sequence.request_id] = sequence
        if version is None:
            self._free_to_move.add(sequence.request_id)
        if sequence.sampling.temperature > 0:
            self._generators[sequence.request_id] = _seeded(sequence.sampling.seed)
        return sequence.request_id

    def abort(self, request_id: int) -> bool:
        """Drop a request; its blocks are free when this returns. Whether there was one."""
        sequence = self.sequences.get(request_id)
        if sequence is None:
            return False
        self.scheduler.abort(request_id)
        self._leave(sequence)
        return True

    @property
    def busy(self) -> bool:
        """Whether any request is not complete."""
        return bool(self.sequences)

    def step(self) -> list[Sequence]:
        """Plan and run one step; the sequences that ended with it.

        One whose logits are not finite ends as FAILED, with an `error`; the others go on.
        """
        self._propose()
        plan = self.scheduler.schedule()
        self.history.append(plan)
        if not plan.counts:
            raise RuntimeError("the scheduler planned nothing although requests wait")
        logits = self.runner.run(plan, self.sequences)
        failed = [self._fail(name) for name, rows in logits.items() if not rows.isfinite().all()]
        for sequence in failed:
            del logits[sequence.request_id]
        before = {request_id: self.sequences[request_id].num_tokens for request_id in logits}
        drawn = {request_id: self._draw(request_id, rows) for request_id, rows in logits.items()}
        complete = self.scheduler.finish_step(plan, drawn)
        self.new_tokens = {
            request_id: self.sequences[request_id].token_ids[known:]
            for request_id, known in before.items()
        }
        for sequence in complete:
            self._leave(sequence)
        return complete + failed

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

    def activate(self, version: str) -> None:
        """Let new requests, and those that have not begun, have another version of the weights."""
        self.weights.activate(version)
        self._renew_waiting()

    def rollback(self) -> str:
        """The same with the version before this one; its name."""
        version = self.weights.rollback()
        self._renew_waiting()
        return version

    def _renew_waiting(self) -> None:
        """Move requests that have not begun, and named no version, to the active one."""
        for sequence in self.scheduler.waiting:
            begun = sequence.num_preemptions or sequence.answer
            if not begun and sequence.request_id in self._free_to_move:
                old, sequence.version = sequence.version, self.weights.acquire()
                self.weights.release(old)
                self._name_space(sequence)

    def _equip(self, sequence: Sequence, adapter: str | None, version: str | None) -> None:
        """Pin the version and the adapter's slot for one request."""
        sequence.version, sequence.adapter = self.weights.acquire(version), adapter
        if adapter is not None:
            try:
                if self.bank is None:
                    raise KeyError(f"adapter {adapter!r} is not loaded: the engine has no adapters")
                sequence.adapter_slot = self.bank.acquire(adapter)
            except BaseException:
                self.weights.release(sequence.version)
                raise
        self._name_space(sequence)

    def _name_space(self, sequence: Sequence) -> None:
        """What its cached keys and values depend on. A name may be given to other weights later."""
        parts = [self.weights.namespace(sequence.version)]
        if self.bank is not None and sequence.adapter_slot >= 0:
            use = self.bank.use[sequence.adapter_slot]
            parts.append(str(use.serial))
        sequence.namespace = "/".join(parts)

    def _let_go(self, sequence: Sequence) -> None:
        self.weights.release(sequence.version)
        if self.bank is not None and sequence.adapter_slot >= 0:
            self.bank.release(sequence.adapter_slot)

    def _leave(self, sequence: Sequence) -> None:
        self._let_go(sequence)
        for kept in (self.sequences, self._generators, self._proposals):
            kept.pop(sequence.request_id, None)
        self._free_to_move.discard(sequence.request_id)
        if self.proposer is not None:
            self.proposer.forget(sequence.request_id)

    def _fail(self, request_id: int) -> Sequence:
        sequence = self.sequences[request_id]
        self.abort(request_id)
        sequence.status = Status.FAILED
        sequence.error = f"the logits of version {sequence.version!r} are not finite"
        return sequence

    def _propose(self) -> None:
        """Guesses for the requests that lack one token; never more than the answer has room for.

        Nor more than the budget has room for: a guess must not cost another request its token.
        """
        running = self.scheduler.running
        if self.proposer is None or not running:
            return
        most = min(self.config.num_guesses, self.config.token_budget // len(running) - 1)
        for sequence in running:
            room = sequence.sampling.max_new_tokens - len(sequence.answer) - 1
            if sequence.lag == 1 and min(room, most) > 0:
                proposal = self.proposer.propose(sequence, min(room, most))
                self._proposals[sequence.request_id] = proposal
                sequence.proposed = list(proposal.tokens)

    def _draw(self, request_id: int, rows: Tensor) -> list[int]:
        """The tokens that follow: one of the last row, or those that `verify` lets through."""
        sequence, generator = self.sequences[request_id], self._generators.get(request_id)
        guesses = sequence.proposed[: len(rows) - 1]
        if not guesses and sequence.sampling.temperature == 0:
            return [int(rows[0].argmax())]
        probs = distribution(rows, sequence.sampling)
        if not guesses:
            return [draw(probs[0], generator)]
        drawn_from = self._proposals[request_id].probs
        if drawn_from is not None:
            drawn_from = drawn_from[: len(guesses)]
        return verify(guesses, probs, drawn_from, generator)


def _seeded(seed: int | None) -> torch.Generator:
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator
