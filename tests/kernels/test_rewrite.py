"""The rewriter: launches, shared variables, device variables, entry points; lines stay put."""

from __future__ import annotations

import re

import pytest

from autograder.kernels.edits import apply
from autograder.kernels.entries import entries, thunks
from autograder.kernels.errors import BuildError
from autograder.kernels.messages import plain_name
from autograder.kernels.preprocessed import own_tokens
from autograder.kernels.rewrite import device_variables, launches, shared_variables
from autograder.kernels.scopes import scopes
from autograder.kernels.tokens import split, tokenize


def rewritten(text: str, kernels: set[str] | None = None) -> str:
    """The text with launches and shared variables rewritten, as after the preprocessor."""
    tokens = tokenize(text, "k.cu").tokens
    return apply(text, [*launches(tokens, kernels), *shared_variables(tokens)])


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def launched(kernel: str, configuration: str, arguments: str, line: int = 1) -> str:
    call = f'::emu::launch(::emu::configure("{kernel}",{line},{configuration}),'
    body = f"[](auto...emu_x){{{kernel}(emu_x...);}}"
    return squeezed(call + body + ("," + arguments if arguments else "") + ")")


# --- launches ---------------------------------------------------------------------------------

LAUNCHES = {
    "k<<<1, 32>>>(x);": ("k", "1, 32", "x"),
    "k<<<1, 32>>>();": ("k", "1, 32", ""),
    "k<<<grid, block, bytes, stream>>>(x, n);": ("k", "grid, block, bytes, stream", "x, n"),
    "k<<<dim3(a, b), dim3(32, 8)>>>(x, {1}[0]);": None,
    "k<float, 4><<<1, 2>>>(x);": ("k<float,4>", "1, 2", "x"),
    "k<(a > b)><<<1, 2>>>(x);": ("k<(a>b)>", "1, 2", "x"),
    "k<Pair<int, Pair<int, int>>><<<1, 2>>>(x);": ("k<Pair<int,Pair<int,int>>>", "1, 2", "x"),
    "space::k<4><<<1, 2>>>(x);": ("space::k<4>", "1, 2", "x"),
    "::a::b<int>::k<<<1, 2>>>(x);": ("::a::b<int>::k", "1, 2", "x"),
    "k<<<(n + 31) >> 5, 32>>>(x);": ("k", "(n + 31) >> 5, 32", "x"),
    "k<<<f(a >> (b >> 1)), 32 >> 1>>>(x);": ("k", "f(a >> (b >> 1)), 32 >> 1", "x"),
    "k<<<1, 32>>>(f(x, y), [&] { return 1; }());": ("k", "1, 32", "f(x, y), [&] { return 1; }()"),
    "k<<<size<Pair<int, int>>(), 32>>>(x);": ("k", "size<Pair<int, int>>(), 32", "x"),
}


@pytest.mark.parametrize("text", LAUNCHES)
def test_a_launch_becomes_a_call_of_the_emulator(text):
    expected = LAUNCHES[text]
    if expected is None:
        with pytest.raises(BuildError, match=r"k\.cu:1: an argument"):
            rewritten(text.replace("{1}[0]", "{1}"))
        return
    found = squeezed(rewritten(f"void f() {{ {text} }}"))
    assert found == squeezed("void f() {" + launched(*expected) + "; }")


def test_return_and_control_words_do_not_belong_to_the_kernel():
    assert squeezed(rewritten("return k<<<1, 2>>>(x);")).startswith("return::emu::launch(")
    assert squeezed(rewritten("else k<<<1, 2>>>(x);")).startswith("else::emu::launch(")
    assert squeezed(rewritten("return ::k<<<1, 2>>>(x);")).startswith("return::emu::launch(")
    assert squeezed(rewritten("case 1: n::k<<<1, 2>>>(x);")).startswith("case1:::emu::launch(")


