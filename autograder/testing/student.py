"""The `student` fixture: the only way a test reaches the student's code."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import hypothesis

from autograder.sandbox import host
from autograder.testing.compare import array_bytes, described, shown
from autograder.testing.frames import called_from, frames_with_source, with_stub
from autograder.testing.group import Group, run_group
from autograder.testing.records import Frame, Measure, Memory

# What a worker takes on besides arguments, before a measured call: pages of libraries that are used
# for the first time (torch: 75 MB), the student's package, what an allocator keeps of earlier calls.
ALLOWANCE_MB = 128.0
_SIGNAL_HINTS = {
    "SIGSEGV": "memory was touched that is not yours (an index out of range in compiled code?)",
    "SIGXCPU": "the limit on CPU time was reached",
    "SIGILL": "where BLAS is forbidden this is what calling it (@, np.dot, ndarray.dot) ends in",
    "SIGKILL": "the limit on CPU time, or the machine's memory, was reached",
}


class StudentError(AssertionError):
    """The student's code did not return a value. `title` is short; the message teaches.

    `title` and `frames` are all that is shown for a hidden test.
    """

    def __init__(self, title: str, message: str, frames: list[Frame] | None = None) -> None:
        super().__init__(message)
        self.title = title
        self.message = message
        self.frames = frames or []


class StudentRaised(StudentError):
    """The code raised an exception; `type_name` and `bases` are names of classes."""

    def __init__(self, error: Mapping[str, Any], frames: list[Frame]) -> None:
        self.type_name = _short(error.get("type"), 80) or "Exception"
        bases = error.get("bases")
        self.bases = [_short(base, 80) for base in bases] if isinstance(bases, list) else []
        text = _short(error.get("message"), 4000)
        if self.type_name == "NotImplementedError":
            message = f"{text or 'this'} is not implemented yet"
        elif error.get("unsupported") is True:
            message = f"the result can't be used: {text}"
        else:
            message = f"{self.type_name}: {text}" if text else self.type_name
        super().__init__(self.type_name, message, frames)
        self.text = text

    @property
    def unfinished(self) -> bool:
        """Whether this is a stub that was not filled in."""
        return self.type_name == "NotImplementedError"

    @property
    def at_import(self) -> bool:
        """Whether a file was imported or built then: no case of a test has to do with it."""
        if self.type_name == "BuildError":
            return True
        return "SyntaxError" in self.bases or [f.function for f in self.frames[-1:]] == ["<module>"]


class StudentCrashed(StudentError):
    """The process died before it answered."""


class StudentTimedOut(StudentError):
    """No answer before the deadline."""


class StudentFlooded(StudentError):
    """More was printed, or written to files, than is allowed."""


class StudentMisbehaved(StudentError):
    """What came back is not an answer."""


def driver_name(driver: Callable[..., Any]) -> str:
    """`module:function` of a staff driver."""
    return f"{driver.__module__}:{driver.__name__}"


def described_call(driver: Callable[..., Any], arguments: Mapping[str, Any]) -> str:
    """A call as one would write it, small arrays with their values."""
    inside = ", ".join(f"{name}={described(value)}" for name, value in arguments.items())
    return f"{driver.__name__}({inside})"


class Student:
    """Runs staff drivers in a fresh worker that holds the student's package.

    One worker serves all calls of a test; it is started at the first call.
    """

    def __init__(
        self, start_worker: Callable[..., Any], overlay: Path, seed: int, forbid_blas: bool = False
    ) -> None:
        self._start_worker = start_worker
        self._overlay = overlay
        self._seed = seed
        self._head: dict[str, Any] = {"forbid_blas": True} if forbid_blas else {}
        self._workers: list[Any] = []
        self._start_bytes = 0
        self.answers = 0
        self.measures: list[Measure] = []
        # The most seconds that any call may take; lowered where much time was lost already.
        self.patience: float | None = None
        self.timed_out = False

    def seconds(self, asked: float | None) -> float | None:
        """The limit for one call: what a test asks for, within this test's patience."""
        limits = [limit for limit in (asked, self.patience) if limit is not None]
        return min(limits, default=None)

    @property
    def worker(self) -> Any:
        """The worker of this test, started if it was not yet."""
        if not self._workers:
            worker = self._further()
            # What it holds before any of the student's code ran: no later baseline may exceed it.
            if isinstance(worker, host.Worker) and sys.platform == "linux":
                self._start_bytes = worker.resident_bytes()
        return self._workers[0]

    def fresh(self) -> Any:
        """A further worker, for `call`, that saw nothing of this test; closed with the test."""
        self.worker  # noqa: B018  the one that `run` uses comes first in the list
        return self._further()

    def _further(self, **options: Any) -> Any:
        worker = self._start_worker(**options)
        self._workers.append(worker)
        return worker

    def run(
        self, driver: Callable[..., Any], *, timeout: float | None = None, **arguments: Any
    ) -> Any:
        """The driver's result for `arguments`: plain arrays, numbers, strings, lists, dicts.

        Raises a StudentError where the student's code raises, crashes, hangs or floods.
        """
        with self._translated():
            value = self.worker.call(
                driver_name(driver), arguments, timeout=self.seconds(timeout), **self._head
            )
        self.answers += 1
        return value

    def raises(
        self, driver: Callable[..., Any], expected: str, naming: str = "", **arguments: Any
    ) -> StudentRaised:
        """Assert that the driver raises `expected` (the name of a class or of one of its bases).

        naming: a word or number that the exception's text must hold. A NotImplementedError never
        counts, so a stub can't pass by raising. What fails shows the arguments.
        """
        asked = f"\nthe call: {described_call(driver, arguments)}"
        try:
            value = self.run(driver, **arguments)
        except StudentRaised as error:
            if error.unfinished:
                raise
            if expected not in error.bases:
                error.message = f"expected a {expected}, but this was raised: {error.message}{asked}"
                raise
            if naming and not re.search(rf"(?<!\w){re.escape(naming)}(?!\w)", error.text):
                raise AssertionError(
                    f"the {expected} should name {naming}; it says: {error.text!r}{asked}"
                ) from None
            self.answers += 1
            return error
        raise AssertionError(f"expected a {expected}, but this came back: {shown(value)}{asked}")

    def run_cases(
        self, driver: Callable[..., Any], cases: Sequence[Any], label: Callable[[Any], str],
        argument: str = "cases", **arguments: Any,
    ) -> list[Any]:  # fmt: skip
        """The driver's results for all cases, sent as one call: one result for each.

        Where that call raises or crashes, the cases are sent one by one to find the first that
        does, and `label` of it heads the message. A time-out is not repeated.
        """
        try:
            results = self.run(driver, **{argument: list(cases)}, **arguments)
        except (StudentRaised, StudentCrashed) as error:
            if isinstance(error, StudentRaised) and (error.unfinished or error.at_import):
                raise
            raise self._culprit(error, driver, cases, label, argument, arguments) from None
        if not isinstance(results, list) or len(results) != len(cases):
            raise AssertionError(f"not one answer for each of {len(cases)} questions")
        return results

    def _culprit(
        self, error: StudentError, driver: Callable[..., Any], cases: Sequence[Any],
        label: Callable[[Any], str], argument: str, arguments: Mapping[str, Any],
    ) -> StudentError:  # fmt: skip
        """`error`, or the one that the first failing case gives by itself, with that case named."""
        worker = self.fresh()
        for case in cases:
            try:
                with self._translated():
                    worker.call(
                        driver_name(driver), {argument: [case], **arguments},
                        timeout=self.seconds(None), **self._head,
                    )  # fmt: skip
            except StudentError as found:
                found.message = f"{label(case)}: {found.message}"
                return found
        error.message += f" (in one call of {len(cases)} cases; none of them fails by itself)"
        return error

    def session(self, driver: Callable[..., Any], **arguments: Any) -> Session:
        """Keep the driver's result in the worker, as an object whose methods can be called."""
        with self._translated():
            handle = self.worker.open(driver_name(driver), arguments, **self._head)
        return Session(self, handle)

    def group(
        self, size: int, driver: Callable[..., Any], /, *,
        each: Sequence[Mapping[str, Any]] | None = None, timeout: float | None = None,
        slow: dict[int, float] | None = None, **common: Any,
    ) -> Group:  # fmt: skip
        """Run the driver on `size` ranks at once: fresh workers behind the trusted switch.

        common: arguments of every rank; each: further ones by rank. slow: seconds by which all
        messages to a rank come late. Raises the first failing rank's error, or what the switch saw.
        """
        return run_group(self, size, driver, each, timeout, slow, common)

    def rank_worker(self, place: Any) -> Any:
        """A worker of its own for one rank; closed with the test."""
        return self._further(place=place)

    def call(
        self, worker: Any, driver: Callable[..., Any], arguments: Mapping[str, Any],
        timeout: float | None,
    ) -> Any:  # fmt: skip
        """The driver's result in one of several workers."""
        with self._translated():
            return worker.call(
                driver_name(driver), arguments, timeout=self.seconds(timeout), **self._head
            )

    def given(
        self, max_examples: int = 50, **strategies: Any
    ) -> Callable[[Callable[..., None]], Callable[[], None]]:
        """Hypothesis in the trusted process, every example sent to this test's one worker.

        A crash, a time-out or an unfinished task ends the search at once: later examples repeat
        the same failure without running, so that nothing is shrunk a deadline at a time.
        """
        final: list[StudentError] = []

        def decorate(check: Callable[..., None]) -> Callable[[], None]:
            def once(**example: Any) -> None:
                if final:
                    raise final[0]
                try:
                    check(**example)
                except StudentError as error:
                    if not isinstance(error, StudentRaised) or error.unfinished:
                        final.append(error)
                    raise

            return hypothesis.seed(self._seed)(
                hypothesis.settings(
                    max_examples=max_examples,
                    deadline=None,
                    database=None,
                    report_multiple_bugs=False,
                    suppress_health_check=list(hypothesis.HealthCheck),
                )(hypothesis.given(**strategies)(once))
            )

        return decorate

    def memory(
        self, driver: Callable[..., Any], *, timeout: float | None = None,
        allowance_mb: float = ALLOWANCE_MB, **arguments: Any,
    ) -> Memory:  # fmt: skip
        """Run the driver and read the worker's resident memory before, during and after.

        The arguments are sent first, so they count to the baseline. All else that the baseline may
        hold beyond the worker's start is `allowance_mb`: memory that was put on in an earlier call,
        to be let go in this one, is no room for this one. Needs Linux.
        """
        with self._translated():
            worker = self.worker
            worker.call(driver_name(driver), arguments, op="hold", **self._head)
            baseline, start = worker.resident_bytes(), self._start_bytes
            if start:
                most = start + array_bytes(arguments) + int(allowance_mb * 1e6)
                baseline = min(baseline, most)
            worker.reset_peak()
            value = worker.call(
                driver_name(driver), {}, op="run_held", timeout=self.seconds(timeout), **self._head
            )
            peak, held = worker.peak_bytes(), worker.resident_bytes()
        self.answers += 1
        return Memory(value, baseline, max(peak, baseline), held)

    def thread_seconds(self) -> list[float]:
        """CPU seconds used so far by each living thread of the worker, by the kernel's account."""
        return self.worker.thread_seconds()

    def peer(self) -> Any:
        """A second, clean worker that can't see the student's code; closed with the test."""
        self.worker  # noqa: B018  the student's own comes first in the list
        return self._further(student=False)

    def measure(self, measure: Measure) -> None:
        """Attach a measured number to this test's record."""
        self.measures.append(measure)

    @property
    def output(self) -> str:
        """What the student's code printed so far."""
        return self._workers[0].output.text if self._workers else ""

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            worker.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except host.WorkerFailure as failure:
            raise self._translate(failure) from None

    def _translate(self, failure: host.WorkerFailure) -> StudentError:
        frames = frames_with_source(failure.frames, self._overlay)
        where = f" in {frames[-1].function} ({frames[-1].file}:{frames[-1].line})" if frames else ""
        if isinstance(failure, host.WorkerRaised):
            error = dict(failure.error)
            if error.get("type") == "KernelError":  # where the helper is called that it ended in
                error["message"] = _short(error.get("message"), 3500) + called_from(
                    failure.frames, self._overlay
                )
            if error.get("type") == "NotImplementedError":
                frames = with_stub(frames, _short(error.get("message"), 200), self._overlay)
            return StudentRaised(error, frames)
        if isinstance(failure, host.WorkerTimedOut):
            text = f"your code did not finish: {failure}{where or ' (it could not say where)'}"
            self.timed_out = True
            return StudentTimedOut("time limit", text, frames)
        if isinstance(failure, host.WorkerFlooded):
            return StudentFlooded("too much output", f"your code was stopped: {failure}", frames)
        if isinstance(failure, host.WorkerFilledDisk):
            return StudentFlooded("too many files", f"your code was stopped: {failure}", frames)
        if isinstance(failure, host.WorkerDied):
            hint = next((h for name, h in _SIGNAL_HINTS.items() if name in str(failure)), "")
            text = f"your code ended the process before it answered: {failure}{where}"
            return StudentCrashed(str(failure), f"{text}; {hint}" if hint else text, frames)
        return StudentMisbehaved("not an answer", str(failure), frames)


class Session:
    """An object that lives in the worker, behind the methods its staff-written class has."""

    def __init__(self, student: Student, handle: str) -> None:
        self._student = student
        self._handle = handle

    def call(self, method: str, *, timeout: float | None = None, **arguments: Any) -> Any:
        """The result of `method(**arguments)`."""
        if method.startswith("_"):
            raise ValueError(f"{method} is not a public method")
        student = self._student
        with student._translated():
            value = student.worker.call_method(
                self._handle, method, arguments, timeout=student.seconds(timeout), **student._head
            )
        student.answers += 1
        return value

    def resident_bytes(self) -> int:
        """Resident memory of the worker now, by the kernel's account."""
        with self._student._translated():
            return self._student.worker.resident_bytes()


def _short(text: Any, length: int) -> str:
    """A text from the worker, cut; what is no Unicode (lone surrogates) is replaced."""
    if not isinstance(text, str):
        return ""
    return text[:length].encode("utf-8", "replace").decode("utf-8")
