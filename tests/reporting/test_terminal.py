"""The terminal: 80 columns are enough, no escape of a student arrives, a pipe gets plain lines."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

sys.path.insert(0, str(Path(__file__).parent))
import reporting_samples as samples

from autograder.reporting.html import render_html
from autograder.reporting.outcome import build_report
from autograder.reporting.terminal import Progress, final_line, print_indented, print_report
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
    out = console(force_terminal=True, color_system=None)
    report = build_report(samples.assignment(tmp_path), samples.manifest(), samples.mixed_records())
    print_report(report, out)
    text = out.file.getvalue()  # type: ignore[attr-defined]
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
    titles = {entry.title for entry in entries}
    assert all(line.split(maxsplit=3)[3] in titles for line in lines)  # whole, however long


def test_progress_counts_the_chosen_tests() -> None:
    for more in ({}, {"force_terminal": True}):
        out = console(**more)
        records = list(samples.mixed_records().values())[:2]
        with Progress(samples.manifest(), out) as progress:
            progress.on_chosen([record.test for record in records])
            for record in samples.mixed_records().values():
                progress.on_record(record)
        text = out.file.getvalue()  # type: ignore[attr-defined]
        assert "2/2" in text
        assert "/65" not in text.replace("0/65", "")  # drawn before anything was chosen


def test_what_can_be_copied_stays_on_one_line_unless_in_a_terminal(tmp_path: Path) -> None:
    """A terminal wraps; a pipe, a file and a log get the command as it is typed."""
    test = samples.manifest()[0]
    name = "test_" + "long_" * 30 + "name"
    entry = test.model_copy(update={"test": f"tests/test_1_1.py::{name}"})
    record = samples.full_records()[test.test].model_copy(
        update={"test": entry.test, "status": "failed", "fraction": 0.0, "message": "wrong"}
    )
    report = build_report(samples.assignment(tmp_path), [entry], {entry.test: record})
    for wraps in (False, True):
        out = console(force_terminal=wraps)
        print_report(report, out)
        text = out.file.getvalue()  # type: ignore[attr-defined]
        assert (f"make test HW=hw1_autodiff K={name}\n" in text) is not wraps


def test_an_error_at_import_is_told_once(tmp_path: Path) -> None:
    """The first test tells it with its source, the others refer to that one."""
    place = samples.frame(3, "<module>")
    records = {
        test: record.model_copy(
            update={"status": "failed", "fraction": 0.0, "exception": "IndentationError",
                    "message": f"of {test}: unexpected indent", "frames": [place]}
        )
        for test, record in samples.full_records().items()
    }  # fmt: skip
    report = build_report(samples.assignment(tmp_path), samples.manifest(), records)
    public = [test for test in report.tests() if not test.hidden]
    assert "unexpected indent" in public[0].message
    assert public[0].frames
    for test in public[1:]:
        assert not test.frames
        assert test.message == (
            "IndentationError in autodiff/engine.py, line 3: the same as in "
            f"{public[0].function} (task {public[0].number})"
        )
    text = printed(tmp_path, records, public_only=True)
    assert text.count("unexpected indent") == 1
    words = " ".join(text.split())
    assert f"the same in {len(public) - 1} more tests: {public[1].function}, " in words
    assert f"and {len(public) - 5} others, of 1.1, 1.2" in words
    other = {t: r.model_copy(update={"frames": [samples.frame()], "exception": "ValueError"})
             for t, r in records.items()}  # fmt: skip
    assert printed(tmp_path, other, public_only=True).count("unexpected indent") == 1
    for place, (test, record) in enumerate(other.items()):  # the same line, by another way
        other[test] = record.model_copy(update={"frames": [samples.frame(place + 1), *record.frames]})
    assert printed(tmp_path, other, public_only=True).count("unexpected indent") == 12


def test_progress_is_live_in_a_terminal() -> None:
    out = console(force_terminal=True)
    with Progress(samples.manifest(), out) as progress:
        for record in samples.mixed_records().values():
            progress.on_record(record)
    text = out.file.getvalue()  # type: ignore[attr-defined]
    assert "not passed" in text
    assert "/65" in text


def test_a_run_of_public_tests_says_how_to_have_its_inputs_again(tmp_path: Path) -> None:
    """Where a point was lost, and never where hidden tests ran: their inputs follow from the seed."""
    command = "make test HW=hw1_autodiff SEED=70123456789"
    lost, full = samples.mixed_records(), samples.full_records()
    shown = printed(tmp_path, lost, public_only=True, seed=70123456789)
    assert command in shown
    assert "points" in shown.splitlines()[-1]
    assert "SEED=" not in printed(tmp_path, lost, seed=70123456789)
    assert "SEED=" not in printed(tmp_path, lost, public_only=True)
    assert "SEED=" not in printed(tmp_path, full, public_only=True, seed=70123456789)
    reports = [
        build_report(samples.assignment(tmp_path), samples.manifest(), lost, seed=5, public_only=public)
        for public in (True, False)
    ]
    pages = [render_html(report) for report in reports]
    assert ["make test HW=hw1_autodiff SEED=5" in page for page in pages] == [True, False]


def test_prose_is_wrapped_to_where_its_line_began_and_source_stays_whole() -> None:
    """Into a pipe at 100 columns; what is copied, source and commands, is never broken."""
    prose = "    " + "thread reads what thread wrote, " * 8
    source = f"  > 42 | x[0] = {'1 + ' * 40}1;"
    command = f"make test HW=hw1_autodiff K=test_{'a_' * 60}b"
    for width, wide in (({}, 100), ({"force_terminal": True, "color_system": None}, 80)):
        out = console(**width)
        print_indented(Text("\n".join([prose, source, command])), out)
        lines = out.file.getvalue().splitlines()  # type: ignore[attr-defined]
        wrapped = [line for line in lines if "thread" in line or "wrote" in line]
        assert len(wrapped) > 2
        assert all(line.startswith("      ") and len(line) <= wide for line in wrapped)
        assert (f"  {source}" in lines) == (wide == 100)
        assert (f"  {command}" in lines) == (wide == 100)
