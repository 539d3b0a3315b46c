"""Trusted side of 5.3: what a scheduler in the worker is told, and what its plans must hold to.

The cache is played here: a slot holds a number that depends on all the text before it, so a plan by
which a request would read another's keys, or unwritten ones, is seen at once, without a model.
"""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import drivers_engine as drivers
import numpy as np

VOCAB = 11


def written(namespace: str, before: int, token: int) -> int:
    """What a slot holds: a number for all the text up to a token."""
    return hash((zlib.crc32(namespace.encode()), before, token))


def follows(value: int) -> int:
    """The token after a text whose last slot holds `value`."""
    return (value >> 7) % VOCAB


@dataclass
class Request:
    """What the trusted side knows of one request."""

    number: int
    prompt: list[int]
    max_new_tokens: int
    stop_ids: list[int]
    namespace: str
    text: list[int] = field(default_factory=list)
    guesses: list[int] = field(default_factory=list)
    computed: int = 0
    preemptions: int = 0

    @property
    def answer(self) -> list[int]:
        """Tokens so far after the prompt."""
        return self.text[len(self.prompt) :]

    @property
    def done(self) -> bool:
        """Whether the answer is as long as asked for, or stopped."""
        answer = self.answer
        return len(answer) >= self.max_new_tokens or answer[-1:] in [[t] for t in self.stop_ids]

    def values(self, text: list[int]) -> list[int]:
        """What the slots of a text hold, one by one."""
        found = [0]
        for token in text:
            found.append(written(self.namespace, found[-1], token))
        return found[1:]

    def alone(self) -> list[int]:
        """Its answer if nobody else were there."""
        text, value = list(self.prompt), self.values(self.prompt)[-1]
        while len(text) == len(self.prompt) or not (
            len(text) - len(self.prompt) >= self.max_new_tokens or text[-1] in self.stop_ids
        ):
            text.append(follows(value))
            value = written(self.namespace, value, text[-1])
        return text[len(self.prompt) :]


