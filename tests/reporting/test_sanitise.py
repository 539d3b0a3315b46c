"""Student text: what acts on a terminal or a reader is gone, what was meant to be read stays."""

from __future__ import annotations

import time
import unicodedata

import pytest

from autograder.reporting.sanitise import clean_line, clean_text

HOSTILE = [
    ("\x1b[31mred\x1b[0m", "red"),
    ("\x1b[2J\x1b[Hgone", "gone"),
    ("\x1b]0;title\x07text", "text"),
    ("\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\", "link"),
    ("\x9b31mred", "red"),
    ("\x9d0;title\x9ctext", "text"),
    ("\x1bPpayload\x1b\\after", "after"),
    ("\x1b]unterminated\nnext line", "next line"),
    ("\x1b\x1b[m[31mjoined", "joined"),
    ("a\x00b\x08c\x7fd", "abcd"),
    ("\u202egnp.exe\u202c", "gnp.exe"),
    ("\u2066iso\u2069\u200blate\ufeff", "isolate"),
    ("tag\U000e0041\U000e0042s", "tags"),
    ("progress 1%\rprogress 2%\r\ndone", "progress 1%\nprogress 2%\ndone"),
    ("lone \ud800 surrogate", "lone \ufffd surrogate"),
    ("x = 'naïve 张 ≤ 1e-6'", "x = 'naïve 张 ≤ 1e-6'"),
    ("  indented\n\tcode", "  indented\n    code"),
]


@pytest.mark.parametrize(("raw", "kept"), HOSTILE)
def test_escapes_and_invisible_characters_go_and_text_stays(raw: str, kept: str) -> None:
    assert clean_text(raw).endswith(kept)
    assert "\x1b" not in clean_text(raw)


def test_no_control_or_format_character_survives_among_all_of_unicode() -> None:
    everything = "".join(map(chr, range(0x110000)))
    left = clean_text(everything, max_characters=10**7, max_lines=10**6, max_line=10**7)
    harmful = [c for c in left if unicodedata.category(c) in ("Cc", "Cs") and c != "\n"]
    assert harmful == []
    assert not {chr(c) for c in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))} & set(left)


def test_long_text_keeps_head_and_tail_within_the_limit() -> None:
    text = "first\n" + "middle\n" * 200_000 + "last"
    cleaned = clean_text(text, max_characters=5_000, max_lines=50)
    assert len(cleaned) <= 5_000
    assert len(cleaned.split("\n")) <= 50
    assert cleaned.startswith("first\n")
    assert cleaned.endswith("last")
    assert "cut)" in cleaned


def test_one_endless_line_is_cut() -> None:
    assert len(clean_text("x" * 10**6, max_line=100)) < 500


def test_time_is_linear_even_for_input_made_to_be_slow() -> None:
    for unit in ("\x1b]", "\x1b[", "\x1b[1;", "\x1b ", "\x9d"):
        start = time.process_time()
        clean_text(unit * 2_000_000)
        clean_text(unit * 5_000, max_characters=10**6)
        assert time.process_time() - start < 3.0


def test_a_line_has_no_newline_and_a_maximum() -> None:
    assert clean_line("a\n\n  b\t c") == "a b c"
    assert len(clean_line("word " * 1_000, 50)) == 50
    assert clean_line("\x1b[1mbold\x1b[0m\nnext") == "bold next"
