"""The normal form in which lines are compared, and what counts as a leak."""

from __future__ import annotations

import pytest

from autograder.course.leaks import Secrets, normalised

REGION = "total = [0.0] * n\nfor place in names:\n    total[place] += 1\nreturn total"


def _secrets(style: str = "#") -> Secrets:
    secrets = Secrets()
    secrets.add_solution("solution/x.py", REGION, 10, style)
    return secrets


def test_white_space_comments_and_lone_brackets_do_not_count() -> None:
    spaced = "total=[ 0.0 ]*n   # zeros\n\n# next\n)\nfor  place in names :\n\ttotal[place]+=1 #\n"
    assert [line.text for line in normalised(spaced, "#")] == [
        line.text for line in normalised(REGION, "#")[:3]
    ]
    assert _secrets().find("a.md", spaced)


def test_signs_in_strings_begin_no_comment() -> None:
    (line,) = normalised('color = "# no // comment"  # one', "#")
    assert line.text == 'color = "# no // comment"'
    (line,) = normalised('int x = a; // one "quote', "//")
    assert line.text == "int x = a ;"
    (line,) = normalised("rows = size // width", "#")
    assert line.text == "rows = size // width"


@pytest.mark.parametrize("style", ["#", "//"])
def test_two_lines_are_no_leak_and_three_are(style: str) -> None:
    lines = REGION.split("\n")
    secrets = _secrets(style)
    assert secrets.find("a.py", "\n".join([*lines[:2], "other", lines[2]])) == []
    (leak,) = secrets.find("a.py", "\n".join(["x = 1", *lines[1:]]))
    assert (leak.line, leak.origin) == (2, "solution/x.py:11 and the lines after it")


def test_one_line_is_a_leak_from_eight_tokens_on() -> None:
    secrets = Secrets()
    secrets.add_solution("s.py", "a = b + c + d\ne = f + g - h * 2", 1, "#")
    assert secrets.find("a.py", "a = b + c + d") == []  # seven tokens
    assert [leak.line for leak in secrets.find("a.py", "\ne=f+g-h*2")] == [2]
    secrets.forget_lines(["  e = f + g - h * 2  # given"])
    assert secrets.find("a.py", "e = f + g - h * 2") == []
