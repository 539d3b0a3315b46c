"""The screen: each way out of the subset is refused with its line, and ordinary code passes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from autograder.kernels import toolchain
from autograder.kernels.edits import apply
from autograder.kernels.errors import BuildError
from autograder.kernels.files import MOST_FILES, read_files
from autograder.kernels.preprocessed import own_tokens
from autograder.kernels.screen import LARGEST_FILE, macros, screen, words
from autograder.kernels.tokens import tokenize

ORDINARY = """
#pragma once
#include <cuda_runtime.h>
#include <cub/cub.cuh>
#include "cuda_fp16.h"
#define TILE 32
#define CHECK(call) do { cudaError_t e = (call); if (e) printf("%s", cudaGetErrorString(e)); } while (0)
#define JOIN(a, b) a##b
#ifdef TILE
#undef TILE
#endif
#if !defined(OTHER) || OTHER > 3 && true
#define OTHER 4
#endif
#error "only if"
[[nodiscard]] __attribute__((always_inline, aligned(16))) inline int f(int free) { return free; }
struct S { S& operator=(const S&) = delete; int read() const; int time; };
__device__ int free_list, news, read, write, open, asm_, remove, exit_code, emulate, Emulator_;
[[gnu::always_inline]] [[maybe_unused]] int g() { S s; return s.read() + table[index[3]] + a.free(); }
const char* text = "asm throw emu_ __FILE__ new";  // asm throw emu_
#pragma unroll 4
#pragma nv_diag_suppress 177
static_assert(sizeof(int) == 4, "goto");
bool b = __builtin_expect(x, 0) && not y or z;
int emu1 = LLM_NOT_IMPLEMENTED("2.3");
""".replace("int emu1", "int demu")


def screened(text: str) -> None:
    source = tokenize(text, "k.cu")
    screen(source, macros([source]))


def test_ordinary_code_passes():
    screened(ORDINARY)


# What is refused, by a part of the message, each with examples.
REFUSED = {
    "inline assembly": ["void f() { asm(\"nop\"); }", "__asm__ volatile (\"\" ::: \"memory\");",
                        "#define A __asm(\"nop\")", "register long r __asm__(\"rax\");"],
    "exceptions": ["void f() { throw 1; }", "void f() { try { } catch (...) { } }"],
    "virtual": ["struct S { virtual void f(); };", "auto& t = typeid(int);", "dynamic_cast<A*>(b)"],
    "thread-local": ["thread_local int x;", "static __thread int x;"],
    "cudaMalloc": ["int* x = new int[3];", "delete x;", "void* p = malloc(4);", "free(p);",
                   "::operator new(4);", "alloca(n);"],
    "can't be checked": ["setjmp(buffer);", "::longjmp(b, 1);", "va_start(list, n);"],
    "operating system": ["system(\"ls\");", "FILE* f = fopen(name, \"r\");", "std::exit(0);",
                         "mprotect(p, 1, 7);", "snprintf(b, 3, \"%d\", 1);", "syscall(1);"],
    "depends on the file": ["const char* f = __FILE__;", "#define HERE __FILE__", "_Pragma(\"GCC x\")",
                            "int x = __COUNTER__;", "bool b = __has_builtin(x);", "__TIME__"],
    "built-in function": ["__builtin_memcpy(a, b, 4);", "__builtin_return_address(0);",
                          "__builtin_longjmp(b, 1);", "__builtin_trap();", "__builtin_va_arg(a, int)",
                          "__builtin_ia32_rdtsc();", "__builtin_alloca(3)",
                          "__builtin_frame_address(0);"],
    "atomic functions": ["__atomic_store_n(p, 1, 0);", "__sync_fetch_and_add(p, 1);"],
    "attribute": ["__attribute__((constructor)) void f();", "__attribute__((section(\"x\"))) int a;",
                  "void f [[gnu::no_sanitize(\"thread\")]] ();", "[[gnu::naked]] void f();",
                  "int f() [[gnu::optimize(\"O0\")]];", "[[using gnu: used]] int x;",
                  "__attribute__((unused, destructor)) void f();", "[ [gnu::alias(\"x\")] ] void f();",
                  "__attribute__ ((__no_sanitize_thread__)) void f();", "#define A [[noreturn]]",
                  "__attribute__((aligned(4), weak)) int x;", "int a[3] [[gnu::used]];",
                  "[[clang::no_sanitize(\"thread\")]] void f();", "__attribute__((vector_size(16))) int v;"],
    "__attribute__ takes": ["#define A __attribute__", "__attribute__(unused) int x;"],
    "extensions of one compiler": ["__int128 x;", "_Atomic int x;", "__typeof__(x) y;",
                                   "_Complex float z;", "void f() { __label__ a; }"],
    "belong to the emulator": ["emu_trap(\"x\", 1);", "emu::launch(a, b);", "using namespace emu;",
                               "int EMU_X;", "#define X ::emu_shared", "EmuLaunch launch;",
                               "void __tsan_read4(void*);", "extern \"C\" void __wrap_memcpy();",
                               "void __ubsan_handle_out_of_bounds();", "LLM_SYSTEMS_EMULATOR",
                               "extern char __start_emu_device[];", "void __sanitizer_cov_trace_pc();",
                               "int __real_memcpy;", "int emu;", "int emu2;"],
    "use loops": ["void f() { goto end; end: return; }"],
    "raw strings": ["auto x = R\"(a\n# 1 \"cmath\"\n)\";", "auto x = u8R\"x(a)x\";"],
    "kernel<<<grid": ["cudaLaunchKernel(f, g, b, a, 0, 0);", "cudaLaunchCooperativeKernel(f);"],
    "stream 0": ["cudaStreamBeginCapture(s, m);", "cudaStreamCreate(&s);"],
    "textures": ["cudaTextureObject_t t;", "tex2D<float>(t, x, y);"],
    "is not taken in a kernel file": ["#line 3 \"x.h\"", "# 12 \"x.h\" 3", "#include_next <cmath>",
                                      "#import <cmath>", "#ident \"x\"", "#warning x", "#assert x(y)"],
    "only once, unroll": ["#pragma GCC optimize(\"O0\")", "#pragma omp parallel", "#pragma",
                          "#pragma clang attribute push(x)", "#pragma push_macro(\"x\")",
                          "#pragma weak f", "#pragma redefine_extname a b", "#pragma GCC poison x",
                          "#pragma pack(1)", "#pragma STDC FENV_ACCESS ON"],
    "must take the same path": ["#ifdef __CUDA_ARCH__", "#ifndef __CUDACC__", "#if defined(__GNUC__)",
                                "#if __cplusplus > 1", "#if 0\n#elif defined(__linux__)\n#endif",
                                "#ifdef LLM_SYSTEMS_EMULATOR", "#if CUDART_VERSION", "#ifdef threadIdx"],
    "has a meaning already": ["#define float double", "#define if while", "#define threadIdx x",
                              "#define __syncthreads() ", "#define printf(...)", "#undef assert",
                              "#define cudaMalloc(x, y) 0", "#undef NAN", "#undef EMU_HERE",
                              "#define extern", "#define void int", "#define atomicAdd(a, b)",
                              "#define __CUDA_ARCH__ 800", "#define _GNU_SOURCE", "#define malloc x",
                              "#define LLM_NOT_IMPLEMENTED(x)", "#define CUDART_VERSION 1", "#define",
                              "#define std x", "#define asm x", "#define sizeof(x) 8",
                              "#define alignas(x)", "#define int8_t int", "#define override"],
}  # fmt: skip
CASES = [(text, message) for message, texts in REFUSED.items() for text in texts]


@pytest.mark.parametrize(("text", "message"), CASES, ids=[text for text, _ in CASES])
def test_what_leaves_the_subset_is_refused_with_its_line(text, message):
    if text == "#define CUDART_VERSION 1":
        text = text.replace("CUDART_VERSION", "CUDART_VERSION")
    with pytest.raises(BuildError) as caught:
        screened(f"int first;\n\n{text}\n")
    assert message in caught.value.message
    ((file, line),) = caught.value.places
    assert file == "k.cu" and line >= 3
    assert caught.value.message.startswith(f"k.cu:{line}: ")


INCLUDES = {
    "<cmath>": None,
    '"cuda_runtime.h" // for all': None,
    "<cub/cub.cuh>": None,
    "<vector>": "not among the headers",
    "<../secret.h>": "not among the headers",
    "</etc/passwd>": "not among the headers",
    '"/etc/passwd"': "of its own folder",
    '"../hidden/answer.cuh"': "of its own folder",
    '"sub/file.cuh"': "of its own folder",
    '"answer.txt"': "of its own folder",
    '".cuh"': "of its own folder",
    "NAME": "takes",
    "<cmath> <limits>": "takes",
    '"absent.cuh"': "there is no absent.cuh",
}


@pytest.mark.parametrize("text", INCLUDES)
def test_only_given_headers_and_files_of_the_folder_are_included(text, tmp_path):
    (tmp_path / "k.cu").write_text(f"\n#include {text}\n")
    if INCLUDES[text] is None:
        files = read_files(tmp_path / "k.cu")
        assert text.split()[0].strip('<">') in files.prelude()
        assert apply(files.sources["k.cu"].text, files.without_headers("k.cu")).strip() == ""
        return
    with pytest.raises(BuildError, match=re.escape(INCLUDES[text])) as caught:
        read_files(tmp_path / "k.cu")
    assert caught.value.places == [("k.cu", 2)]


def test_given_headers_are_read_ahead_of_every_macro_and_those_of_the_language_first(tmp_path):
    (tmp_path / "k.cu").write_text('#define x y\n#include "a.cuh"\n#include <mma.h>\n')
    (tmp_path / "a.cuh").write_text("#include <cmath>\n")
    names = re.findall("<(.*)>", read_files(tmp_path / "k.cu").prelude())
    assert names == ["cmath", "cuda_runtime.h", "mma.h"]


def test_included_files_are_screened_too_and_know_each_others_macros(tmp_path):
    (tmp_path / "k.cu").write_text('#define SIZE 3\n#include "a.cuh"\n#include "b.cu"\n')
    (tmp_path / "a.cuh").write_text('#include "k.cu"\n#if SIZE > 2\nint x;\n#endif\n')
    (tmp_path / "b.cu").write_text("__global__ void __launch_bounds__(32) kernel(int n);\n")
    files = read_files(tmp_path / "k.cu")
    assert files.own == {"k.cu", "a.cuh", "b.cu"}
    assert files.kernels == {"kernel"} and not files.macro_kernels
    (tmp_path / "b.cu").write_text("\nvoid f() { throw 3; }\n")
    with pytest.raises(BuildError, match=r"^b\.cu:2: throw"):
        read_files(tmp_path / "k.cu")


def test_kernels_with_c_linkage_are_told_apart_from_entry_points(tmp_path):
    (tmp_path / "k.cu").write_text("""
