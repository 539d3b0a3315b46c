"""What homework 2's handout quotes of given files is there, in the lines that it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

HOMEWORK = Path(__file__).resolve().parents[2] / "hw2_cuda_kernels"
QUOTES = re.findall(
    r"^  (\w+\.cu):(\d+)  (?!global |shared )(.+)$", (HOMEWORK / "README.md").read_text(), re.M
)


def test_there_are_quotes():
    assert QUOTES


@pytest.mark.parametrize(("file", "line", "text"), QUOTES)
def test_a_quoted_line_is_the_files(file, line, text):
    lines = (HOMEWORK / "cuda_kernels" / file).read_text().splitlines()
    assert lines[int(line) - 1].strip() == text
