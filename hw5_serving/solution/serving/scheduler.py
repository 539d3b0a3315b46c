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
        # BEGIN SOLUTION 5.3
        # The last token of an answer is never computed, so it needs no room.
        most = len(sequence.prompt) + max(sequence.sampling.max_new_tokens, 1) - 1
        room = self.blocks.num_blocks * self.blocks.block_size
        if most > room:
            raise ValueError(f"the request needs {most} cache slots, the pool has {room}")
        self.waiting.append(sequence)
        # END SOLUTION

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
        # BEGIN SOLUTION 5.3
        budget = self.config.token_budget
        plan: list[tuple[int, int, int]] = []
        preempted: list[int] = []
        place = 0
        while place < len(self.running) and budget > 0:
            sequence = self.running[place]
            done = sequence.num_computed_tokens
            if self._lacks_blocks(sequence, done + min(sequence.lag, budget)):
                sequence.proposed = []
            count = min(sequence.lag, budget)
            while self._lacks_blocks(sequence, done + count):
                victim = self.running.pop()
                self._preempt(victim)
                preempted.append(victim.request_id)
                if victim is sequence:
                    break
            else:
                self.blocks.allocate(sequence, done + count)
                plan.append((sequence.request_id, done, count))
                budget -= count
                place += 1
        while not preempted and self.waiting and budget > 0:
            entry = self._admit(self.waiting[0], budget)
            if entry is None:
                break
            self.running.append(self.waiting.popleft())
            plan.append(entry)
            budget -= entry[2]
        return ScheduledStep(tuple(plan), tuple(preempted))
        # END SOLUTION

    def finish_step(self, step: ScheduledStep, new_tokens: dict[int, list[int]]) -> list[Sequence]:
        """Account for a step that ran; returns the sequences that are now complete.

        new_tokens: by request id, tokens for requests that caught up: one, or several where guesses
        proved right. Tokens beyond the end of an answer are dropped. Of the positions that the step
        computed only those before the last token count: it was drawn just now, and what was computed
        in its place and behind it was a wrong guess. Only then are full blocks registered. Complete
        requests give their blocks back. Requests aborted meanwhile are passed over.
        """
        # BEGIN SOLUTION 5.3
        by_id = {sequence.request_id: sequence for sequence in self.running}
        complete: list[Sequence] = []
        for request_id, first, count in step.counts:
            sequence = by_id.get(request_id)
            if sequence is None:
                continue
            for token in new_tokens.get(request_id, ()):
                if not sequence.done:
                    sequence.token_ids.append(token)
            sequence.proposed = []
            sequence.num_computed_tokens = min(first + count, sequence.num_tokens - 1)
            self.blocks.register(sequence)
            if sequence.done:
                self._leave(sequence, Status.FINISHED)
                complete.append(sequence)
        return complete
        # END SOLUTION

    def abort(self, request_id: int) -> bool:
        """Drop a request wherever it stands, its blocks freed at once; whether there was one."""
        # BEGIN SOLUTION 5.3
        for sequence in (*self.running, *self.waiting):
            if sequence.request_id == request_id:
                self._leave(sequence, Status.ABORTED)
                return True
        return False
        # END SOLUTION

    def _admit(self, sequence: Sequence, budget: int) -> tuple[int, int, int] | None:
        # BEGIN SOLUTION 5.3
        if len(self.running) >= self.config.max_sequences:
            return None
        known = len(self.blocks.cached_prefix(sequence)) * self.blocks.block_size
        count = min(sequence.num_tokens - known, budget)
        if self._lacks_blocks(sequence, known + count):
            return None
        self.blocks.allocate(sequence, known + count)
        sequence.status = Status.RUNNING
        return sequence.request_id, known, count
        # END SOLUTION

    def _lacks_blocks(self, sequence: Sequence, reach: int) -> bool:
        # BEGIN SOLUTION 5.3
        return self.blocks.blocks_wanted(sequence, reach) > self.blocks.num_free
        # END SOLUTION

    def _preempt(self, sequence: Sequence) -> None:
        # BEGIN SOLUTION 5.3
        self.blocks.free(sequence)
        sequence.proposed = []
        sequence.status = Status.WAITING
        sequence.num_preemptions += 1
        self.waiting.appendleft(sequence)
        # END SOLUTION

    def _leave(self, sequence: Sequence, status: Status) -> None:
        # BEGIN SOLUTION 5.3
        self.blocks.free(sequence)
        sequence.status = status
        if sequence in self.running:
            self.running.remove(sequence)
        else:
            self.waiting.remove(sequence)
        # END SOLUTION