def test_every_line_of_a_launch_keeps_its_number():
    text = "f();\nspace::k<\n  4,\n  5\n><<<\n  1,\n  2\n>>>(\n  x,\n  y\n);\nlast();\n"
    found = rewritten(text)
    lines = found.splitlines()
    assert len(lines) == len(text.splitlines())
    for name in ("1,", "2", "x,", "y", "last();"):
        number = next(i for i, line in enumerate(text.splitlines()) if line.strip() == name)
        assert name.rstrip(",") in lines[number], name
    assert '"space::k<4, 5>", 5,' in found


def test_a_line_marker_within_a_launch_survives():
    text = '# 7 "k.cu"\nk<4\n# 12 "k.cu"\n><<<1, 2>>>(x);\n'
    tokens, _ = own_tokens(text, {"k.cu"})
    found = apply(text, launches(tokens, None))
    assert '\n# 12 "k.cu"\n' in found
    assert '"k<4>", 12,' in found


def test_two_shifts_that_a_macro_put_together_are_a_launch():
    assert "::emu::launch" in rewritten("k<< <1, 2>> >(x);")


REFUSED_LAUNCHES = {
    "pointer<<<1, 2>>>(x);": "pointer is no __global__ function",
    "object.k<<<1, 2>>>(x);": "only a kernel named directly",
    "table[0]<<<1, 2>>>(x);": "only a kernel named directly",
    "(*pointer)<<<1, 2>>>(x);": "pointer is no __global__ function",
    "k<<<1, 2>>>;": "has no >>>",
    "k<<<1, 2>>(x);": "has no >>>",
    "k<<<1>>>(x);": "2 to 4 values",
    "k<<<1, 2, 3, 4, 5>>>(x);": "2 to 4 values",
    "k<<<1, , 2>>>(x);": "2 to 4 values",
    "k<<<1, 2>>>(x, {1, 2});": "has no type",
    "k<<<1, (2>>>(x);": "closed",
    "<<<1, 2>>>(x);": "only a kernel named directly",
}


@pytest.mark.parametrize("text", REFUSED_LAUNCHES)
def test_a_launch_that_can_not_be_rewritten_is_refused_with_its_line(text):
    with pytest.raises(BuildError) as caught:
        rewritten(f"\n\n{text}\n", {"k"})
    assert REFUSED_LAUNCHES[text] in caught.value.message
    assert caught.value.places == [("k.cu", 3)]


# --- shared variables -------------------------------------------------------------------------


def static(kind: str, name: str, size: str = "", line: int = 1) -> str:
    return squeezed(
        f"typedef {kind} emu_type_{name} {size}; static const char emu_site_{name} = 0;"
        f'emu_type_{name}& {name} = ::emu::shared<emu_type_{name}>(&emu_site_{name}, "{name}", {line});'
    )


def dynamic(kind: str, name: str, size: str = "") -> str:
    return squeezed(
        f"typedef {kind} emu_type_{name} {size}; emu_type_{name}* const {name} = "
        f'static_cast<emu_type_{name}*>(::emu_dynamic_shared("{name}", 1));'
    )


SHARED = {
    "__shared__ float x;": static("float", "x"),
    "__shared__ float tile[32][33];": static("float", "tile", "[32][33]"),
    "static __shared__ unsigned long x[2];": static("unsigned long", "x", "[2]"),
    "float __shared__ x[N + (a < b)];": static("float", "x", "[N + (a < b)]"),
    "__shared__ float a[2], b, *c;": static("float", "a", "[2]") + static("float", "b")
    + static("float*", "c"),
    "__shared__ volatile int x[2];": static("volatile int", "x", "[2]"),
    "__shared__ typename Op<T, 3>::type x[Op<T, 3>::size];":
        static("typename Op<T, 3>::type", "x", "[Op<T, 3>::size]"),
    "__shared__ std::pair<A<int>, B> x;": static("std::pair<A<int>, B>", "x"),
    "if (a) { __shared__ T x[2]; }": squeezed("if (a) {" + static("T", "x", "[2]") + "}"),
    "extern __shared__ float x[];": dynamic("float", "x"),
    "__shared__ extern char x[];": dynamic("char", "x"),
    "extern __shared__ __align__(16) float x[][32];": dynamic("float", "x", "[32]"),
}  # fmt: skip


