"""Stubs from marks, in Python and in CUDA."""

from __future__ import annotations

import ast
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autograder.course
from autograder.course.marks import MarkError, solution_lines, stub_source

PYTHON = '''\
"""Text with # BEGIN SOLUTION 1.4 in it."""
import os

EXAMPLE = """
# BEGIN SOLUTION 1.4
"""


class Layer:
    def forward(self, x):
        """Docs stay."""
        y = x  # kept
        # BEGIN SOLUTION 1.4
        @decorated
        def inner():
            return y
        z = """
  odd indent
"""
        return inner()
        # END SOLUTION

    def given(self):
        return 1
'''


def test_a_python_stub_keeps_all_but_the_region() -> None:
    stub = stub_source(PYTHON, "x.py")
    assert '        raise NotImplementedError("task 1.4: Layer.forward")\n' in stub
    assert "y = x  # kept" in stub
    assert "def given" in stub
    assert "inner" not in stub and "odd indent" not in stub
    assert stub.count("BEGIN SOLUTION") == 2, "text in strings is no mark"
    ast.parse(stub)


def test_lines_inside_marks_come_with_their_numbers() -> None:
    lines = PYTHON.split("\n")
    found = solution_lines(PYTHON, "x.py")
    assert list(found) == ["1.4"]
    assert [number for number, _ in found["1.4"]] == list(range(14, 21))
    assert all(lines[number - 1] == line for number, line in found["1.4"])


def test_later_regions_of_a_function_vanish() -> None:
    text = textwrap.dedent("""\
        def f(x):
            # BEGIN SOLUTION 1.1
            a = 1
            # END SOLUTION
            b = 2
            if x:
                c = 3
                # BEGIN SOLUTION 1.1
                d = 4
                # END SOLUTION
            return b
        """)
    stub = stub_source(text, "x.py")
    assert stub.count("raise NotImplementedError") == 1
    assert "d = 4" not in stub and "c = 3" in stub and "SOLUTION" not in stub


def test_two_functions_get_a_raise_each_and_crlf_is_read() -> None:
    one = "def {}():\r\n    # BEGIN SOLUTION {}\r\n    return 1\r\n    # END SOLUTION\r\n"
    stub = stub_source(one.format("f", "1.1") + one.format("g", "1.2"), "x.py", ["1.1", "1.2"])
    assert stub == (
        'def f():\n    raise NotImplementedError("task 1.1: f")\n'
        'def g():\n    raise NotImplementedError("task 1.2: g")\n'
    )