class Watched:
    """A scheduler in the worker, step by step, every plan and every state looked at."""

    def __init__(self, student: Any, **config: Any) -> None:
        self.config = {"prefix_caching": False, "max_sequences": 64, "token_budget": 256, **config}
        self.session = student.session(drivers.Scheduling, config=self.config)
        self.slots = [0] * (self.config["num_blocks"] * self.config["block_size"])
        self.requests: dict[int, Request] = {}  # those that are not complete
        self.running: list[int] = []  # ids, oldest first
        self.waiting: list[int] = []
        self.tables: dict[int, list[int]] = {}
        self.free = self.config["num_blocks"]
        self.answers: dict[int, list[int]] = {}
        self.hits = self.preempted = self.tokens = self.steps = self.right = 0
        self.guessed = "", [0]  # namespace and text with guesses, of the request that guessed last
        self._count = 0

    def add(
        self, prompt: list[int], max_new_tokens: int = 4, stop_ids: Any = (), namespace: str = ""
    ) -> int | None:
        """Queue a request: its number, None where it is refused with a ValueError."""
        made = Request(self._count, prompt, max_new_tokens, list(stop_ids), namespace, list(prompt))
        error = self.session.call(
            "add", number=made.number, prompt=prompt, max_new_tokens=max_new_tokens,
            stop_ids=list(stop_ids), namespace=namespace,
        )  # fmt: skip
        self._count += 1
        if error:
            return None
        self.requests[made.number] = made
        self.waiting.append(made.number)
        return made.number

    def guess(self, number: int, guesses: list[int]) -> None:
        """Let a request that decodes have guesses for the next step."""
        self.requests[number].guesses = list(guesses)
        self.session.call("guess", guesses=[[number, *guesses]])

    def step(self) -> list[tuple[int, ...]]:
        """Plan, play and end one step; its plan."""
        plan = self.schedule()
        self.finish()
        return plan

    def schedule(self) -> list[tuple[int, ...]]:
        """Plan one step, look at the plan, and write its slots."""
        got = self.session.call("schedule")
        self._plan = [tuple(entry) for entry in got["counts"]]
        total = sum(count for _, _, count in self._plan)
        assert got["tokens"] == total, f"num_tokens is {got['tokens']} of the plan {self._plan}"
        tables = {int(n): table for n, table in got["tables"].items()}
        self.check_plan(self._plan, got["preempted"], tables)
        self.tokens += total
        self.steps += 1
        self._move(got["preempted"])
        self._check_state(got)
        self._write()
        return self._plan

    def finish(self) -> list[int]:
        """Draw the tokens, end the step; the numbers of the requests that it completed."""
        new, complete, caught_up = [], [], []
        for number, first, count in self._plan:
            request = self.requests.get(number)
            if request is None:  # aborted after it was planned
                continue
            known = len(request.text)
            request.computed = first + count
            if first + count >= known:
                value = request.values(request.text)[-1]
                guesses = request.guesses[: first + count - known]
                drawn = [follows(value)]
                for guess in guesses:
                    if drawn[-1] != guess:
                        break
                    self.right += 1
                    value = written(request.namespace, value, guess)
                    drawn.append(follows(value))
                new.append([number, *drawn])
                for token in drawn:
                    if not request.done:
                        request.text.append(token)
                request.computed = min(request.computed, len(request.text) - 1)
                caught_up.append(number)
            request.guesses = []
            if request.done:
                complete.append(number)
        got = self.session.call("finish", new=new)
        assert sorted(got["complete"]) == sorted(complete), (
            f"complete: {got['complete']}, expected {complete}: of {caught_up}, which got tokens"
        )
        for number in complete:
            answer = self.answers[number] = self.requests.pop(number).alone()
            self.running.remove(number)
            assert got["answers"][str(number)] == answer, (
                f"request {number} has the answer {got['answers'][str(number)]}, not {answer}"
                "\nhint: nothing comes after a stop token, or after max_new_tokens"
            )
            assert got["status"][str(number)] == "finished", f"status {got['status'][str(number)]}"
        self._check_state(got)
        return complete

    def abort(self, number: int) -> bool:
        """Drop a request: whether there was one; all its blocks must be free at once."""
        got = self.session.call("abort", number=number)
        known = self.requests.pop(number, None) is not None
        assert got["found"] == known, f"abort({number}) says {got['found']}, expected {known}"
        for line in (self.running, self.waiting):
            if number in line:
                line.remove(number)
        if known:
            assert got["status"][str(number)] == "aborted", f"status {got['status'][str(number)]}"
        self._check_state(got)
        return known

    def run(self, steps: int = 10_000) -> None:
        """Steps until nothing is left."""
        while self.requests:
            self.step()
            steps -= 1
            assert steps, "requests are left over that get no further"

    def check_plan(
        self, plan: list[tuple[int, ...]], preempted: list[int], tables: dict[int, list[int]]
    ) -> None:
        """What holds of every plan. The hidden tests compare with the one right plan."""
        ids = [number for number, _, _ in plan]
        about = (
            f"plan {plan}, preempted {preempted}; running {self.running}, waiting {self.waiting}"
        )
        assert plan or not self.requests, f"an empty plan: {about}"
        assert len(set(ids)) == len(ids), f"a request twice: {about}"
        assert set(ids) <= set(self.requests), f"requests that are not there any more: {about}"
        total = sum(count for _, _, count in plan)
        assert total <= self.config["token_budget"], f"{total} tokens are over the budget: {about}"
        assert preempted == self.running[::-1][: len(preempted)], (
            f"the newest is preempted first: {about}"
        )
        stayed = self.running[: len(self.running) - len(preempted)]
        old = [number for number in ids if number in self.running]
        admitted = ids[len(old) :]
        assert old == stayed[: len(old)] and ids[: len(old)] == old, (
            f"running requests come first, from oldest to newest: {about}"
        )
        assert admitted == self.waiting[: len(admitted)], f"the queue is overtaken: {about}"
        assert not (admitted and preempted), f"admitted in a step that preempted: {about}"
        assert len(stayed) + len(admitted) <= self.config["max_sequences"], f"too many run: {about}"
        for number, first, count in plan:
            request = self.requests[number]
            wanted = len(request.text) + len(request.guesses) - first
            assert 0 < count <= wanted, f"request {number} lacks {wanted} tokens: {about}"
            if number in old:
                assert first == request.computed, (
                    f"request {number} has {request.computed} tokens computed: {about}"
                )
            else:
                assert first % self.config["block_size"] == 0 and first < len(request.text), (
                    f"request {number} begins with whole cached blocks, a token left over: {about}"
                )
        lacking = [n for n in stayed if n not in ids]
        lacking += [n for n, first, count in plan if first + count < len(self.requests[n].text)]
        assert total == self.config["token_budget"] or not lacking, (
            f"requests {lacking} lack tokens, and the budget has room for {total} and more: {about}"
        )

    def _move(self, preempted: list[int]) -> None:
        """Who waits and who runs after the plan."""
        for number in preempted:
            request = self.requests[number]
            request.computed, request.guesses = 0, []
            request.preemptions += 1
            self.running.remove(number)
            self.waiting.insert(0, number)
        self.preempted += len(preempted)
        for number, first, _ in self._plan:
            if number in self.waiting:
                self.waiting.remove(number)
                self.running.append(number)
                self.requests[number].computed = first
                self.hits += first

    def _check_state(self, got: dict[str, Any]) -> None:
        """Queues, blocks held, blocks free."""
        for name in ("running", "waiting"):
            assert got[name] == getattr(self, name), (
                f"{name}: {got[name]}, expected {getattr(self, name)}"
            )
        self.tables = {int(n): table for n, table in got["tables"].items()}
        self.free = got["free"]
        held = {block for table in self.tables.values() for block in table}
        assert got["free"] + len(held) == self.config["num_blocks"], (
            f"{got['free']} blocks are free and {len(held)} held, of {self.config['num_blocks']}"
            "\nhint: a request that ends, is aborted or preempted gives all its blocks back, once"
        )
        for number, table in self.tables.items():
            if number not in self.running:
                assert not table, f"request {number} does not run and holds the blocks {table}"
            assert len(set(table)) == len(table), f"request {number} holds a block twice: {table}"
        for number, request in self.requests.items():
            seen = {name: got[name][str(number)] for name in ("computed", "preemptions", "status")}
            wanted = {
                "computed": request.computed, "preemptions": request.preemptions,
                "status": "running" if number in self.running else "waiting",
            }  # fmt: skip
            assert seen == wanted, f"request {number}: {seen}, expected {wanted}"

    def _write(self) -> None:
        """Play the step on the slots: written first, then read, as in every layer of a model."""
        size = self.config["block_size"]
        holders = Counter(block for table in self.tables.values() for block in table)
        wanted = {}
        for number, first, count in self._plan:
            request, table = self.requests[number], self.tables[number]
            last = first + count
            assert len(table) * size >= last, (
                f"request {number}: {table} are too few for {last} tokens"
            )
            wanted[number] = request.values(request.text + request.guesses)[:last]
            for place in range(first, last):
                block = table[place // size]
                assert holders[block] == 1, (
                    f"request {number} writes into block {block}, which is shared"
                )
                self.slots[block * size + place % size] = wanted[number][place]
        for number, values in wanted.items():
            table = self.tables[number]
            read = [self.slots[table[p // size] * size + p % size] for p in range(len(values))]
            wrong = next(
                (p for p, (a, b) in enumerate(zip(read, values, strict=True)) if a != b), None
            )
            assert wrong is None, (
                f"request {number} reads, at position {wrong}, block {table[wrong // size]}, which "
                "does not hold its text there\nhint: what is registered was computed for just this "
                "text; a guess that was wrong is computed again"
            )


def random_prompt(rng: np.random.Generator, stems: list[list[int]], longest: int) -> list[int]:
    """Some tokens behind one of a few stems, or the stem as it is."""
    stem = stems[int(rng.integers(len(stems)))]
    tail = rng.integers(0, VOCAB, int(rng.integers(0, 8))).tolist()
    return (stem[: int(rng.integers(0, len(stem) + 1))] + tail)[:longest] or [1]


def play(watched: Watched, rng: np.random.Generator, operations: int) -> None:
    """Random operations: requests come, are aborted, have guesses; the cache is cleared."""
    room = watched.config["num_blocks"] * watched.config["block_size"]
    stems = [rng.integers(0, VOCAB, room // 3).tolist() for _ in range(3)]
    for _ in range(operations):
        kind = rng.choice(["add", "step", "abort", "abort in a step", "clear"],
                          p=[0.2, 0.7, 0.05, 0.03, 0.02])  # fmt: skip
        if kind == "add":
            longest = min(int(rng.integers(1, 25)), room)
            prompt = random_prompt(rng, stems, room - longest + 1)
            stop = [int(rng.integers(VOCAB))] if rng.random() < 0.3 else []
            namespace = str(rng.integers(2))
            if rng.random() < 0.3:  # a text that somebody guessed, maybe wrongly
                namespace, prompt = watched.guessed[0], watched.guessed[1][: room - longest + 1]
            watched.add(prompt, longest, stop, namespace)
        elif kind == "clear":
            watched.session.call("clear")
        elif watched.requests:
            chosen = int(rng.choice(list(watched.requests)))
            if kind == "abort":
                watched.abort(chosen)
                continue
            guess_some(watched, rng)
            watched.schedule()
            if kind == "abort in a step":
                watched.abort(chosen)
            watched.finish()


def guess_some(watched: Watched, rng: np.random.Generator) -> None:
    """Guesses for some of those that decode, many of them right."""
    for number in watched.running:
        request = watched.requests[number]
        room = request.max_new_tokens - len(request.answer) - 1
        if request.guesses or len(request.text) - request.computed != 1 or rng.random() < 0.5:
            continue
        guesses, value = [], request.values(request.text)[-1]
        for _ in range(min(room, int(rng.integers(0, 5)))):
            right = follows(value)
            guesses.append(right if rng.random() < 0.8 else int(rng.integers(VOCAB)))
            value = written(request.namespace, value, guesses[-1])
        if guesses:
            watched.guess(number, guesses)
            watched.guessed = request.namespace, [*request.text, *guesses, 0]