@pytest.mark.parametrize("text", SHARED)
def test_a_shared_declaration_becomes_a_reference(text):
    found = squeezed(rewritten(f"void f() {{ {text} }}"))
    assert found == squeezed("voidf(){" + SHARED[text] + "}")


def test_an_alignment_is_kept():
    for text in ("__shared__ alignas(16) float x[3];", "alignas(16) __shared__ float x[3];",
                 "__shared__ __attribute__((aligned(16))) float x[3];"):  # fmt: skip
        found = rewritten(f"void f() {{ {text} }}")
        assert re.search(r"struct emu_type_x \{.*(alignas \( 16|aligned \( 16).*value; \};", found)
        assert "::type& x =" in found


def test_each_declaration_has_a_site_of_its_own_and_lines_are_kept():
    found = rewritten("void f() {\n __shared__\n float\n a[2],\n b[2];\n int c; }")
    assert found.count("static const char emu_site_") == 2
    assert "int c" in found.splitlines()[5]
    assert found.count(', 2)') == 2


REFUSED_SHARED = {
    "struct S { __shared__ float x; };": "a member of a class can't be __shared__",
    "struct S { static __shared__ float x[2]; };": "a member of a class",
    "__shared__ float x[2];": "outside of a function",
    "namespace n { extern __shared__ float x[]; }": "outside of a function",
    "void f() { __shared__ float x = 0; }": "can't have a first value",
    "void f() { __shared__ float x[2] = {0, 0}; }": "can't have a first value",
    "void f() { __shared__ float x{0}; }": "can't have a first value",
    "void f() { __shared__ float (*x)[2]; }": "__shared__",
    "void f() { extern __shared__ float x; }": "an array without a size",
    "void f() { extern __shared__ float x[3]; }": "an array without a size",
    "void f() { __shared__ x; }": "no name or no type",
}


@pytest.mark.parametrize("text", REFUSED_SHARED)
def test_a_shared_declaration_that_can_not_be_rewritten_is_refused_with_its_line(text):
    with pytest.raises(BuildError) as caught:
        rewritten(f"\n{text}\n")
    assert REFUSED_SHARED[text] in caught.value.message
    assert caught.value.places == [("k.cu", 2)]


# --- variables in device memory ---------------------------------------------------------------

DEVICE = {
    "__device__ int x;": "EMU_DEVICE_VARIABLE int x;",
    "static __device__ float x[3] = {1, 2, 3};": "static EMU_DEVICE_VARIABLE float x[3] = {1, 2, 3};",
    "__device__ __managed__ int x;": " EMU_DEVICE_VARIABLE int x;",
    "__managed__ int x{3};": "EMU_DEVICE_VARIABLE int x{3};",
    "__constant__ float x[4];": "__constant__ float x[4];",
    "__constant__ __device__ float x[4];": "__constant__  float x[4];",
    "__device__ const float x[2] = {1, 2};": " const float x[2] = {1, 2};",
    "__constant__ constexpr float x = 2;": " constexpr float x = 2;",
    "__device__ std::pair<int, int> x;": "EMU_DEVICE_VARIABLE std::pair<int, int> x;",
    "__device__ alignas(16) float x[4];": "EMU_DEVICE_VARIABLE alignas(16) float x[4];",
    "__device__ float f(float x) { return x; }": "__device__ float f(float x) { return x; }",
    "template <class T> __device__ T f(T);": "template <class T> __device__ T f(T);",
    "struct S { __device__ S(int) {} };": "struct S { __device__ S(int) {} };",
    "struct S { __device__ int operator[](int) const; };":
        "struct S { __device__ int operator[](int) const; };",
    "struct S { __host__ __device__ S& operator=(int); };":
        "struct S { __host__ __device__ S& operator=(int); };",
    "auto f = [] __device__ (int x) { return x; };": "auto f = [] __device__ (int x) { return x; };",
}  # fmt: skip


@pytest.mark.parametrize("text", DEVICE)
def test_device_variables_are_marked_and_functions_are_not(text):
    assert apply(text, device_variables(tokenize(text, "k.cu"))) == DEVICE[text]


