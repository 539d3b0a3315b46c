"""The terminal: 80 columns are enough, no escape of a student arrives, a pipe gets plain lines."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parent))
import reporting_samples as samples

from autograder.reporting.outcome import build_report
from autograder.reporting.terminal import Progress, final_line, print_report
from autograder.testing.records import TestRecord


def console(**more: Any) -> Console:
    return Console(file=io.StringIO(), width=80, markup=False, emoji=False, highlight=False, **more)


def printed(tmp_path: Path, records: dict[str, TestRecord], **more: Any) -> str:
    out = console()
    print_report(
        build_report(samples.assignment(tmp_path), samples.manifest(), records, **more), out
    )
    return out.file.getvalue()  # type: ignore[attr-defined]


def test_the_last_line_is_the_score(tmp_path: Path) -> None:
    text = printed(tmp_path, samples.mixed_records())
    assert text.rstrip().split("\n")[-1] == "hw1_autodiff: 77.16 / 100.0 points"
    full = build_report(samples.assignment(tmp_path), samples.manifest(), samples.full_records())
    assert final_line(full) == "hw1_autodiff: 100.0 / 100.0 points"


def test_public_only_says_what_hidden_tests_carry(tmp_path: Path) -> None:
    text = printed(tmp_path, samples.mixed_records(), public_only=True)
    assert "public points; hidden tests carry the other 40" in text
    assert "(hidden" not in text


def test_every_line_fits_80_columns_and_shows_message_source_and_command(tmp_path: Path) -> None:
    text = printed(tmp_path, samples.mixed_records())
    assert max(len(line.rstrip()) for line in text.split("\n")) <= 80
    for words in (
        "hint: a tensor that is used twice", "> 42 |         if expanded",
        "make test HW=hw1_autodiff K=test_gradient_1_4", "skipped: needs 1.4", "5.4 / 12",
        "4 other tests passed", "RecursionError",
    ):  # fmt: skip
        assert words in text, words
    assert "50000" not in text


def test_escapes_and_markup_of_a_student_are_plain_text(tmp_path: Path) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J[bold red]boo[/bold red] :skull:"
    records = samples.full_records()
    first = samples.manifest()[0].test
    records[first] = records[first].model_copy(
        update={"status": "failed", "message": evil, "output": evil, "fraction": 0.0}
    )
    text = printed(tmp_path, records, notes=[evil])
    assert "\x1b" not in text
    assert "[bold red]boo[/bold red] :skull:" in text


def test_no_color_is_honoured_in_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = build_report(samples.assignment(tmp_path), samples.manifest(), {})
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = console(force_terminal=True, color_system="standard")
    print_report(report, coloured)
    monkeypatch.setenv("NO_COLOR", "1")
    plain = console(force_terminal=True, color_system="standard")
    records = samples.mixed_records()
    report = build_report(samples.assignment(tmp_path), samples.manifest(), records)
    print_report(report, coloured)
    print_report(report, plain)
    assert "\x1b[31m" in coloured.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[31m" not in plain.file.getvalue()  # type: ignore[attr-defined]


def test_unfinished_tasks_are_one_line_and_many_failures_are_bounded(tmp_path: Path) -> None:
    records = {
        test: record.model_copy(
            update={"status": "failed", "exception": "NotImplementedError", "message": "task 1.4"}
        )
        for test, record in samples.full_records().items()
    }
    text = printed(tmp_path, records)
    assert "not written yet: 1.1, 1.2" in text
    assert "make test" not in text
    flood = {
        test: record.model_copy(update={"exception": "ValueError", "message": "x\n" * 9_000})
        for test, record in records.items()
    }
    assert printed(tmp_path, flood).count("\n") < 2_500


def test_progress_prints_one_plain_line_per_test_into_a_pipe() -> None:
    out = console()
    entries = samples.manifest()
    with Progress(entries, out) as progress:
        for record in samples.mixed_records().values():
            progress.on_record(record)
            progress.on_record(record)  # a second time changes nothing
        progress.on_record(TestRecord(test="other", number="9.9", status="passed"))
    lines = out.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) == len(samples.mixed_records())
    assert lines[0].startswith("[1/65] 1.1   passed   The forward result of strides")
    assert max(map(len, lines)) <= 80


def test_progress_is_live_in_a_terminal() -> None:
    out = console(force_terminal=True)
    with Progress(samples.manifest(), out) as progress:
        for record in samples.mixed_records().values():
            progress.on_record(record)
    text = out.file.getvalue()  # type: ignore[attr-defined]
    assert "not passed" in text
    assert "/65" in text
