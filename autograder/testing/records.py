"""What one test leaves behind: a small JSON file, written atomically the moment the test ends.

The grader trusts these files and the manifest, nothing else: a test that left no record scores 0.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Status = Literal["passed", "failed", "skipped"]
Fault = Literal["none", "student", "grader"]
_CHOSEN = "chosen"  # beside the records, which end in .json


class SourceLine(BaseModel):
    """One line of source shown around a frame; `current` marks the line that was executing."""

    number: int
    text: str
    current: bool = False


class Frame(BaseModel):
    """One stack frame inside the student's own files; `file` is relative to the homework.

    ranks: of a group that ended as a whole, whose frame it is.
    """

    file: str
    line: int
    function: str
    source: list[SourceLine] = Field(default_factory=list)
    ranks: list[int] = Field(default_factory=list)


class Figure(BaseModel):
    """Data of a picture for the report; `kind` names the drawing function in `reporting.figures`."""

    kind: str
    title: str
    data: dict[str, Any]


class Measure(BaseModel):
    """A number that earned (or lost) points, with the ends of its score curve."""

    # NaN is written as such: as null it would make the whole record unreadable.
    model_config = ConfigDict(ser_json_inf_nan="constants")

    name: str
    value: float
    unit: str = "x"
    full: float | None = None
    zero: float | None = None
    peer: str = ""
    source: Literal["trusted", "worker-reported", "emulator"] = "trusted"
    note: str = ""
    met: bool | None = None  # whether it keeps the limit that `note` states, if it states one


class TestRecord(BaseModel):
    """The outcome of one test function (all of its parametrized cases together)."""

    __test__ = False
    model_config = ConfigDict(ser_json_inf_nan="constants")

    test: str
    number: str
    status: Status
    fraction: float = 0.0
    fault: Fault = "none"
    property: str = ""
    exception: str = ""
    message: str = ""
    frames: list[Frame] = Field(default_factory=list)
    output: str = ""
    warnings: list[str] = Field(default_factory=list)  # about kernels; they cost nothing
    seconds: float = 0.0
    measures: list[Measure] = Field(default_factory=list)
    figures: list[Figure] = Field(default_factory=list)
    leaderboard: dict[str, Any] | None = None


def record_path(folder: Path, test: str) -> Path:
    """The file for the test `tests/test_x.py::test_name`."""
    return folder / (re.sub(r"[^A-Za-z0-9_.-]+", "_", test) + ".json")


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` by `text` in one step, so that a reader never sees half a file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def write_record(folder: Path, record: TestRecord) -> None:
    """Write `record` into `folder`."""
    try:
        text = record.model_dump_json()
    except ValueError:  # a figure's data may come from student code, and be anything
        text = record.model_copy(update={"figures": [], "leaderboard": None}).model_dump_json()
    write_atomically(record_path(folder, record.test), text)


def write_chosen(folder: Path, tests: Iterable[str]) -> None:
    """Say which tests will run, once pytest has chosen them."""
    write_atomically(folder / _CHOSEN, json.dumps(sorted(tests)))


def read_chosen(folder: Path) -> list[str] | None:
    """The tests that will run; None before that is known."""
    try:
        return json.loads((folder / _CHOSEN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def read_records(folder: Path) -> dict[str, TestRecord]:
    """All records in `folder`, by test; an unreadable file counts as absent (it then scores 0)."""
    records = {}
    for path in sorted(folder.glob("*.json")):
        try:
            record = TestRecord.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except ValueError:
            continue
        records[record.test] = record
    return records


@dataclass(frozen=True)
class Memory:
    """Resident memory around one call, in bytes, as the kernel counts it for the process.

    baseline: just before the call, its arguments already there; peak: the most during the call;
    held: after the answer. Meaningful for differences of 64 MB and more.
    """

    value: Any
    baseline_bytes: int
    peak_bytes: int
    held_bytes: int

    @property
    def extra_bytes(self) -> int:
        """The most that was held at once on top of the baseline."""
        return self.peak_bytes - self.baseline_bytes
