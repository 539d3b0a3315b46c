"""The engine in a thread of its own; requests in and tokens out between it and asyncio.

All of the engine, weights and adapters included, is touched by this thread alone, between two steps:
`call` runs a function there. Tokens go to asyncio with `call_soon_threadsafe`, one call a step. What a
reader has not taken yet waits in its `Generation`: integers, no more than the answer is long, so a
slow reader costs nobody else anything and the engine is done with its request all the same.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from serving.engine import Engine
from serving.sequence import SamplingParams, Sequence, Status

Result = TypeVar("Result")
log = logging.getLogger("serving")

STOP, LENGTH, ABORTED, FAILED = "stop", "length", "aborted", "failed"


class Overloaded(Exception):
    """As many requests are in the server as it takes."""


class EngineFailed(Exception):
    """The engine's thread has ended: nothing will be answered any more."""


@dataclass(frozen=True)
class Work:
    """What a request asks of the engine."""

    prompt: list[int]
    sampling: SamplingParams
    adapter: str | None = None
    version: str | None = None


@dataclass(frozen=True)
class Event:
    """What one step brought for a request; `finish` in its last one."""

    tokens: list[int] = field(default_factory=list)
    version: str = ""
    finish: str | None = None
    error: str = ""


@dataclass(frozen=True)
class StepReport:
    """What a step did, for the metrics."""

    seconds: float
    prompt_tokens: int  # of requests that began in this step
    cached_tokens: int  # of those, found in the prefix cache
    new_tokens: int
    preempted: int


class Observer(Protocol):
    """Told on asyncio's thread."""

    def step(self, report: StepReport) -> None: ...

    def first_token(self, seconds: float) -> None: ...


class Generation:
    """A request in the engine: iterate over its events; `abort` whenever nobody wants it any more."""

    def __init__(self, loop: EngineLoop, work: Work) -> None:
        self.work = work
        self.accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.started = time.perf_counter()
        self.seconds_to_first: float | None = None
        self.cached_tokens = 0
        # Touched by the engine's thread alone:
        self.request_id: int | None = None
        self.begun = self.over = False
        self._loop = loop

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            event = await self.events.get()
            yield event
            if event.finish:
                return

    def abort(self) -> None:
        """Let the engine drop the request after the step that runs now. Harmless when it is over."""
        self._loop.abort(self)


