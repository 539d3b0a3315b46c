"""Drivers of tasks 5.3 and 5.4: a scheduler without a model, the engine, guesses, their check."""

from __future__ import annotations

from typing import Any

import numpy as np


class Scheduling:
    """Scheduler and block manager without a model; the tokens come from the caller."""

    def __init__(self, config: dict[str, Any]) -> None:
        from serving.block_manager import BlockManager
        from serving.config import EngineConfig
        from serving.scheduler import Scheduler

        made = EngineConfig(**config)
        self.blocks = BlockManager(made.num_blocks, made.block_size, made.prefix_caching)
        self.scheduler = Scheduler(made, self.blocks)
        self.sequences: dict[int, Any] = {}
        self.plan: Any = None

    def add(
        self,
        number: int,
        prompt: list[int],
        max_new_tokens: int,
        stop_ids: list[int],
        namespace: str,
    ) -> str:
        """Queue a request; the name of the exception, "" for none."""
        from serving.sequence import SamplingParams, Sequence

        params = SamplingParams(max_new_tokens=max_new_tokens, stop_ids=tuple(stop_ids))
        sequence = Sequence(number, prompt, params, namespace)
        try:
            self.scheduler.add(sequence)
        except ValueError as error:
            return type(error).__name__
        self.sequences[number] = sequence
        return ""

    def guess(self, guesses: list[list[int]]) -> None:
        """Tokens guessed for the next step: [request id, tokens …] each."""
        for number, *tokens in guesses:
            self.sequences[number].proposed = tokens

    def schedule(self) -> dict[str, Any]:
        """Plan a step."""
        self.plan = self.scheduler.schedule()
        return {
            "counts": [[int(n) for n in entry] for entry in self.plan.counts],
            "preempted": [int(number) for number in self.plan.preempted],
            "tokens": int(self.plan.num_tokens),
            **self.state(),
        }

    def finish(self, new: list[list[int]]) -> dict[str, Any]:
        """End the planned step; new: [request id, tokens …] each."""
        found = {number: tokens for number, *tokens in new}
        complete = self.scheduler.finish_step(self.plan, found)
        return {"complete": [int(s.request_id) for s in complete], **self.state()}

    def abort(self, number: int) -> dict[str, Any]:
        """Drop a request."""
        return {"found": bool(self.scheduler.abort(number)), **self.state()}

    def clear(self) -> None:
        """Forget the names of all cached blocks."""
        self.blocks.clear_cache()

    def state(self) -> dict[str, Any]:
        """Of every request since the last state: table, tokens, answer and status; free blocks."""
        scheduler, every = self.scheduler, self.sequences.items()
        found = {
            "running": [int(s.request_id) for s in scheduler.running],
            "waiting": [int(s.request_id) for s in scheduler.waiting],
            "tables": {str(n): [int(b) for b in s.block_table] for n, s in every},
            "computed": {str(n): int(s.num_computed_tokens) for n, s in every},
            "preemptions": {str(n): int(s.num_preemptions) for n, s in every},
            "answers": {str(n): [int(t) for t in s.answer] for n, s in every},
            "status": {str(n): s.status.value for n, s in every},
            "free": int(self.blocks.num_free),
        }
        alive = {id(sequence) for sequence in (*scheduler.running, *scheduler.waiting)}
        self.sequences = {n: s for n, s in every if id(s) in alive}
        return found


def llama(sizes: dict[str, Any], weights: dict[str, np.ndarray]) -> Any:
    """A model in float64."""
    import torch

    from serving.config import LlamaSizes
    from serving.model import Llama

    model = Llama(LlamaSizes(**sizes)).double()
    model.load_state_dict({name: torch.tensor(array).double() for name, array in weights.items()})
    return model


def proposer(options: dict[str, Any] | None) -> Any:
    """None; LookupProposer of {"longest", "shortest"}; DraftProposer of {"sizes", "weights"}."""
    from serving.speculative import DraftProposer, LookupProposer

    if not options:
        return None
    return DraftProposer(llama(**options)) if "weights" in options else LookupProposer(**options)


