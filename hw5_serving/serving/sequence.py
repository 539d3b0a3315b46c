"""Given: one request on its way through the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Status(Enum):
    """Where a sequence stands."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    ABORTED = "aborted"
    FAILED = "failed"


@dataclass(frozen=True)
class SamplingParams:
    """temperature 0 is greedy; stop_ids end an answer and belong to it."""

    max_new_tokens: int = 16
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int | None = None
    stop_ids: tuple[int, ...] = ()


@dataclass(eq=False)
class Sequence:
    """Tokens, how many of them lie computed in the cache, and in which blocks.

    namespace: what the cached keys and values depend on besides the tokens: the version of the
    weights, the adapter. Position p of the text lies in slot p % block_size of block
    block_table[p // block_size]. proposed: tokens guessed to come next (5.4); the next step computes
    and checks them. They are no part of the text until then. version, adapter, adapter_slot (−1: none):
    what the model runner runs it with (5.11). error: why it failed.
    """

    request_id: int
    prompt: list[int]
    sampling: SamplingParams = field(default_factory=SamplingParams)
    namespace: str = ""
    token_ids: list[int] = field(init=False)
    num_computed_tokens: int = 0
    block_table: list[int] = field(default_factory=list)
    status: Status = Status.WAITING
    num_preemptions: int = 0
    proposed: list[int] = field(default_factory=list)
    version: str = ""
    adapter: str | None = None
    adapter_slot: int = -1
    error: str = ""

    def __post_init__(self) -> None:
        if not self.prompt:
            raise ValueError("a request needs at least one token of prompt")
        self.token_ids = list(self.prompt)

    @property
    def num_tokens(self) -> int:
        """Tokens so far, prompt included."""
        return len(self.token_ids)

    @property
    def lag(self) -> int:
        """How many tokens, guessed ones included, `num_computed_tokens` has to catch up."""
        return self.num_tokens + len(self.proposed) - self.num_computed_tokens

    @property
    def answer(self) -> list[int]:
        """The tokens after the prompt."""
        return self.token_ids[len(self.prompt) :]

    @property
    def done(self) -> bool:
        """Whether the answer is complete: as long as asked for, or stopped."""
        answer = self.answer
        if len(answer) >= self.sampling.max_new_tokens:
            return True
        return bool(answer) and answer[-1] in self.sampling.stop_ids
