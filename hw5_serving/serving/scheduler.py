"""Task 5.3: which tokens of which requests the next step computes. One rule: catch up."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from serving.block_manager import BlockManager
from serving.config import EngineConfig
from serving.sequence import Sequence, Status


@dataclass(frozen=True)
class ScheduledStep:
    """The plan of one step, as data.

    counts: (request id, first position, tokens to compute), in the order of the flat batch.
    preempted: ids of requests that gave their blocks back and wait again.
    """

    counts: tuple[tuple[int, int, int], ...]
    preempted: tuple[int, ...] = ()

    @property
    def num_tokens(self) -> int:
        """Tokens the step computes."""
        return sum(count for _, _, count in self.counts)


class Scheduler:
    """Continuous batching (Yu et al., 2022, Orca) with chunked prefill (Agrawal et al., 2024).

    There are no phases: each step lets `num_computed_tokens` of some requests catch up with
    `num_tokens` and the tokens guessed beyond it (`Sequence.lag` counts both). A prompt is a long way
    behind, a decoding request one token and its guesses.
    """

    def __init__(self, config: EngineConfig, blocks: BlockManager) -> None:
        self.config = config
        self.blocks = blocks
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []  # from oldest to newest

    def add(self, sequence: Sequence) -> None:
        """Queue a request. Raises ValueError where it could never fit into the whole pool."""
        raise NotImplementedError("task 5.3: Scheduler.add")

    def schedule(self) -> ScheduledStep:
        """Plan a step and give its sequences the blocks for it.

        Running requests come first, from oldest to newest, then waiting ones in order, as long as
        the token budget, max_sequences and free blocks allow; nobody overtakes the head of the
        queue. A request gets what it lacks or what is left of the budget. Where a running request
        gets no block, its guesses (`proposed`) are dropped first: nobody is preempted for a guess.
        Then the newest running one is preempted (itself, if it is the newest): its blocks are freed,
        its guesses dropped, its tokens kept, its num_preemptions goes up by one, and it waits at the
        head of the queue to be recomputed. No request is admitted in a step that preempted one.
        Whoever is admitted is RUNNING, whoever is preempted WAITING.
        """
        raise NotImplementedError("task 5.3: Scheduler.schedule")

    def finish_step(self, step: ScheduledStep, new_tokens: dict[int, list[int]]) -> list[Sequence]:
        """Account for a step that ran; returns the sequences that are now complete.

        new_tokens: by request id, tokens for requests that caught up: one, or several where guesses
        proved right. Tokens beyond the end of an answer are dropped. Of the positions that the step
        computed only those before the last token count: it was drawn just now, and what was computed
        in its place and behind it was a wrong guess. Only then are full blocks registered. Complete
        requests give their blocks back. Requests aborted meanwhile are passed over.
        """
        raise NotImplementedError("task 5.3: Scheduler.finish_step")

    def abort(self, request_id: int) -> bool:
        """Drop a request wherever it stands, its blocks freed at once; whether there was one."""
        raise NotImplementedError("task 5.3: Scheduler.abort")

    def _admit(self, sequence: Sequence, budget: int) -> tuple[int, int, int] | None:
        raise NotImplementedError("task 5.3: Scheduler._admit")

    def _lacks_blocks(self, sequence: Sequence, reach: int) -> bool:
        raise NotImplementedError("task 5.3: Scheduler._lacks_blocks")

    def _preempt(self, sequence: Sequence) -> None:
        raise NotImplementedError("task 5.3: Scheduler._preempt")

    def _leave(self, sequence: Sequence, status: Status) -> None:
        raise NotImplementedError("task 5.3: Scheduler._leave")