def served(
    sizes: dict[str, Any], weights: dict[str, np.ndarray], config: dict[str, Any],
    events: list[dict[str, Any]], guesses: dict[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """An engine in float64 through a list of events, each at its step, until nothing is left.

    An event has "at" and "prompt" with fields of SamplingParams in "sampling", or "abort": an id.
    Ids count the events with a prompt, refused ones too. Each step's plan, the answers by id, the
    ids refused, what abort said, the free blocks after all.
    """
    from serving.config import EngineConfig
    from serving.engine import Engine
    from serving.sequence import SamplingParams

    engine = Engine(llama(sizes, weights), EngineConfig(**config), proposer=proposer(guesses))
    names: dict[int, int] = {}  # the engine's id -> ours
    answers: dict[str, list[int]] = {}
    refused: list[int] = []
    aborts: list[list[int]] = []
    free: list[int] = []
    left, step, count = list(events), 0, 0
    while left or engine.busy:
        while left and left[0]["at"] <= step:
            event = left.pop(0)
            if "abort" in event:
                own = [n for n, ours in names.items() if ours == event["abort"]]
                aborts.append([event["abort"], int(any([engine.abort(n) for n in own]))])
                continue
            try:
                names[engine.submit(event["prompt"], SamplingParams(**event["sampling"]))] = count
            except ValueError:
                refused.append(count)
            count += 1
        if engine.busy:
            for done in engine.step():
                answers[str(names[done.request_id])] = [int(t) for t in done.answer]
            free.append(int(engine.blocks.num_free))
        step += 1
    return {
        "answers": answers, "refused": refused, "aborts": aborts, "free": free,
        "plans": [[[names[n], int(a), int(b)] for n, a, b in p.counts] for p in engine.history],
        "preempted": [[names[n] for n in p.preempted] for p in engine.history],
        "end": int(engine.blocks.num_free),
    }  # fmt: skip


def looked_up(cases: list[dict[str, Any]]) -> list[list[int]]:
    """propose_by_lookup of {"tokens", "count", "longest", "shortest"}."""
    from serving.speculative import propose_by_lookup

    return [[int(t) for t in propose_by_lookup(**case)] for case in cases]


def drawn_by_draft(
    rows: np.ndarray, tokens: list[int], count: int, seed: int, times: int
) -> dict[str, Any]:
    """propose_by_draft, over and over, of a model that reads its last two tokens.

    rows: (vocab, vocab, vocab): what comes after them. The tokens and probabilities of each time.
    """
    import torch

    from serving.speculative import propose_by_draft

    table, generator = torch.tensor(rows), torch.Generator().manual_seed(seed)
    found = [
        propose_by_draft(lambda text: table[text[-2], text[-1]], tokens, count, generator)
        for _ in range(times)
    ]
    probs = [p.probs for p in found if p.probs is not None]
    return {
        "tokens": np.array([list(p.tokens) for p in found], np.int64).reshape(times, -1),
        "probs": torch.stack(probs).numpy() if probs else np.zeros((times, 0, 0)),
    }


def verified(cases: list[dict[str, Any]], seed: int) -> list[list[int]]:
    """verify of {"proposed", "target", "draft" or none}, once each."""
    import torch

    from serving.speculative import verify

    judge = torch.Generator().manual_seed(seed)
    found = []
    for case in cases:
        draft = torch.tensor(case["draft"]) if "draft" in case else None
        kept = verify(case["proposed"], torch.tensor(case["target"]), draft, judge)
        found.append([int(t) for t in kept])
    return found


def verified_often(
    target: np.ndarray, draft: np.ndarray, count: int, drawn: bool, seed: int, times: int
) -> list[list[int]]:
    """What verify lets through, `times` times, of `count` guesses of a draft that sees one token.

    target, draft: (vocab + 1, vocab): row t comes after token t, the last row at the beginning.
    drawn: guesses drawn from the draft; else its most probable ones, as look-up would give.
    """
    import torch

    from serving.speculative import verify

    p, q = torch.tensor(target), torch.tensor(draft)
    own, judge = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed + 1)
    found = []
    for _ in range(times):
        last, guesses = len(p) - 1, []
        for _ in range(count):
            row = q[last]
            last = int(torch.multinomial(row, 1, generator=own) if drawn else torch.argmax(row))
            guesses.append(last)
        rows = [len(p) - 1, *guesses]
        kept = verify(guesses, p[rows], q[rows[:-1]] if drawn else None, judge)
        found.append([int(t) for t in kept])
    return found


class Drafts:
    """A DraftProposer, and requests by number whose texts the caller sets."""

    def __init__(self, sizes: dict[str, Any], weights: dict[str, np.ndarray]) -> None:
        self.proposer = proposer({"sizes": sizes, "weights": weights})
        self.model = self.proposer.model
        self.rows = 0
        self.model.register_forward_hook(self._count)

    def _count(self, _module: Any, args: Any, _out: Any) -> None:
        self.rows += len(args[0])

    def propose(
        self, number: int, tokens: list[int], count: int, sampling: dict[str, Any]
    ) -> dict[str, Any]:
        """Guesses for a text, what they were drawn from, how many tokens the draft computed."""
        from serving.sequence import SamplingParams, Sequence

        self.rows = 0
        found = self.proposer.propose(Sequence(number, tokens, SamplingParams(**sampling)), count)
        probs = np.zeros((0, 0)) if found.probs is None else found.probs.numpy()
        return {"tokens": [int(t) for t in found.tokens], "probs": probs, "rows": self.rows}

    def forget(self, number: int) -> list[int]:
        """Let a request go; the numbers of those that are still kept."""
        self.proposer.forget(number)
        return sorted({int(n) for n in (*self.proposer.texts, *self.proposer.generators)})
