"""Files that are deep, long or repetitive are refused or built in bounded time."""

from __future__ import annotations

import time

import pytest

from autograder.kernels.compile import build
from autograder.kernels.errors import BuildError
from autograder.kernels.screen import words
from autograder.kernels.tokens import DEEPEST, tokenize

ENTRY = '\nextern "C" void f(float* x) { (void)x; }\n'
DEEP = {
    "subscripts": "int a" + "[" * 50_000 + "]" * 50_000 + ";",
    "attributes without an end": "int a " + "[[" * 40_000,
    "parentheses": "int a = " + "(" * 50_000 + "1" + ")" * 50_000 + ";",
    "blocks": "void g() " + "{" * 50_000 + "}" * 50_000,
    "a macro": "#define A " + "[" * 50_000,
    "barriers": "__global__ void g() { " + "__any_sync(" * 10_000 + ")" * 10_000 + "; }",
    "launches": "void g() { " + "k<<<1, 2>>>(" * 9_000 + ")" * 9_000 + "; }",
    "linkage": 'extern "C" {' * 9_000 + "}" * 9_000,
    "parameters": "void g(" * 25_000,
}
LONG = {
    "qualifiers": ("__device__ " * 15_000 + "void g();", "this declaration is too long"),
    "shared": ("__global__ void g() { " + "__shared__ " * 15_000 + "int a; }", "too long"),
    "attributes": (f"extern \"C\" void g {'__attribute__((unused)) ' * 8_000};", "too long"),
    "comparisons": ("__global__ void g(int b) { a = " + "any<" * 40_000 + "b; }", "200 < in one"),
}


@pytest.mark.parametrize("name", DEEP)
def test_what_lies_too_deep_is_refused_at_once(name, tmp_path):
    (tmp_path / "k.cu").write_text(DEEP[name] + ENTRY)
    started = time.process_time()
    with pytest.raises(BuildError, match=r"^k\.cu:1: more than \d+ brackets lie inside") as caught:
        build(tmp_path / "k.cu", instrumented=True, cache=tmp_path / "cache")
    assert caught.value.places == [("k.cu", 1)]
    assert time.process_time() - started < 5, "seconds of this process; searches took minutes"


@pytest.mark.parametrize("name", LONG)
def test_what_is_too_long_is_refused_soon(name, tmp_path):
    text, message = LONG[name]
    (tmp_path / "k.cu").write_text(text + ENTRY)
    started = time.process_time()
    with pytest.raises(BuildError) as caught:
        build(tmp_path / "k.cu", instrumented=True, cache=tmp_path / "cache")
    assert message in caught.value.message and caught.value.places == [("k.cu", 1)]
    assert time.process_time() - started < 10


def test_many_attributes_in_a_row_take_no_time(tmp_path):
    (tmp_path / "k.cu").write_text("void g() " + "__attribute__((unused)) " * 8_000 + ";" + ENTRY)
    started = time.process_time()
    assert build(tmp_path / "k.cu", instrumented=True, cache=tmp_path / "cache").entries
    assert time.process_time() - started < 10


def test_the_deepest_that_is_taken():
    def nested(depth: int) -> list:
        return tokenize("(" * depth + ")" * depth, "k.cu").tokens

    words(nested(DEEPEST))
    with pytest.raises(BuildError):
        words(nested(DEEPEST + 1))
