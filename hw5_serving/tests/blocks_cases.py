"""Tasks 5.1 and 5.2 on the trusted side: a model of the blocks in plain dicts, programs, oracles."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import drivers_blocks as drivers
import numpy as np
from hypothesis import strategies as st

from autograder.testing import StudentError, StudentRaised

Key = tuple[str, tuple[int, ...]]  # namespace, and all tokens up to a block's end


@dataclass
class Text:
    """A sequence as the model sees it."""

    tokens: list[int]
    namespace: str = ""
    table: list[int] = field(default_factory=list)
    computed: int = 0


@dataclass(frozen=True)
class Pool:
    """What a program runs on."""

    num_blocks: int
    block_size: int
    prefix_caching: bool = True


def operation(
    do: str, sequence: int = 0, argument: int = 0, tokens: Iterable[int] = (), namespace: str = "",
    quiet: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """One operation as the driver takes it."""
    return {"do": do, "sequence": sequence, "argument": argument,
            "tokens": [int(t) for t in tokens], "namespace": namespace, "quiet": quiet}  # fmt: skip


def described(op: dict[str, Any]) -> str:
    """An operation as one would write it."""
    number, argument = op["sequence"], op["argument"]
    texts = {
        "add": f"sequence {number} = {op['tokens']}" + f" in {op['namespace']!r}" * bool(op["namespace"]),
        "append": f"append {op['tokens']} to {number}",
        "allocate": f"allocate({number}, {argument})",
        "compute": f"compute {number} up to {argument}, register({number})",
        "grow": f"append {op['tokens']} to {number}, allocate, compute and register all {argument}",
        "free": f"free({number})", "drop": f"free({number}), which is over",
        "fork": f"fork({number}, {argument})", "clear": "clear_cache()",
    }  # fmt: skip
    return texts[op["do"]]


class Model:
    """What blocks must do, by content: no hashes, no chains, no reference counts taken on trust.

    Which empty block is taken is the student's to choose, and taken over from the answer.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.texts: dict[int, Text] = {}
        self.holders = dict.fromkeys(range(pool.num_blocks), 0)
        self.names: dict[int, Key] = {}
        self.empty = set(range(pool.num_blocks))
        self.cached: list[int] = []  # from longest unused to newest
        self.barred: set[int] = set()

    @property
    def free(self) -> int:
        """Blocks nobody holds."""
        return len(self.empty) + len(self.cached)

    def key(self, text: Text, place: int) -> Key:
        """What block `place` of a text holds."""
        return text.namespace, tuple(text.tokens[: (place + 1) * self.pool.block_size])

    def prefix(self, text: Text) -> list[int]:
        """The blocks that can be taken over."""
        where = {key: block for block, key in self.names.items()}
        most = (len(text.tokens) - 1) // self.pool.block_size
        blocks = [where.get(self.key(text, place)) for place in range(most)]
        return list(takewhile(lambda block: block is not None, blocks))

    def wanted(self, text: Text, tokens: int) -> int:
        """Free blocks that are used up by an allocation."""
        total = -(-tokens // self.pool.block_size)
        if text.table:
            return max(total - len(text.table), 0)
        return total - sum(self.holders[block] > 0 for block in self.prefix(text)[:total])

    def hold(self, block: int) -> None:
        """One more holder."""
        if self.holders[block] == 0:
            self.empty.discard(block)
            self.cached = [other for other in self.cached if other != block]
            self.barred.discard(block)
        self.holders[block] += 1

    def release(self, text: Text) -> None:
        """Give all blocks back, from the end of the text."""
        for block in reversed(text.table):
            self.holders[block] -= 1
            if self.holders[block] == 0 and block in self.names:
                self.cached.append(block)
            elif self.holders[block] == 0:
                self.empty.add(block)
        text.table, text.computed = [], 0

    def take(self, count: int, offered: list[int] | None) -> list[int]:
        """Hold that many new blocks: of those offered, empty ones in any order, then the oldest."""
        free = min(count, len(self.empty))
        forced = self.cached[: count - free]
        chosen = sorted(self.empty)[:free] if offered is None else offered[:free]
        assert len(set(chosen) & self.empty) == free, (
            f"new blocks {offered}: {free} of them can be empty ones, and those are taken first; "
            f"empty are {sorted(self.empty)}, cached {self.cached}"
        )
        if offered is not None:
            assert offered[free:] == forced, (
                f"new blocks {offered}: after {free} empty ones the cached ones longest unused are "
                f"taken, {forced} of {self.cached}; freed last is used last, and of one text its end "
                "is longest unused"
            )
        for block in [*chosen, *forced]:
            self.names.pop(block, None)
            self.hold(block)
        return [*chosen, *forced]

    def granted(self, answer: dict[str, Any] | None, wanted: int) -> None:
        """Assert that a call which can be served was."""
        assert not answer or not answer["error"], (
            f"{answer['error']} is raised, but {wanted} blocks are wanted and {self.free} are free"
        )

    def register(self, text: Text) -> None:
        """Names for all full blocks, up to the first barred one."""
        for place in range(text.computed // self.pool.block_size):
            block, key = text.table[place], self.key(text, place)
            if block in self.barred or not self.pool.prefix_caching:
                break
            if block not in self.names and key not in self.names.values():
                self.names[block] = key

    def allocate(self, text: Text, tokens: int, offered: list[int] | None) -> str:
        """The error's name, "" for none; `offered` is the table that the student gives."""
        if self.wanted(text, tokens) > self.free:
            return "OutOfBlocks"
        total = -(-tokens // self.pool.block_size)
        if not text.table:
            shared = self.prefix(text)[:total]
            assert offered is None or offered[: len(shared)] == shared, (
                f"table {offered}: the cached prefix is {shared}"
            )
            for block in shared:
                self.hold(block)
            text.table, text.computed = shared, len(shared) * self.pool.block_size
        missing = max(total - len(text.table), 0)
        if offered is not None:
            assert len(offered) == len(text.table) + missing, (
                f"table {offered} has {len(offered)} blocks, {tokens} tokens and what was held "
                f"before need {len(text.table) + missing}"
            )
            offered = offered[len(text.table) :]
        text.table = text.table + self.take(missing, offered)
        return ""

    def fork(self, number: int, child: int, answer: dict[str, Any] | None) -> tuple[str, list]:
        """(error, copies)."""
        parent = self.texts[number]
        full, rest = divmod(parent.computed, self.pool.block_size)
        if rest and not self.free:
            return "OutOfBlocks", []
        self.granted(answer, int(rest > 0))
        text = Text(list(parent.tokens), parent.namespace, parent.table[:full], parent.computed)
        for block in text.table:
            self.hold(block)
        self.texts[child] = text
        if not rest:
            return "", []
        table = answer["tables"].get(str(child), []) if answer else []
        (target,) = self.take(1, table[full:] if answer else None)
        text.table = [*text.table, target]
        if parent.table[full] in self.barred:
            self.barred.add(target)
        return "", [[parent.table[full], target]]

    def apply(self, op: dict[str, Any], answer: dict[str, Any] | None = None) -> tuple[str, list]:
        """Do one operation: (error, copies) that are right. answer: the student's state after it."""
        do, number, argument = op["do"], op["sequence"], op["argument"]
        if do == "add":
            self.texts[number] = Text(list(op["tokens"]), op["namespace"])
        text = self.texts.get(number, Text([]))
        if do in ("append", "grow"):
            text.tokens = text.tokens + op["tokens"]
        if do in ("allocate", "grow"):
            offered = answer["tables"].get(str(number), []) if answer else None
            if self.wanted(text, argument) <= self.free:
                self.granted(answer, self.wanted(text, argument))
            error = self.allocate(text, argument, offered)
            if error:
                return error, []
        if do in ("compute", "grow"):
            text.computed = argument
            self.register(text)
        if do in ("free", "drop"):
            self.release(text)
        if do == "drop":
            del self.texts[number]
        if do == "fork":
            return self.fork(number, argument, answer)
        if do == "clear":
            self.names.clear()
            self.empty |= set(self.cached)
            self.cached = []
            self.barred = {block for block, count in self.holders.items() if count}
        return "", []

    def state(self) -> dict[str, Any]:
        """What the driver tells of a state."""
        size = self.pool.num_blocks
        each = {str(number): text for number, text in self.texts.items()}
        return {
            "tables": {n: text.table for n, text in each.items()},
            "computed": {n: text.computed for n, text in each.items()},
            "holders": [self.holders[block] for block in range(size)],
            "free": self.free,
            "prefixes": {n: self.prefix(text) for n, text in each.items()},
            "wanted": {n: self.wanted(text, len(text.tokens)) for n, text in each.items()},
        }


_WHAT = {
    "tables": "block_table", "computed": "num_computed_tokens", "holders": "ref_counts",
    "free": "num_free", "prefixes": "cached_prefix", "wanted": "blocks_wanted for all tokens",
}  # fmt: skip


def follow(
    pool: Pool, operations: list[dict[str, Any]], states: list[Any], hint: str = ""
) -> Model:
    """Replay a program beside the student's states; what differs first is shown with the program."""
    model, steps, advice = Model(pool), [], f"\nhint: {hint}" if hint else ""
    try:
        assert len(states) == len(operations), f"{len(states)} states, {len(operations)} operations"
        for op, got in zip(operations, states, strict=True):
            steps.append(described(op))
            error, copies = model.apply(op, got)
            if got is None:
                continue
            assert got["error"] == error, (
                f"expected {error or 'no error'}, got {got['error'] or 'none'}"
            )
            wanted = model.state()
            for name, what in _WHAT.items():
                assert got[name] == wanted[name], f"{what} is {got[name]}, expected {wanted[name]}"
            assert got["copies"] == copies, f"copies {got['copies']}, expected {copies}"
    except AssertionError as failure:
        done = "\n  ".join(steps)
        raise AssertionError(
            f"after the last of these operations, in {pool.num_blocks} blocks of {pool.block_size}"
            f"{'' if pool.prefix_caching else ', prefix_caching=False'}:\n  {done}\n{failure}{advice}"
        ) from None
    return model


def check(student: Any, pool: Pool, operations: list[dict[str, Any]], hint: str = "") -> list[Any]:
    """Run a program and follow it; the states."""
    fields = {"num_blocks": pool.num_blocks, "block_size": pool.block_size}
    try:
        states = student.run(
            drivers.operated, **fields, prefix_caching=pool.prefix_caching, operations=operations
        )
    except StudentRaised as error:
        if not error.unfinished and not error.at_import:
            error.message += "\nthe operations:\n  " + "\n  ".join(map(described, operations))
        raise
    follow(pool, operations, states, hint)
    return states


def briefly(body: Callable[..., None], seconds: float = 3.0) -> Callable[..., None]:
    """A check for `student.given` whose failures are made smaller for so long and no longer.

    Then every example ends as the shortest failure did, which ends the search within moments.
    """
    failures: list[str] = []
    since: list[float] = []

    def once(**example: Any) -> None:
        if since and time.monotonic() - since[0] > seconds:
            raise AssertionError(min(failures, key=len))
        try:
            body(**example)
        except StudentError:
            raise
        except AssertionError as error:
            failures.append(str(error))
            since.append(time.monotonic())
            raise

    return once


# Three bytes for each operation: drawn at once they cost a tenth of as many integers.
RAW = st.binary(min_size=36, max_size=135)
PLAIN = ("add", "add", "add", "serve", "serve", "serve", "serve", "allocate", "compute", "append",
         "append", "free", "free", "drop")  # fmt: skip
EVERYTHING = (*PLAIN, *PLAIN, "fork", "fork", "fork", "clear")


def program(
    pool: Pool, raw: bytes, books: list[list[int]],
    kinds: tuple[str, ...] = EVERYTHING, namespaces: tuple[str, ...] = ("",),
) -> list[dict[str, Any]]:  # fmt: skip
    """Operations from drawn bytes; each can be done where it stands (OutOfBlocks aside).

    Sequences are beginnings of few books, so that many have blocks in common.
    """
    model, operations, added = Model(pool), [], 0

    def do(name: str, *arguments: Any, **more: Any) -> bool:
        operations.append(operation(name, *arguments, **more))
        return not model.apply(operations[-1])[0]

    for kind, a, b in zip(*(raw[place::3] for place in range(3)), strict=False):
        name = kinds[kind % len(kinds)]
        if name == "clear":
            do("clear")
        if name == "add" and len(model.texts) < 6:
            tokens = books[a % len(books)][: 1 + b % len(books[0])]
            do("add", added, tokens=tokens, namespace=namespaces[a % len(namespaces)])
            added += 1
        if name in ("clear", "add") or not model.texts:
            continue
        number = sorted(model.texts)[a % len(model.texts)]
        text = model.texts[number]
        length = len(text.tokens)
        room = min(length, len(text.table) * pool.block_size) - text.computed
        if name == "serve" and do("allocate", number, length):
            do("compute", number, length)
        elif name == "allocate":
            do("allocate", number, 1 + b % (length + 2))
        elif name == "compute" and room >= 0:
            do("compute", number, text.computed + b % (room + 1))
        elif name == "append":
            following = books[b % len(books)][length : length + 1 + b % 3]
            do("append", number, tokens=following or [b])
        elif name in ("free", "drop"):
            do(name, number)
        elif name == "fork" and len(model.texts) < 6:
            do("fork", number, added)
            added += 1
    return operations
