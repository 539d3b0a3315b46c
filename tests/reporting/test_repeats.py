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
from autograder.reporting.repeats import broken_files, one_per_task, telling_frames
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
    assert f"the same in 1 more test: {same.function}" in printed(report)
    elsewhere = f"{same.function}: see {first.function} of task {first.number}"
    within = f"the same in 1 more test: {same.function}"
    assert within in render_html(report)
    assert (elsewhere in render_html(report)) == (same.number != first.number)
    assert f"K={same.function}" in explain(same, report.name)  # how to see it all the same


@pytest.mark.parametrize(
    "second",
    [race(38, "m") | {"exception": "out of bounds"}, {"message": "no frames: another value"},
     race(38, "m") | {"frames": [place(30), place(38)]}, race(38, "m") | {"frames": [place(38)]}],
)  # fmt: skip
def test_another_kind_or_another_way_there_is_told_in_full(tmp_path, second):
    assert not any(test.same_as for test in lost(graded(tmp_path, [race(38, "m"), second])))


def changed(tmp_path: Path, number: str, changes: list[dict[str, Any]]) -> list[Any]:
    """The outcomes of a task's first public tests, which failed, each with its changes."""
    entries = [one for one in samples.manifest() if one.number == number and not one.hidden]
    records = samples.full_records()
    for entry, change in zip(entries, changes, strict=False):
        update = {"status": "failed", "fraction": 0.0, "exception": "AssertionError", **change}
        records[entry.test] = records[entry.test].model_copy(update=update)
    report = build_report(samples.assignment(tmp_path), samples.manifest(), records)
    return [test for test in report.tests() if test.state == "failed"]


def wrong(shape: str, index: str, got: str, hint: str = "add up") -> dict[str, Any]:
    return {"message": f"C is wrong in 3 of 9 entries (shape {shape})\nfirst at {index}: "
                       f"expected 1.5, got {got}\nhint: {hint}"}  # fmt: skip


def test_wrong_values_of_a_task_are_told_once_whatever_their_shapes_and_numbers(tmp_path):
    number = samples.manifest()[0].number
    first, same = changed(tmp_path, number, [
        wrong("(64, 64)", "[0, 32]", "-1e-05"), wrong("(3,)", "[2]", "nan")])  # fmt: skip
    assert (first.same_as, same.same_as) == ("", first.test)
    assert same.message.startswith("C is wrong in 3 of 9 entries (shape (3,)): the same as in")
    other = changed(tmp_path, number, [wrong("(3,)", "[2]", "2"), wrong("(3,)", "[2]", "2", "no")])
    assert not any(test.same_as for test in other)


def test_wrong_values_of_another_task_are_told_in_full(tmp_path):
    numbers = list(dict.fromkeys(entry.number for entry in samples.manifest()))[:2]
    public = [next(one for one in samples.manifest() if one.number == number and not one.hidden)
              for number in numbers]  # fmt: skip
    records = samples.full_records()
    for entry in public:
        update = {"status": "failed", "fraction": 0.0, "message": "expected 3, got 4"}
        records[entry.test] = records[entry.test].model_copy(update=update)
    report = build_report(samples.assignment(tmp_path), samples.manifest(), records)
    assert [test.same_as for test in lost(report)] == ["", ""]


def test_a_helper_of_several_kernels_is_told_once_in_a_task(tmp_path):
    """Whichever kernel called it; in another task the caller may be the one to blame."""
    helper = [place(line).model_copy(update={"function": "block_sum"}) for line in (41, 43)]
    number = samples.manifest()[0].number
    ways = ([place(70), *helper], [place(90), *helper[::-1]], helper)  # of two calls, none is named
    calls = [{"exception": "race", "message": "in one", "frames": frames} for frames in ways]
    first, *same = changed(tmp_path, number, calls)
    assert [test.same_as for test in same] == [first.test] * 2


def given_below(tmp_path: Path, frames: list[Frame]) -> Any:
    """The outcome of a failure with these frames; the student edits autodiff/engine.py alone."""
    (test,) = lost(graded(tmp_path, [{"exception": "ValueError", "frames": frames}]))
    assert "autodiff/engine.py" in test.edited
    assert "autodiff/given.py" not in test.edited
    return test