#if 1
void odd() {
#else
void odd(int) {
#endif
}
namespace n { __global__ void f(int n); template <class T> __global__ void t(T x) {} }
extern "C" __global__ void __launch_bounds__(3) g() {}
extern "C" { static __global__ void h() {} }
""")
    files = read_files(tmp_path / "k.cu")
    assert files.kernels == {"f", "g", "h", "t"} and files.c_kernels == {"g", "h"}


def test_a_macro_can_make_kernels(tmp_path):
    (tmp_path / "k.cu").write_text("#define KERNEL(name) __global__ void name()\n")
    assert read_files(tmp_path / "k.cu").macro_kernels


def test_the_given_file_of_unfinished_tasks_passes_and_a_changed_one_does_not(tmp_path):
    template = toolchain.HERE.parent / "course" / "templates" / "not_implemented.cuh"
    (tmp_path / "k.cu").write_text('#include "not_implemented.cuh"\n')
    (tmp_path / "not_implemented.cuh").write_bytes(template.read_bytes())
    assert read_files(tmp_path / "k.cu").given == {"not_implemented.cuh"}
    (tmp_path / "not_implemented.cuh").write_bytes(template.read_bytes() + b"\nint x;\n")
    with pytest.raises(BuildError, match=r"not_implemented\.cuh:\d+: "):
        read_files(tmp_path / "k.cu")


def test_text_that_is_no_kernel_file_is_refused(tmp_path):
    path = tmp_path / "k.cu"
    path.write_bytes(b"int a;\nchar b = '\xff';\n")
    with pytest.raises(BuildError, match=r"k\.cu:2: this is not UTF-8"):
        read_files(path)
    path.write_bytes(b"int a;\n\0\n")
    with pytest.raises(BuildError, match=r"k\.cu:2: the character"):
        read_files(path)
    path.write_text("int a;\n" * (LARGEST_FILE // 7 + 1))
    with pytest.raises(BuildError, match="at most 200 kB"):
        read_files(path)
    path.unlink()
    with pytest.raises(BuildError, match=r"k\.cu is not there"):
        read_files(path)
    with pytest.raises(BuildError, match="letters, digits"):
        read_files(tmp_path / "a b.cu")
    (tmp_path / "secret.cu").write_text("int a;")
    path.symlink_to(tmp_path / "secret.cu")
    with pytest.raises(BuildError, match="not a plain file"):
        read_files(path)


def test_the_number_of_included_files_is_bounded(tmp_path):
    for number in range(MOST_FILES + 2):
        (tmp_path / f"f{number}.cuh").write_text(f'#include "f{number + 1}.cuh"\n')
    (tmp_path / "k.cu").write_text('#include "f0.cuh"\n')
    with pytest.raises(BuildError, match=f"more than {MOST_FILES} files"):
        read_files(tmp_path / "k.cu")


def test_windows_line_ends_and_a_byte_order_mark_are_taken(tmp_path):
    (tmp_path / "k.cu").write_bytes(b"\xef\xbb\xbf#define A \\\r\n 3\r\nint a;\r\nint b;\r\n")
    source = read_files(tmp_path / "k.cu").sources["k.cu"]
    assert [token.line for token in source.tokens if token.text in "ab"] == [3, 4]


# --- after macros -----------------------------------------------------------------------------

EXPANDED = """# 1 "/include/cuda_runtime.h" 1 3
inline void f() { asm("header code"); emu_launch(); }
# 5 "./k.cu" 2
int a = (::emu_thread_index()).x;
__attribute__((section("emu_device"))) int b;
# 9 "other.cuh"
void g() { ::emu_not_implemented("2.3"); }
"""


def test_only_own_lines_of_preprocessed_text_are_screened_with_their_numbers():
    tokens, _ = own_tokens(EXPANDED, {"k.cu", "other.cuh"})
    words(tokens, after_macros=True)
    places = {(t.text, t.file, t.line) for t in tokens if t.text in ("a", "b", "g")}
    assert places == {("a", "k.cu", 5), ("b", "k.cu", 6), ("g", "other.cuh", 9)}
    assert all(EXPANDED[token.start : token.end] == token.text for token in tokens)


@pytest.mark.parametrize(
    "line", ["asm(\"x\");", "__attribute__((section(\"emu_devices\"))) int b;", "emu_launch(0);",
             "__attribute__((visibility(\"default\"))) int b;", "emu_print(0, 0, 0);"],
)  # fmt: skip
def test_a_macro_can_not_build_what_may_not_be_written(line):
    tokens, _ = own_tokens(EXPANDED + line, {"k.cu", "other.cuh"})
    with pytest.raises(BuildError, match=r"^other\.cuh:10: "):
        words(tokens, after_macros=True)


def test_a_hidden_path_to_another_folder_is_not_followed(tmp_path):
    """`lexists` finds a link, and reading refuses it: nothing outside of the folder is read."""
    secret = Path(tmp_path / "hidden")
    secret.mkdir()
    (secret / "answer.cuh").write_text("int answer;")
    (tmp_path / "answer.cuh").symlink_to(secret / "answer.cuh")
    (tmp_path / "k.cu").write_text('#include "answer.cuh"\n')
    with pytest.raises(BuildError, match=r"answer\.cuh is not there or not a plain file"):
        read_files(tmp_path / "k.cu")
