"""One mistake is told once, and a kernel file that can't be built stands above all tests."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parent))
import reporting_samples as samples

from autograder.reporting.explain import explain
from autograder.reporting.html import render_html
from autograder.reporting.outcome import Report, build_report
from autograder.reporting.repeats import broken_files
from autograder.reporting.results import results_of
from autograder.reporting.terminal import print_report
from autograder.testing.records import Frame, SourceLine

BUILD = "BuildError: matmul.cu:12: expected ';'\n    sum += a\nmatmul.cu:14: no c here\n    c[0] = 1;"


def place(line: int, file: str = "cuda_kernels/matmul.cu") -> Frame:
    return Frame(file=file, line=line, function="k",
                 source=[SourceLine(number=line, text=f"line {line};", current=True)])  # fmt: skip


def graded(tmp_path: Path, changes: list[dict[str, Any]], **options: Any) -> Report:
    """The report of a run in which the first public tests failed, each with its changes."""
    entries = [one for one in samples.manifest() if not one.hidden and not one.speed]
    records = samples.full_records()
    for entry, change in zip(entries, changes, strict=False):
        update = {"status": "failed", "fraction": 0.0, "message": "wrong", **change}
        records[entry.test] = records[entry.test].model_copy(update=update)
    return build_report(samples.assignment(tmp_path), samples.manifest(), records, **options)


def lost(report: Report) -> list[Any]:
    return [test for test in report.tests() if test.state == "failed"]


def printed(report: Report) -> str:
    out = io.StringIO()
    print_report(report, Console(file=out, width=100))
    return out.getvalue()


def race(line: int, message: str) -> dict[str, Any]:
    return {"exception": "race", "message": message, "frames": [place(31), place(line)]}


def test_the_same_bug_of_a_kernel_is_told_once_in_every_report(tmp_path):
    """Sizes and threads differ between the tests; the lines are what counts."""
    report = graded(tmp_path, [race(38, "thread (1) reads"), race(38, "thread (2) reads"),
                               race(39, "thread (3) reads")])  # fmt: skip
    first, same, other = lost(report)
    assert (first.same_as, same.same_as, other.same_as) == ("", first.test, "")
    assert same.message == (
        f"race in cuda_kernels/matmul.cu, line 38: the same as in {first.function} "
        f"(task {first.number})"
    )
    outputs = "\n".join(test.output or "" for test in results_of(report).tests or [])
    for text in (printed(report), render_html(report), outputs):
        assert "thread (1) reads" in text
        assert "thread (2) reads" not in text
        assert "thread (3) reads" in text
    assert f"the same error in 1 other test of {same.number}" in printed(report)
    assert f"the same as in {first.function}" in render_html(report)
    assert f"K={same.function}" in explain(same, report.name)  # how to see it all the same


@pytest.mark.parametrize(
    "second",
    [race(38, "m") | {"exception": "out of bounds"}, {"message": "no frames: another value"},
     race(38, "m") | {"frames": [place(30), place(38)]}, race(38, "m") | {"frames": [place(38)]}],
)  # fmt: skip
def test_another_kind_or_another_way_there_is_told_in_full(tmp_path, second):
    assert not any(test.same_as for test in lost(graded(tmp_path, [race(38, "m"), second])))


def test_equal_messages_of_assertions_without_a_place_stay(tmp_path):
    wrong = {"exception": "AssertionError", "message": "expected 3, got 4"}
    assert not any(test.same_as for test in lost(graded(tmp_path, [wrong, wrong])))


def test_a_kernel_file_that_can_t_be_built_stands_at_the_top(tmp_path):
    """Whichever given function loaded the file."""
    given = [place(line, "cuda_kernels/matmul.py") for line in (3, 9)]
    frames = [place(12), place(14)]
    build = {"exception": "BuildError", "message": BUILD}
    report = graded(tmp_path, [build | {"frames": [one, *frames]} for one in given])
    (problem,) = report.broken
    first, second = lost(report)
    numbers = ", ".join(dict.fromkeys((first.number, second.number)))
    assert problem.splitlines()[:2] == ["matmul.cu:12: expected ';'", "    sum += a"]
    assert problem.splitlines()[-1] == f"2 tests of {numbers} can't run before that"
    assert "cuda_kernels/matmul.cu, line 12: the same as in" in second.message
    text = printed(report)
    assert text.startswith("does not compile:\n  matmul.cu:12: expected ';'")
    assert text.count("> 12 | line 12;") == 1
    page = render_html(report)
    assert page.index("Does not compile") < page.index("matmul.cu:12") < page.index("Points by task")
    output = results_of(report).output or ""
    assert output.splitlines()[1] == "does not compile: matmul.cu:12: expected ';'"


def test_of_hidden_tests_nothing_rises_to_the_top(tmp_path):
    hidden = next(entry for entry in samples.manifest() if entry.hidden)
    record = samples.full_records()[hidden.test].model_copy(
        update={"status": "failed", "fraction": 0.0, "exception": "BuildError", "message": BUILD}
    )
    report = build_report(samples.assignment(tmp_path), samples.manifest(), {hidden.test: record})
    assert report.broken == ()


def test_python_that_does_not_compile_stands_there_too_and_escapes_are_taken_out(tmp_path):
    report = graded(tmp_path, [], broken=["autodiff/engine.py:3: SyntaxError: bad\x1b[31m <b>"])
    assert printed(report).startswith("does not compile:\n  autodiff/engine.py:3: SyntaxError: bad <b>")
    assert "engine.py:3: SyntaxError: bad &lt;b&gt;" in render_html(report)


def test_near_the_score_the_broken_files_are_named_once_more(tmp_path):
    """By then the top has scrolled off."""
    broken = ["transpose.cu:3: expected ';'", "tiny/ops.py:4: SyntaxError", "transpose.cu:9: no a"]
    assert broken_files(broken) == "transpose.cu and ops.py"
    assert broken_files([*broken, "ld: no main"]) == "transpose.cu and ops.py"
    assert (broken_files(["ld: no main"]), broken_files([])) == ("a file", "")
    *_, line, score = printed(graded(tmp_path, [], broken=broken)).rstrip().splitlines()
    assert line == "does not compile: transpose.cu and ops.py (see the top)"
    assert score.endswith("100.0 points")


def test_several_errors_in_a_line_are_one_frame(tmp_path):
    frames = [place(12), place(12), place(14), place(12)]
    (test,) = lost(graded(tmp_path, [{"exception": "BuildError", "frames": frames}]))
    assert [frame.line for frame in test.frames] == [12, 14, 12]


@pytest.mark.parametrize("width", range(40, 121, 16))
def test_names_with_underscores_and_brackets_survive_every_report(tmp_path, width):
    """They are no markup, neither bold Markdown nor a style of the terminal's; wrapped, not cut."""
    sentence = (
        "thread (0) of block (1) reads grad[64] (row-major (1, 0) of (4, 64)), which thread (0) of "
        "block (0) wrote in the same line; nothing orders two blocks of one launch but atomics with "
        "__threadfence(), [bold] and __shared__ __half tile[32][33]"
    )
    report = graded(tmp_path, [race(38, sentence)], broken=[f"matmul.cu:1: {sentence}"])
    assert render_html(report).count(sentence) == 2
    texts = [report_text for test in results_of(report).tests or [] if (report_text := test.output)]
    assert any(sentence in text for text in texts)
    for terminal in (True, False):
        out = io.StringIO()
        print_report(report, Console(file=out, width=width, force_terminal=terminal, color_system=None,
                                     markup=False, highlight=False))  # fmt: skip
        assert out.getvalue().replace("\n", " ").split().count("__threadfence(),") == 2
        assert " ".join(out.getvalue().split()).count(sentence) == 2
