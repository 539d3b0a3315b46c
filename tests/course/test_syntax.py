"""Syntax problems are found outside the grader's process."""

from __future__ import annotations

from autograder.course import syntax
from autograder.course.syntax import syntax_problems


def test_problems_come_with_file_and_line() -> None:
    files = {"a.py": b"x = 1\n", "b.py": b"x = 1\ndef f(:\n", "c.py": b"return 1\n", "k.cu": b"{{("}
    notes = syntax_problems(files)
    assert len(notes) == 2
    assert notes[0].startswith("b.py:2: SyntaxError: ")
    assert notes[1].startswith("c.py:1: SyntaxError: ")


def test_code_is_not_run() -> None:
    assert syntax_problems({"a.py": b"raise SystemExit(3)\nimport os; os._exit(1)\n"}) == []


def test_what_breaks_a_parser_is_a_note_and_the_rest_is_still_judged() -> None:
    files = {
        "deep.py": b"x = " + b"(" * 100_000 + b")" * 100_000 + b"\n",
        "sum.py": b"x = " + b"-" * 200_000 + b"1\n",
        "chain.py": b"x = 1" + b".a" * 300_000 + b"\n",
        "last.py": b"def f(:\n",
    }
    notes = syntax_problems(files)
    assert "too deeply" in notes[0] or "too many" in notes[0] or "crashed" in notes[0]
    assert [note.split(":")[0] for note in notes] in (
        ["deep.py", "sum.py", "chain.py", "last.py"],
        ["deep.py", "sum.py", "last.py"],  # some versions compile long chains
    )


def test_a_child_that_dies_costs_one_file_only(monkeypatch) -> None:
    start = 'line, message = 0, ""'
    abort = '\n    if "BOOM" in text: import os; os.abort()'
    crash = syntax._CHILD.replace(start, start + abort)
    monkeypatch.setattr(syntax, "_CHILD", crash)
    notes = syntax_problems({"a.py": b"x = (\n", "b.py": b"# BOOM\n", "c.py": b"y = )\n"})
    assert [note[:6] for note in notes] == ["a.py:1", "b.py:1", "c.py:1"]
    assert "crashed" in notes[1]