class EngineLoop:
    """Owns an engine. All methods are called on asyncio's thread, `start` before the others."""

    def __init__(self, engine: Engine, max_requests: int, observer: Observer) -> None:
        self.engine = engine
        self.max_requests = max_requests
        self.observer = observer
        self.failure: str | None = None
        self.open: set[Generation] = set()
        self.running = 0
        self.blocks_free = engine.blocks.num_free
        self._by_id: dict[int, Generation] = {}
        self._wake = threading.Condition()
        self._inbox: list[tuple[Callable[[], None], Callable[[str], None]]] = []
        self._taken: list[tuple[Callable[[], None], Callable[[str], None]]] = []
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Start the thread; the running event loop gets the tokens."""
        self._asyncio = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """End the thread after the step that runs now; requests that are open fail."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        await asyncio.to_thread(self._thread.join)

    @property
    def waiting(self) -> int:
        """Requests that are in the server and not in the engine's batch."""
        return max(0, len(self.open) - self.running)

    def submit(self, work: Work) -> Generation:
        """Queue a request; its `accepted` has the ValueError or KeyError of one that can't be served.

        Raises Overloaded, EngineFailed.
        """
        if len(self.open) >= self.max_requests:
            raise Overloaded(f"{len(self.open)} requests are being served or wait")
        generation = Generation(self, work)
        self._post(lambda: self._enter(generation), lambda why: self._reject(generation, why))
        self.open.add(generation)
        return generation

    def abort(self, generation: Generation) -> None:
        """See `Generation.abort`."""
        if generation in self.open:
            try:
                self._post(lambda: self._abort(generation), lambda why: None)
            except EngineFailed:
                pass  # the thread's end has told it already

    async def call(self, function: Callable[[Engine], Result]) -> Result:
        """Run a function on the engine's thread, between two steps; its result or exception."""
        future: asyncio.Future[Result] = self._asyncio.create_future()

        def run() -> None:
            try:
                result = function(self.engine)
            except Exception as error:
                self._tell(_settle, future, None, error)
            else:
                self._tell(_settle, future, result, None)

        def fail(why: str) -> None:
            self._tell(_settle, future, None, EngineFailed(why))

        self._post(run, fail)
        return await future

    # From here on: the engine's thread, but for _post.

    def _post(self, command: Callable[[], None], fail: Callable[[str], None]) -> None:
        with self._wake:
            if self.failure is not None:
                raise EngineFailed(self.failure)
            self._inbox.append((command, fail))
            self._wake.notify()

    def _tell(self, function: Callable[..., None], *args: Any) -> None:
        try:
            self._asyncio.call_soon_threadsafe(function, *args)
        except RuntimeError:
            pass  # the event loop is closed: nobody is left to be told

    def _run(self) -> None:
        try:
            while True:
                with self._wake:
                    while not (self._inbox or self.engine.busy or self._stopping):
                        self._wake.wait()
                    if self._stopping:
                        break
                    commands, self._inbox = self._inbox, []
                    self._taken = list(commands)
                for command, _ in commands:
                    command()
                    self._taken.pop(0)
                if self.engine.busy:
                    self._step()
            self._end("the server is stopping")
        except BaseException as error:
            log.exception("the engine failed; the server answers 503 from now on")
            # What an exception says is for the log, but a task that is missing is worth telling.
            missing = str(error) if isinstance(error, NotImplementedError) else ""
            self._end(f"the engine failed ({missing or type(error).__name__})")

    def _end(self, why: str) -> None:
        """Nothing more will be computed: tell everybody who waits, and all who will ask."""
        with self._wake:
            self.failure = why
            left, self._taken, self._inbox = [*self._taken, *self._inbox], [], []
        for _, fail in left:
            fail(why)
        last = [(entry, Event(finish=FAILED, error=why)) for entry in self._by_id.values()]
        self._by_id.clear()
        self._tell(self._deliver, last, 0, self.engine.blocks.num_free)

    def _enter(self, generation: Generation) -> None:
        work = generation.work
        try:
            generation.request_id = self.engine.submit(
                work.prompt, work.sampling, adapter=work.adapter, version=work.version
            )
        except Exception as error:  # of this request alone; ValueError and KeyError are its fault
            generation.over = True
            self._tell(self._refuse, generation, error)
        else:
            self._by_id[generation.request_id] = generation
            self._tell(_settle, generation.accepted, None, None)

    def _reject(self, generation: Generation, why: str) -> None:
        generation.over = True
        self._tell(self._refuse, generation, EngineFailed(why))

    def _abort(self, generation: Generation) -> None:
        if generation.request_id is None or generation.over:
            return
        generation.over = True
        self.engine.abort(generation.request_id)
        self._by_id.pop(generation.request_id, None)
        self._send([(generation, Event(finish=ABORTED))])

    def _step(self) -> None:
        started = time.perf_counter()
        finished = self.engine.step()
        seconds = time.perf_counter() - started
        plan = self.engine.history[-1]
        self.engine.history.clear()  # else it grows as long as the server runs
        prompt_tokens = cached_tokens = 0
        for request_id, first, _ in plan.counts:
            generation = self._by_id[request_id]
            if not generation.begun:
                generation.begun, generation.cached_tokens = True, first
                prompt_tokens += len(generation.work.prompt)
                cached_tokens += first
        events = {
            request_id: Event(list(tokens), self._version(request_id))
            for request_id, tokens in self.engine.new_tokens.items()
            if tokens
        }
        for sequence in finished:
            tokens = events[sequence.request_id].tokens if sequence.request_id in events else []
            why = _reason(sequence)
            events[sequence.request_id] = Event(tokens, sequence.version, why, sequence.error)
        report = StepReport(
            seconds, prompt_tokens, cached_tokens, sum(len(e.tokens) for e in events.values()),
            len(plan.preempted),
        )  # fmt: skip
        pairs = [(self._by_id[request_id], event) for request_id, event in events.items()]
        for sequence in finished:
            self._by_id.pop(sequence.request_id).over = True
        self._send(pairs, report)

    def _send(
        self, pairs: list[tuple[Generation, Event]], report: StepReport | None = None
    ) -> None:
        running, free = len(self.engine.scheduler.running), self.engine.blocks.num_free
        self._tell(self._deliver, pairs, running, free, report)

    def _version(self, request_id: int) -> str:
        sequence = self.engine.sequences.get(request_id)
        return sequence.version if sequence else ""

    # From here on: asyncio's thread.

    def _refuse(self, generation: Generation, error: BaseException) -> None:
        self.open.discard(generation)
        _settle(generation.accepted, None, error)

    def _deliver(
        self, pairs: list[tuple[Generation, Event]], running: int, blocks_free: int,
        report: StepReport | None = None,
    ) -> None:  # fmt: skip
        self.running, self.blocks_free = running, blocks_free
        if report is not None:
            self.observer.step(report)
        for generation, event in pairs:
            if event.tokens and generation.seconds_to_first is None:
                generation.seconds_to_first = time.perf_counter() - generation.started
                self.observer.first_token(generation.seconds_to_first)
            generation.events.put_nowait(event)
            if event.finish:
                self.open.discard(generation)


def _reason(sequence: Sequence) -> str:
    if sequence.status is Status.FAILED:
        return FAILED
    return STOP if sequence.answer and sequence.answer[-1] in sequence.sampling.stop_ids else LENGTH


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():  # its owner was cancelled
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
