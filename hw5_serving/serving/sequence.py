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
    block_table[p // block_size].
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

    def __post_init__(self) -> None:
        if not self.prompt:
            raise ValueError("a request needs at least one token of prompt")
        self.token_ids = list(self.prompt)

    @property
    def num_tokens(self) -> int:
        """Tokens so far, prompt included."""
        return len(self.token_ids)

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