def test_the_line_to_look_at_is_the_students_own_and_not_one_of_a_given_file(tmp_path):
    own, given = "autodiff/engine.py", "autodiff/given.py"
    test = given_below(tmp_path, [place(3, own), place(7, own), place(8, given), place(9, given)])
    assert [frame.line for frame in telling_frames(test)] == [7]
    assert [frame.line for frame in telling_frames(test, 2)] == [3, 7]
    inside = given_below(tmp_path, [place(3, own), place(8, given), place(4, own)])
    assert [frame.line for frame in telling_frames(inside)] == [4]
    alone = given_below(tmp_path, [place(8, given), place(9, given)])
    assert [frame.line for frame in telling_frames(alone)] == [9]


def test_of_ranks_that_ended_together_each_ones_own_line_is_shown(tmp_path):
    """Ranks in one line together; of a rank that is in given files only, where it is there."""
    own, given = "autodiff/engine.py", "autodiff/given.py"
    lines = {0: [(3, own), (8, given)], 1: [(5, own), (8, given)], 2: [(3, own)], 3: [(9, given)]}
    frames = [place(line, file).model_copy(update={"ranks": [rank]})
              for rank, found in lines.items() for line, file in found]  # fmt: skip
    test = given_below(tmp_path, frames)
    assert [(f.line, f.ranks) for f in telling_frames(test)] == [(3, [0, 2]), (5, [1]), (9, [3])]
    report = graded(tmp_path, [{"exception": "deadlock", "frames": frames}])
    for text in (printed(report), render_html(report), results_of(report).model_dump_json()):
        assert "engine.py:3, in k (ranks 0, 2)" in text
        assert "engine.py:5, in k (rank 1)" in text


def test_a_stub_is_named_and_told_once(tmp_path):
    stub = {"exception": "NotImplementedError", "frames": [place(50)]}
    named = [stub | {"message": f"task 1.1: {name} is not implemented yet"}
             for name in ("add", "add", "negate")]  # fmt: skip
    report = graded(tmp_path, named)
    assert [bool(test.same_as) for test in lost(report)] == [False, True, False]
    assert "not written yet: 1.1 (add, negate)" in " ".join(printed(report).split())
    assert render_html(report).count("add is not implemented yet") == 1


def test_of_many_failures_each_task_has_one_before_any_has_two(tmp_path):
    entries = [one for one in samples.manifest() if not one.hidden and not one.speed]
    changes = [{"message": f"no {chr(97 + place // 26)}{chr(97 + place % 26)}"}
               for place in range(len(entries))]  # fmt: skip
    report = graded(tmp_path, changes)
    order = [test.number for test in one_per_task(lost(report))]
    tasks = list(dict.fromkeys(test.number for test in lost(report)))
    assert order[: len(tasks)] == tasks
    assert len(order) == len(lost(report))
    text = printed(report)
    assert f"and {len(order) - 12} more: see the HTML report for test_" in " ".join(text.split())


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


def test_a_warning_of_a_test_that_passed_is_in_every_report_once(tmp_path):
    """It costs nothing; threads differ, and of a hidden test nothing is said."""
    public = [one for one in samples.manifest() if one.number == "1.1" and not one.hidden][:2]
    secret = next(one for one in samples.manifest() if one.hidden)
    records = samples.full_records()
    for place, entry in enumerate([*public, secret]):
        text = f"half of a barrier in k, a.cu:{31 if place < 2 else 66}\n  thread {place} waits"
        records[entry.test] = records[entry.test].model_copy(update={"warnings": [text]})
    report = build_report(samples.assignment(tmp_path), samples.manifest(), records)
    names = [one.test.rpartition("::")[2] for one in public]
    for text in (printed(report), render_html(report)):
        assert text.count("half of a barrier in k, a.cu:31") == 1
        assert "a.cu:66" not in text
        assert all(name in text for name in names)
    output = next(test.output for test in results_of(report).tests or [] if "a.cu" in test.output)
    assert "Warning, which costs no points:\nhalf of a barrier" in output
    assert report.full