def test_a_device_variable_of_a_class_is_refused():
    with pytest.raises(BuildError, match=r"k\.cu:1: a variable of a class"):
        device_variables(tokenize("struct S { static __device__ int x; };", "k.cu"))


# --- entry points -----------------------------------------------------------------------------


def found_entries(text: str, kernels: set[str] = frozenset()):
    return entries(tokenize(text, "k.cu").tokens, set(kernels))


PARAMETERS = {
    "float* x": ("x", "float*", True, False, "float", 8),
    "const float* __restrict__ x": ("x", "const float*__restrict__", True, True, "float", 8),
    "float const *const x": ("x", "float const*const", True, True, "float", 8),
    "float* const x": ("x", "float*const", True, False, "float", 8),
    "int n": ("n", "int", False, False, "int", 4),
    "const int n": ("n", "const int", False, True, "int", 4),
    "unsigned n": ("n", "unsigned", False, False, "unsigned int", 4),
    "long unsigned int n": ("n", "long unsigned int", False, False, "unsigned long", 8),
    "unsigned char* x": ("x", "unsigned char*", True, False, "unsigned char", 8),
    "signed char x": ("x", "signed char", False, False, "signed char", 1),
    "std::uint8_t x": ("x", "std::uint8_t", False, False, "uint8_t", 1),
    "long long x": ("x", "long long", False, False, "long long", 8),
    "size_t n": ("n", "size_t", False, False, "size_t", 8),
    "Layout layout": ("layout", "Layout", False, False, "Layout", 0),
    "struct Layout l": ("l", "struct Layout", False, False, "Layout", 0),
    "space::Layout l_": ("l_", "space::Layout", False, False, "space::Layout", 0),
    "Pair<int, float> p": ("p", "Pair<int, float>", False, False, "Pair<int,float>", 0),
    "bool b = true": ("b", "bool", False, False, "bool", 1),
    "const Pair": ("argument1", "const Pair", False, True, "Pair", 0),
    "struct Pair": ("argument1", "struct Pair", False, False, "Pair", 0),
    "space::Pair": ("argument1", "space::Pair", False, False, "space::Pair", 0),
    "Pair*": ("argument1", "Pair*", True, False, "Pair", 8),
    "int": ("argument1", "int", False, False, "int", 4),
    "const __half* x": ("x", "const __half*", True, True, "__half", 8),
}


@pytest.mark.parametrize("text", PARAMETERS)
def test_a_parameter_is_read(text):
    (parameter,) = found_entries(f'extern "C" void f({text}) {{ }}')["f"].parameters
    found = (parameter.name, parameter.type, parameter.pointer, parameter.const, parameter.base,
             parameter.size)  # fmt: skip
    assert found == PARAMETERS[text]


def test_entry_points_are_definitions_with_c_linkage():
    text = """
extern "C" void declared(int n);
extern "C" { void in_block(int n) { } static void hidden() { } int x; void later(); }
extern "C" __attribute__((unused)) void odd_but_fine();
void plain() { }
namespace n { extern "C" void inside(float* x) { g(x); if (x) { h(x); } } }
extern "C" void kernel(float* x) { }
extern "C" void none(void) { }
extern "C" inline void quick() { }
"""
    found = found_entries(text, {"kernel"})
    assert {name: entry.line for name, entry in found.items()} == {
        "in_block": 3, "inside": 6, "none": 8, "quick": 9,
    }  # fmt: skip
    assert found["none"].parameters == [] and found["quick"].parameters == []


REFUSED_ENTRIES = {
    'extern "C" int f() { return 1; }': "must return void",
    'extern "C" float* f() { return 0; }': "must return void",
    'struct P { int a; }; extern "C" P f() { return {1}; }': "must return void",
    'extern "C" struct P f() { return {1}; }': "must return void",
    'extern "C" { struct P f() { return {1}; } }': "must return void",
    'extern "C" void f(float& x) { }': "parameter 1 of f",
    'extern "C" void f(int n, float x[]) { }': "parameter 2 of f",
    'extern "C" void f(void (*g)()) { }': "parameter 1 of f",
    'extern "C" void f(int n, ...) { }': "parameter 2 of f",
    'extern "C" void f(float** x) { }': "a pointer to a pointer",
    'extern "C" void f() { }\nextern "C" void f(int n) { }': "defined twice",
}


