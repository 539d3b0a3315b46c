"""What a student reads where a file does not compile: once, on the right line, with the reason."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from test_build import folder, refused  # noqa: E402, F401

TILES = """\
#include <cuda_runtime.h>
template <int N> __device__ void take(const float (&tile)[N][N], float (&sums)[N]) { sums[0] = 1; }
template <int G> __global__ void k(float* out) {
    __shared__ float a_tile[16 * G][64];
    float sums[4];
    take(a_tile, sums);
}
extern "C" void f(float* out) { k<1><<<1, 1>>>(out); k<2><<<1, 1>>>(out); }
"""


@pytest.mark.skipif(not shutil.which("g++"), reason="the words are g++'s")
def test_a_call_that_does_not_fit_is_told_once_with_the_reason(folder):
    error = refused(folder, TILES, compiler="g++")
    assert error.places == [("k.cu", 6)]
    assert error.message.count("no matching function") == 1
    assert "line 2 has 'template<int N> void take(const float (&)[N][N]" in error.message
    assert "mismatched types" in error.message or "conflicting" in error.message
    assert "::type" not in error.message


@pytest.mark.skipif(not shutil.which("g++"), reason="the words are g++'s")
def test_a_missing_end_of_a_statement_is_told_of_its_own_line(folder):
    text = "#include <cuda_runtime.h>\nint f(int n) {\n int i = n  // one\n\n i += 1;\n return i\n}"
    error = refused(folder, text, compiler="g++")
    assert error.places == [("k.cu", 3), ("k.cu", 6)]
    assert "a ; is missing at the end of this line (before 'i', line 5)\n    int i = n" in error.message
    inside = refused(folder, "int f(int n) { int i = n return i; }", compiler="g++")
    assert inside.places == [("k.cu", 1)] and "expected" in inside.message


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("void f() {\n for (;;) {\n}\n\nvoid g() {\n}\n", 1, "still open in line 5"),
        ("void f(int n) {\n if (n) {\n}\ntemplate <int N>\nvoid g() {}\n", 1, "in line 4"),
        ("namespace x {\nvoid f() {\n}\n", 1, "never closed"),
        ("int g() {\n auto a = [](int n) { return n; };\n { int b(3);\n}\n", 1, "never closed"),
    ],
)
def test_a_brace_that_stays_open_is_told_where_it_stands(folder, text, line, words):
    error = refused(folder, text)
    assert error.places == [("k.cu", line)], error.message
    assert words in error.message
