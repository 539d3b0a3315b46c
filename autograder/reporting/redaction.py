"""What a student sees of a hidden test: its title, the kind of error, the place in their code.

Printed text, exception text, measured values and figures stay out. So do two quieter channels: a
class named after a value it saw, and a function renamed at run time; a name is shown only if it is
a well-known exception, or a function that the handed-out code defines.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Sequence
from dataclasses import dataclass

from autograder.course.assignment import Assignment
from autograder.reporting.sanitise import clean_line, clean_text
from autograder.testing.kernel_words import KNOWN_KINDS
from autograder.testing.records import Frame, SourceLine, TestRecord

MAX_FRAMES = 6
MAX_SOURCE_LINES = 11
_MAX_LINE_NUMBER = 1_000_000

_BUILTIN_EXCEPTIONS = {
    name
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, BaseException)
}
# Raised by the grader itself, or by the packages that homeworks use.
_KNOWN_EXCEPTIONS = _BUILTIN_EXCEPTIONS | {
    "StudentError",
    "StudentRaised",
    "StudentCrashed",
    "StudentTimedOut",
    "StudentFlooded",
    "StudentMisbehaved",
    "ForbiddenImport",
    "BlasForbidden",
    "UnsupportedValue",
    "LinAlgError",
    "AxisError",
    "UFuncTypeError",
    "TypingError",
    "LoweringError",
    "UnsupportedError",
    "OutOfMemoryError",
    "BuildError",
    "KernelError",
    "MalformedReport",
}
_KNOWN_SIGNALS = {
    "SIGSEGV", "SIGABRT", "SIGFPE", "SIGILL", "SIGBUS", "SIGKILL", "SIGXCPU", "SIGSYS",
}  # fmt: skip
# What the grader calls the ways in which a worker ends. An exit status, or a rare signal, is a
# number that the student chooses, so it is left out.
_KNOWN_ENDS = {
    *("time limit", "too much output", "not an answer", "the process is gone"),
    *("deadlock", "mismatch", "broken", "messages left over"),  # of a group of ranks
}
_EXITED = re.compile(r"the process exited with status -?\d+")
_KILLED = re.compile(r"the process was killed by (SIG[A-Z0-9+-]+) \(signal \d+\)")
_NEEDS = re.compile(
    r"skipped: (needs [0-9][0-9., ]{0,120}|speed counts once the other tests of [0-9.]{1,9} pass)"
)
_HIDDEN_NOTE = (
    "This is a hidden test: only the kind of the error and the place in your code are shown."
)
_HIDDEN_SKIP = "skipped: a task or a test that this one needs did not pass"


@dataclass(frozen=True)
class Redaction:
    """The names that a hidden test's frames may show, for one homework."""

    package: str
    files: frozenset[str]
    functions: frozenset[str]

    @classmethod
    def of(cls, assignment: Assignment) -> Redaction:
        """Reads the functions that the homework's package defines as handed out."""
        functions = {"<module>", "<lambda>"}
        for path in sorted((assignment.root / assignment.package).rglob("*.py")):
            try:
                tree = ast.parse(path.read_text(encoding="utf-8"))
            except (OSError, SyntaxError, ValueError):
                continue
            functions.update(
                node.name
                for node in ast.walk(tree)
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            )
        return cls(assignment.package, frozenset(assignment.files), frozenset(functions))

    def hidden(self, record: TestRecord) -> TestRecord:
        """`record` with nothing left in it that could carry a value of a hidden test."""
        message = _HIDDEN_NOTE
        if record.status == "passed":
            message = ""
        elif record.status == "skipped":
            message = record.message if _NEEDS.fullmatch(record.message) else _HIDDEN_SKIP
        return TestRecord(
            test=record.test,
            number=record.number,
            status=record.status,
            fraction=record.fraction,
            fault=record.fault,
            exception=known_exception(record.exception),
            message=message,
            frames=[self._frame(frame) for frame in record.frames if self._own(frame)],
            seconds=record.seconds,
        )

    def _own(self, frame: Frame) -> bool:
        # Without its source line, a line number is any number that the student liked.
        parts = frame.file.split("/")
        in_package = parts[0] == self.package and ".." not in parts and frame.file.endswith(".py")
        exists = any(line.current and line.number == frame.line for line in frame.source)
        return exists and (frame.file in self.files or in_package)

    def _frame(self, frame: Frame) -> Frame:
        name = frame.function.rpartition(".")[2]
        return frame.model_copy(update={"function": name if name in self.functions else ""})


def known_exception(name: str) -> str:
    """What ended a test, if it is a well-known end; else just that it was an exception."""
    if not name or name in _KNOWN_ENDS or name in KNOWN_KINDS:
        return name
    if _EXITED.fullmatch(name):
        return "the process exited"
    killed = _KILLED.fullmatch(name)
    if killed:
        return name if killed[1] in _KNOWN_SIGNALS else "the process was killed by a signal"
    short = name.rpartition(".")[2]
    return short if short in _KNOWN_EXCEPTIONS else "an exception of another class"


def safe_frames(frames: Sequence[Frame]) -> tuple[Frame, ...]:
    """The innermost frames with clean names and lines; what makes no sense is left out."""
    safe: list[Frame] = []
    for frame in list(frames)[-MAX_FRAMES:]:
        if not 0 < frame.line <= _MAX_LINE_NUMBER:
            continue
        if safe and (safe[-1].file, safe[-1].line) == (frame.file, frame.line):
            continue  # several errors in a line, or a recursion
        safe.append(
            Frame(
                file=clean_line(frame.file, 120),
                line=frame.line,
                function=clean_line(frame.function, 80),
                source=_safe_source(frame),
                ranks=frame.ranks,
            )
        )
    return tuple(safe)


def _safe_source(frame: Frame) -> list[SourceLine]:
    """At most MAX_SOURCE_LINES lines around the current one."""
    near = [line for line in frame.source if abs(line.number - frame.line) <= MAX_SOURCE_LINES // 2]
    return [
        SourceLine(
            number=line.number,
            text=clean_text(line.text, max_lines=1, max_characters=400, max_line=160).rstrip(),
            current=line.number == frame.line,
        )
        for line in near[:MAX_SOURCE_LINES]
        if 0 < line.number <= _MAX_LINE_NUMBER
    ]