BAD_PYTHON = {
    "nested": (
        "def f():\n    # BEGIN SOLUTION 1.1\n    # BEGIN SOLUTION 1.1\n    a\n", 3, "nested",
    ),
    "unclosed": ("def f():\n    # BEGIN SOLUTION 1.1\n    a\n", 2, "never closed"),
    "unopened": ("def f():\n    a\n    # END SOLUTION\n", 3, "closes nothing"),
    "misspelt": ("def f():\n    # begin solution 1.1\n    a\n    # END SOLUTION\n", 2, "written"),
    "no number": ("def f():\n    # BEGIN SOLUTION\n    a\n    # END SOLUTION\n", 2, "written"),
    "no space": ("def f():\n    #BEGIN SOLUTION 1.1\n    a\n    # END SOLUTION\n", 2, "written"),
    "unknown": ("def f():\n    # BEGIN SOLUTION 1.9\n    a\n    # END SOLUTION\n", 2, "no task"),
    "module": ("# BEGIN SOLUTION 1.1\na = 1\n# END SOLUTION\n", 1, "inside a function"),
    "class": ("class A:\n    # BEGIN SOLUTION 1.1\n    a = 1\n    # END SOLUTION\n", 2, "inside a"),
    "method": (
        "class A:\n    # BEGIN SOLUTION 1.1\n    def f(self):\n        pass\n    # END SOLUTION\n",
        2, "inside a function",
    ),
    "empty": (
        "def f():\n    # BEGIN SOLUTION 1.1\n    # x\n    # END SOLUTION\n    a\n", 2, "nothing",
    ),
    "trailing": (
        "def f():\n    a  # BEGIN SOLUTION 1.1\n    b\n    # END SOLUTION\n", 2, "of its own",
    ),
    "indent": ("def f():\n  # BEGIN SOLUTION 1.1\n    a\n  # END SOLUTION\n", 2, "indent"),
    "end indent": ("def f():\n    # BEGIN SOLUTION 1.1\n    a\n  # END SOLUTION\n", 4, "indent"),
    "half a statement": (
        "def f():\n    g(\n        # BEGIN SOLUTION 1.1\n        a,\n        # END SOLUTION\n"
        "    )\n",
        3, "whole statements",
    ),
    "across blocks": (
        "def f():\n    if a:\n        b\n        # BEGIN SOLUTION 1.1\n        c\n    d\n"
        "        # END SOLUTION\n", 4, "whole statements",
    ),
    "an else": (
        "def f():\n    if a:\n        b\n    # BEGIN SOLUTION 1.1\n    else:\n        c\n"
        "    # END SOLUTION\n", 4, "whole statements",
    ),
    "two branches": (
        "def f():\n    if a:\n        # BEGIN SOLUTION 1.1\n        b\n        # END SOLUTION\n"
        "    else:\n        # BEGIN SOLUTION 1.1\n        c\n        # END SOLUTION\n",
        7, "could pass by",
    ),
    "two tasks": (
        "def f():\n    # BEGIN SOLUTION 1.1\n    b\n    # END SOLUTION\n"
        "    # BEGIN SOLUTION 1.2\n    c\n    # END SOLUTION\n", 5, "already belongs",
    ),
    "emptied block": (
        "def f():\n    # BEGIN SOLUTION 1.1\n    b\n    # END SOLUTION\n    if x:\n"
        "        # BEGIN SOLUTION 1.1\n        c\n        # END SOLUTION\n", 1, "not be Python",
    ),
    "syntax": ("def f(:\n", 1, "correct the solution"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_PYTHON)
def test_bad_python_marks_are_refused_with_their_line(case: str) -> None:
    text, line, what = BAD_PYTHON[case]
    with pytest.raises(MarkError) as caught:
        stub_source(text, "some/file.py", ["1.1", "1.2"])
    assert str(caught.value).startswith(f"some/file.py:{line}: "), str(caught.value)
    assert what in str(caught.value)


_bodies = st.lists(
    st.sampled_from(
        ["a = 1", "if a:\n    b = 2\nelse:\n    c = 3", "s = '# BEGIN SOLUTION 1.1'", "# a comment",
         "for i in x:\n    pass", "t = (\n    1,\n)", "return a", "", "@d\ndef g():\n    return 0"]
    ),
    min_size=1,
    max_size=5,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(before=_bodies, inside=_bodies, after=_bodies, depth=st.integers(0, 2))
def test_stub_and_region_together_are_the_solution(
    before: list[str], inside: list[str], after: list[str], depth: int
) -> None:
    """Putting the region's lines back in the place of the raise restores every line."""
    body = [*before, "# BEGIN SOLUTION 1.1", "x = 0", *inside, "# END SOLUTION", *after]
    text = "def f():\n" + textwrap.indent("\n".join(body), "    ") + "\n"
    for _ in range(depth):
        text = "class C:\n" + textwrap.indent(text, "    ")
    stub = stub_source(text, "x.py").split("\n")
    region = [line for _, line in solution_lines(text, "x.py")["1.1"]]
    (place,) = [n for n, line in enumerate(stub) if "raise NotImplementedError" in line]
    assert "C." * depth + "f" in stub[place]
    restored = stub[:place] + region + stub[place + 1 :]
    marks = [line for line in text.split("\n") if not line.strip().startswith(("# BEG", "# END"))]
    assert restored == marks
    ast.parse("\n".join(stub))


CUDA = r"""
#include "not_implemented.cuh"
#include <vector>
#ifndef __CUDACC__
#define __global__
#define __device__
#define __launch_bounds__(...)
#endif

namespace kernels {
struct Pair { int first{1}; };

extern "C" {
// it's a comment with an odd quote, and a brace {
}
template <typename T, int N = (3)>
__global__ void __launch_bounds__(256, (2)) transpose(const T* in, T* out) {
    const char* text = "// BEGIN SOLUTION 9.9 {";
    if (in) {
        // BEGIN SOLUTION 2.3
        int big = 1'000; char brace = '{';
        /* } // END SOLUTION */
        // END SOLUTION
    }
    (void)text;
}

__device__ int rank_of(const std::vector<int>& values, int value) {
    // BEGIN SOLUTION 2.4
    const char* raw = R"x(}}} )" // END SOLUTION )x";
    for (int i = 0; i < (int)values.size(); ++i) { if (values[i] == value) return i; }
    return raw[0];
    // END SOLUTION
}
}  // namespace kernels

int main() {
    try { return kernels::rank_of({1}, 1); } catch (const std::logic_error& error) {
        return error.what() == std::string("not implemented: task 2.4: rank_of") ? 42 : 1;
    }
}
"""


def _write_stub(folder: Path) -> Path:
    header = Path(autograder.course.__file__).parent / "templates/not_implemented.cuh"
    shutil.copy(header, folder)
    path = folder / "kernel.cu"
    path.write_text(stub_source("#include <string>\n" + CUDA, path))
    return path


def test_a_cuda_stub_calls_the_macro_in_the_place_of_each_region() -> None:
    stub = stub_source(CUDA, "kernel.cu", ["2.3", "2.4"])
    assert '        LLM_NOT_IMPLEMENTED("task 2.3: transpose");\n    }\n' in stub
    assert '    LLM_NOT_IMPLEMENTED("task 2.4: rank_of");\n}\n' in stub
    assert "big" not in stub and "raw" not in stub and "BEGIN SOLUTION 9.9" in stub
    assert list(solution_lines(CUDA, "kernel.cu")) == ["2.3", "2.4"]


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_a_cuda_stub_compiles_and_names_its_task_when_called(tmp_path: Path) -> None:
    path, program = _write_stub(tmp_path), tmp_path / "program"
    command = ["g++", "-x", "c++", "-std=c++17", "-Wall", "-Werror", "-o", program, path]
    subprocess.run(command, check=True, timeout=60)
    assert subprocess.run([program], timeout=10).returncode == 42


BAD_CUDA = {
    "outside": ("// BEGIN SOLUTION 2.1\nint a = 1;\n// END SOLUTION\n", 1, "inside a function"),
    "namespace": ("namespace a {\n// BEGIN SOLUTION 2.1\na;\n// END SOLUTION\n}\n", 2, "inside"),
    "type": ("struct A {\n// BEGIN SOLUTION 2.1\nint a;\n// END SOLUTION\n};\n", 2, "inside"),
    "braces": ("void f() {\n// BEGIN SOLUTION 2.1\nif (a) {\n// END SOLUTION\n}}\n", 2, "balance"),
    "shifted": ("void f() {if (b) {\n// BEGIN SOLUTION 2.1\n} {\n// END SOLUTION\n}}\n", 2, "bal"),
    "empty": ("void f() {\n// BEGIN SOLUTION 2.1\n// x\n// END SOLUTION\n}\n", 2, "nothing stands"),
    "unclosed": ("void f() {\n// BEGIN SOLUTION 2.1\na;\n}\n", 2, "never closed"),
    "unknown": ("void f() {\n// BEGIN SOLUTION 2.7\na;\n// END SOLUTION\n}\n", 2, "no task 2.7"),
    "misspelt": ("void f() {\n//BEGIN SOLUTION 2.1\na;\n// END SOLUTION\n}\n", 2, "written"),
    "two tasks": (
        "void f() {\n// BEGIN SOLUTION 2.1\na;\n// END SOLUTION\n// BEGIN SOLUTION 2.2\nb;\n"
        "// END SOLUTION\n}\n", 5, "already belongs",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_CUDA)
def test_bad_cuda_marks_are_refused_with_their_line(case: str) -> None:
    text, line, what = BAD_CUDA[case]
    with pytest.raises(MarkError) as caught:
        stub_source(text, "k.cu", ["2.1", "2.2"])
    assert str(caught.value).startswith(f"k.cu:{line}: "), str(caught.value)
    assert what in str(caught.value)


def test_other_files_have_no_marks() -> None:
    with pytest.raises(MarkError, match="only"):
        stub_source("", "notes.md")
