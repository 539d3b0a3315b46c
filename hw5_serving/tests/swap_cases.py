"""Task 5.11 watched from outside: which version each request belongs to, and what it must answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from versions_cases import SIZES, Array, greedy, merged_state

State = dict[str, Array]


@dataclass
class Request:
    """A request, its version once it is known, and what came of it."""

    prompt: list[int]
    count: int
    adapter: str | None
    weights: dict[str, Any] | None  # what the adapter's name stood for at the time
    version: str | None
    stream: list[int] = field(default_factory=list)
    answer: list[int] | None = None
    state: State | None = None  # that version's, of the time when the request began
    first_at: int = -1  # the position at which its first plan began: what lay in the cache
    preempted: int = 0
    right: bool = False


class Watch:
    """A session of `drivers_versions.Serving`, and a record of it that the test keeps itself.

    A request that names no version belongs to the one that is active when it first occurs in a plan.
    """

    def __init__(self, session: Any, states: dict[str, State], active: str) -> None:
        self.session = session
        self.states = dict(states)
        self.active = active
        self.adapters: dict[str, dict[str, Any]] = {}
        self.requests: dict[int, Request] = {}
        self.aborted: set[int] = set()

    def load(self, name: str, adapter: dict[str, Any]) -> None:
        """Load an adapter under a name."""
        self.session.call("load_adapter", name=name, **adapter)
        self.adapters[name] = adapter

    def submit(self, requests: list[dict[str, Any]]) -> list[int]:
        """Queue requests; their ids."""
        ids = self.session.call("submit", requests=requests)
        for request_id, sent in zip(ids, requests, strict=True):
            assert isinstance(request_id, int), f"a request was refused with {request_id}: {sent}"
            adapter = sent.get("adapter")
            self.requests[request_id] = Request(
                sent["prompt"], sent["count"], adapter, self.adapters.get(adapter or ""),
                sent.get("version"),
            )  # fmt: skip
        return ids

    def steps(self, count: int, method: str = "steps", **options: Any) -> list[dict[str, Any]]:
        """Run steps, and note who begins on what, who says what, and who ends."""
        found = self.session.call(method, count=count, **options)
        for step in found:
            for request_id, first, _ in step["plan"]:
                request = self.requests[request_id]
                if request.first_at < 0:
                    request.version = request.version or self.active
                    request.first_at, request.state = first, self.states[request.version]
            for request_id in step["preempted"]:
                self.requests[request_id].preempted += 1
            for request_id, token in step["new"]:
                self.requests[request_id].stream.append(token)
            for request_id, status, answer in step["ended"]:
                assert status == "finished", f"request {request_id} ended as {status}"
                self.requests[request_id].answer = answer
        return found

    def until_begun(self) -> None:
        """Run until a request that belongs to the active version has said two tokens."""
        for _ in range(200):
            if any(r.version == self.active and len(r.stream) > 1 for r in self.requests.values()):
                return
            self.steps(1)
        raise AssertionError(f"no request began on version {self.active!r} in 200 steps")

    def finish(self) -> None:
        """Run until nothing is left."""
        for _ in range(40):
            if len(self.steps(25)) < 25:
                return
        raise AssertionError("1,000 steps, and the engine is busy still")

    def stage(self, version: str, state: State, checksum: str) -> None:
        """Stage a version that must be taken."""
        error = self.session.call("stage", version=version, arrays=state, checksum=checksum)
        assert not error, f"version {version!r} with the right checksum was refused: {error[0]}"
        self.states[version] = state

    def activate(self, version: str) -> None:
        """Make a version active that may be."""
        self._change("activate", [version])
        self.active = version

    def rollback(self, version: str) -> None:
        """Roll back to `version`."""
        self._change("rollback", [])
        self.active = version

    def abort(self, request_id: int) -> None:
        """Abort a request that is there."""
        assert self.session.call("abort", request=request_id), f"request {request_id} is not there"
        self.aborted.add(request_id)

    def _change(self, method: str, arguments: list[Any]) -> None:
        error = self.session.call("change", what=method, arguments=arguments)
        assert not error, f"{method}({', '.join(map(repr, arguments))}) raised {error[0]}"

    def check(self) -> dict[str, int]:
        """Every request answered, wholly by its version; how many each version answered."""
        answered: dict[str, int] = {}
        for request_id, request in self.requests.items():
            if request_id in self.aborted:
                continue
            assert request.answer is not None, f"request {request_id} was never answered"
            assert request.stream == request.answer, (
                f"request {request_id}: the tokens of the steps are {request.stream}, "
                f"the answer at the end is {request.answer}"
            )
            if not request.right:
                self._check_answer(request_id, request)
                request.right = True
            answered[str(request.version)] = answered.get(str(request.version), 0) + 1
        return answered

    def _check_answer(self, request_id: int, request: Request) -> None:
        def wanted(state: State | None, weights: dict[str, Any] | None) -> list[int]:
            return greedy(merged_state(state or {}, weights), request.prompt, request.count)[0]

        expected, got = wanted(request.state, request.weights), request.answer or []
        if got == expected:
            return
        lines = [
            f"request {request_id} (adapter {request.adapter}, {request.preempted} times preempted, "
            f"{request.first_at} tokens from the cache) belongs to version {request.version!r}.",
            f"expected {expected}", f"got      {got}",
        ]  # fmt: skip
        others = {f"version {n!r}": (own, request.weights) for n, own in self.states.items()}
        others |= {f"adapter {n!r}": (request.state, own) for n, own in self.adapters.items()}
        others["no adapter"] = request.state, None
        for name, (state, weights) in others.items():
            same = _common(wanted(state, weights), got)
            if same > max(1, _common(expected, got)):
                lines.append(f"its first {same} tokens are what {name} would have said")
        lines.append(
            "hint: a request keeps its weights from its first token to its last, and takes no keys "
            "and values that others made"
        )
        raise AssertionError("\n".join(lines))


def _common(one: list[int], other: list[int]) -> int:
    """How many tokens two texts share at the beginning."""
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def drawn_requests(
    rng: np.random.Generator, count: int, shortest: int = 3, longest: int = 14, **options: Any
) -> list[dict[str, Any]]:
    """Random prompts and lengths of answers."""
    return [
        {
            "prompt": rng.integers(0, SIZES["vocab_size"], int(rng.integers(shortest, longest))).tolist(),
            "count": int(rng.integers(6, 14)), **options,
        }
        for _ in range(count)
    ]  # fmt: skip


@dataclass
class Told:
    """One version in the oracle of `drawn_story`."""

    users: int = 0
    leaving: bool = False


class Story:
    """Versions by name, in a dict: what each call must give, and what is in memory after it."""

    def __init__(self, version: str) -> None:
        self.versions = {version: Told()}
        self.active, self.previous = version, ""

    def call(self, method: str, arguments: list[Any]) -> tuple[Any, str]:
        """(value, "") or (None, name of the exception that is expected)."""
        name = arguments[0] if arguments else None
        told = self.versions.get(name or self.active)
        serving = told is not None and not told.leaving
        if method == "release":
            if told is None or not told.users:
                return None, "KeyError" if told is None else "ValueError"
            told.users -= 1
        elif method == "rollback":
            if not self.previous:
                return None, "WeightsError"
            self.versions[self.active].leaving = True
            self.active, self.previous = self.previous, ""
        elif not serving or told is None:
            return None, "KeyError"
        elif method == "acquire":
            told.users += 1
            return name or self.active, ""
        elif method == "drop":
            if name == self.active:
                return None, "WeightsError"
            told.leaving = True
            self.previous = "" if name == self.previous else self.previous
        elif method == "activate" and name != self.active:
            if self.previous not in ("", name):
                self.versions[self.previous].leaving = True
            self.previous, self.active = self.active, str(name)
        gone = [n for n, own in self.versions.items() if own.leaving and not own.users]
        for one in gone:
            del self.versions[one]
        return (self.active if method == "rollback" else None), ""

    def stage(self, version: str) -> str:
        """The exception that is expected, if any."""
        if version in self.versions:
            return "WeightsError"
        self.versions[version] = Told()
        return ""