@pytest.mark.parametrize("text", REFUSED_ENTRIES)
def test_an_entry_point_that_python_could_not_call_is_refused(text):
    with pytest.raises(BuildError, match=re.escape(REFUSED_ENTRIES[text])):
        found_entries(text)


def test_thunks_pass_each_argument_from_its_place():
    text = thunks(found_entries('extern "C" void f(const float* x, Layout l) { }'))
    assert "typedef const float* emu_type_f_0;" in text
    assert "f(*static_cast<emu_type_f_0 const*>(emu_a[0]), *static_cast<emu_type_f_1 const*>(emu_a[1]));" in text
    assert "emu_sizes_f[3] = {2, sizeof(emu_type_f_0), sizeof(emu_type_f_1)};" in text
    assert text.count("is_plain<emu_type_f_1>") == text.count("is_plain") == 1


# --- the tokenizer ----------------------------------------------------------------------------


def test_words_in_strings_and_comments_are_no_tokens():
    text = (
        'a /* k<<<1,2>>>() \n */ "asm(\\")" b // asm \\\n asm still a comment\n'
        "R\"x(asm )\" )x\" 'a' L'\\'' c"
    )
    tokens = tokenize(text, "k.cu").tokens
    assert [t.text for t in tokens if t.kind == "name"] == ["a", "b", "c"]
    assert [t.line for t in tokens if t.kind == "name"] == [1, 2, 4]


def test_a_comment_goes_on_behind_a_backslash_with_blanks_as_for_compilers():
    tokens = tokenize("// a \\ \n /* still a comment \nb", "k.cu").tokens
    assert [(t.text, t.line) for t in tokens] == [("b", 3)]


def test_directives_stand_apart_with_their_continuations():
    source = tokenize("a\n  # define X(a) \\\n   b<<<a>>>\nc\n#\n#if 1 // why\nd\n#endif", "k.cu")
    assert [token.text for token in source.tokens] == ["a", "c", "d"]
    assert [directive.name for directive in source.directives] == ["define", "", "if", "endif"]
    assert [token.line for token in source.directives[0].tokens[-5:]] == [3] * 5


BROKEN = {
    "a /* b": "has no end",
    'x = "abc\ny"': "no partner",
    "x = 'a\n'": "no partner",
    "a $ b": "can't stand",
    "int größe;": "can't stand",
    "as\\\nm(1)": "put a space",
    "/\\\n* // */ asm(1);": "put a space",
    "%:define x": "digraphs",
    "int a<:3:>;": "digraphs",
    "\\u0061sm": "can't stand",
    "f(1]": "does not close",
}


@pytest.mark.parametrize("text", BROKEN)
def test_text_that_hides_words_is_refused(text):
    with pytest.raises(BuildError, match=re.escape(BROKEN[text])):
        tokens = tokenize(text, "k.cu").tokens
        split(tokens)


def test_scopes_tell_functions_from_classes_and_namespaces():
    text = """namespace a { struct S : B<int> { int m; void f() const { int v; } }; enum E { one };
template <class T> __global__ void k(T x) { if (x) { int w; } struct L { int p; }; int q[] = {r}; }
extern "C" { void g() { s(); } int t; } template <class T> struct C { C() : u{1} { } }; }"""
    tokens = tokenize(text, "k.cu").tokens
    kinds = dict(zip((t.text for t in tokens), scopes(tokens), strict=True))
    wanted = {"m": "class", "v": "block", "one": "enum", "w": "block", "p": "class", "q": "block",
              "r": "block", "s": "block", "t": "extern", "u": "class"}  # fmt: skip
    assert {name: kinds[name] for name in wanted} == wanted


def test_names_of_variables_are_shown_as_written():
    assert plain_name("_ZL7counter") == "counter"
    assert plain_name("_ZN5space5tableE") == "space::table"
    assert plain_name("_ZN12_GLOBAL__N_15tableE") == "_GLOBAL__N_1::table"
    assert plain_name("counter") == "counter"
