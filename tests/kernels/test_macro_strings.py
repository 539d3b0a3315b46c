"""Macros can't look at what other macros became: the emulator and nvcc must see the same text."""

from __future__ import annotations

import shutil

import pytest

from autograder.kernels.compile import build
from autograder.kernels.errors import BuildError
from autograder.kernels.files import read_files

REST = 'extern "C" void f(float* x) { (void)x; }\n'
# Text -> a part of the message that refuses it, or None where it is taken.
CASES = {
    '#define S(x) #x\nconst char* a = S(threadIdx.x + 1);': None,
    '#define CHECK(x) do { if (!(x)) printf("%s", #x); } while (0)\nvoid g(int n) { CHECK(n > 3); }': None,
    '#define S(a, ...) a, #__VA_ARGS__\nconst char* a[] = {S(0, b, c)};': None,
    "#define S(x) #x\n#define XS(x) S(x)\nconst char* a = XS(threadIdx);": "another macro",
    "#define S(x) #x\n#define T S\nconst char* a = T(threadIdx);": "another macro",
    "#define S(x) #x\n#define ID(x) x\n#define NO\nconst char* a = ID(S NO (threadIdx));": "another macro",
    "#define S(x) #x\n#define NO\nconst char* a = S NO (threadIdx);": "followed by its (",
    "#define S(x) #x\n#define P(a, b) a##b\nconst char* a = P(, S)(threadIdx);": "##",
    "#define S(x) #x\nconst char* a = S(__device__ int v);": "__device__",
    "#define S(x) #x\n#undef S\n#define S(x) 1\n#define XS(x) S(x)\nint a = XS(threadIdx);": "another macro",
}  # fmt: skip


@pytest.mark.parametrize("text", CASES)
def test_a_string_is_made_only_of_what_is_written(text, tmp_path):
    (tmp_path / "k.cu").write_text(text + "\n" + REST)
    if CASES[text] is None:
        read_files(tmp_path / "k.cu")
        return
    with pytest.raises(BuildError) as caught:
        read_files(tmp_path / "k.cu")
    assert CASES[text] in caught.value.message
    assert caught.value.places[0][0] == "k.cu"


def test_a_string_that_is_made_of_a_built_in_name_is_as_written(tmp_path, monkeypatch):
    """Nothing of the emulator's is in the object: the text is the student's own."""
    monkeypatch.setenv("LLM_SYSTEMS_KERNEL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "k.cu").write_text(
        "#include <cuda_runtime.h>\n#define S(x) #x\n"
        '__global__ void k(float* x) { printf("%s", S(blockIdx.x - 77)); }\n'
        'extern "C" void f(float* x) { k<<<1, 1>>>(x); }\n'
    )
    built = build(tmp_path / "k.cu", instrumented=False)
    assert b"blockIdx.x - 77" in built.library.read_bytes()


TAKEN = {
    "#ifndef M_PI\n#define M_PI 3\n#endif": 2,
    "#define INFINITY 3": 1,
    "#ifndef FLT_MAX\nint a;\n#define FLT_MAX 1\n#endif": 3,
    "#ifndef RAND_MAX\n#define RAND_MAX 3\n#else\nint other_path;\n#endif": 2,
    "#ifdef linux\n#define linux 1\n#endif": 2,
    '#include "own.cuh"\n#define OWN 2\n#define EOF 3': 3,
}


@pytest.mark.parametrize("compiler", [name for name in ("g++", "clang++") if shutil.which(name)])
@pytest.mark.parametrize("text", TAKEN)
def test_a_name_that_a_header_defines_can_not_be_asked_for_nor_defined(text, compiler, tmp_path):
    """`#ifndef RAND_MAX` would take one path here and another one under nvcc."""
    (tmp_path / "own.cuh").write_text("#ifndef OWN_CUH\n#define OWN_CUH\n#define OWN 2\n#endif\n")
    (tmp_path / "k.cu").write_text(f"{text}\n#include <cfloat>\n#include <cmath>\n{REST}")
    with pytest.raises(BuildError, match=rf"k\.cu:{TAKEN[text]}: .*a meaning already") as caught:
        build(tmp_path / "k.cu", instrumented=False, compiler=compiler, cache=tmp_path / "cache")
    assert caught.value.places == [("k.cu", TAKEN[text])]


def test_include_guards_and_own_macros_build(tmp_path):
    (tmp_path / "own.cuh").write_text("#ifndef OWN_CUH\n#define OWN_CUH\n#define OWN 2\n#endif\n")
    text = '#include "own.cuh"\n#include "own.cuh"\n#undef OWN\n#define OWN 3\n#ifdef OWN\n#endif\n'
    (tmp_path / "k.cu").write_text(text + REST)
    assert build(tmp_path / "k.cu", instrumented=False, cache=tmp_path / "cache").entries
