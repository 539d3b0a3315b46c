"""Words that kernel files may use, and those that they may not, with the reasons."""

from __future__ import annotations

import re

# Headers that kernel files may include, in the order in which they are read ahead of the file:
# those of the language first, because CUDA's make macros of some of their names.
INCLUDES = (
    *("cstdint", "cstddef", "cmath", "cfloat", "climits", "limits", "type_traits", "cassert"),
    *("cstdio", "stdint.h", "stddef.h", "math.h", "float.h", "limits.h", "assert.h", "stdio.h"),
    *("cuda_runtime.h", "vector_types.h", "device_launch_parameters.h", "math_constants.h"),
    *("cuda_fp16.h", "cuda_bf16.h", "cooperative_groups.h", "cooperative_groups/reduce.h"),
    *("cooperative_groups/memcpy_async.h", "cuda_pipeline.h", "cub/cub.cuh", "mma.h"),
)
DIRECTIVES = {
    *("define", "undef", "if", "ifdef", "ifndef", "elif", "else", "endif", "include", "pragma"),
    *("error", ""),
}
PRAGMAS = re.compile(r"once|unroll|nounroll|nv_\w+")
ATTRIBUTES = {
    *("aligned", "unused", "maybe_unused", "nodiscard", "fallthrough", "always_inline"),
    *("noinline", "forceinline", "likely", "unlikely", "deprecated"),
}
BUILTINS = {
    *("__builtin_unreachable", "__builtin_expect", "__builtin_assume", "__builtin_assume_aligned"),
    *("__builtin_nanf", "__builtin_nan", "__builtin_inff", "__builtin_inf", "__builtin_huge_val"),
    *("__builtin_huge_valf", "__builtin_huge_vall", "__builtin_isnan", "__builtin_isinf"),
    *("__builtin_isinf_sign", "__builtin_isfinite", "__builtin_isnormal", "__builtin_signbit"),
    *("__builtin_offsetof", "__builtin_popcount", "__builtin_clz", "__builtin_ctz"),
    *("__builtin_ffs", "__builtin_LINE"),
}
# Names of the emulator, of the sanitizers and of the linker.
RESERVED = re.compile(
    r"emu(?=[_A-Z0-9]|$)|EMU_|Emu[A-Z]|LLM_(?!NOT_IMPLEMENTED$)|"
    r"__(?:tsan|ubsan|asan|msan|lsan|hwasan|sanitizer|wrap|real|interceptor|start|stop|emu)_"
)
# What macros of the given headers put on a student's lines; none of it opens anything.
FROM_HEADERS = {
    *("emu", "emu_thread_index", "emu_block_index", "emu_block_dim", "emu_grid_dim", "emu_trap"),
    *("emu_not_implemented",),
}
# Functions of namespace emu that the given headers' macros call.
HEADER_CALLS = set(
    """cos_ exp10_ exp_ index log10_ log2_ log_ pow_ print sin_ sincos_ tan_ tanh_""".split()
)
# Functions in which threads meet. Each has a last parameter of the emulator's own: no call gives it.
BARRIERS = re.compile(r"__sync(?:threads|warp)\w*|__\w+_sync|__pipeline_memcpy_async")
GROUP_METHODS = re.compile(r"sync|shfl(?:_\w+)?|any|all|ballot|match_a(?:ny|ll)|\w+_matrix_sync")
MOST_ARGUMENTS = {
    **{"__syncthreads": 0, "__syncthreads_count": 1, "__syncthreads_and": 1, "__syncthreads_or": 1},
    **{"__syncwarp": 1, "__ballot_sync": 2, "__any_sync": 2, "__all_sync": 2, "__match_any_sync": 2},
    **{f"__shfl{kind}_sync": 4 for kind in ("", "_up", "_down", "_xor")},
    **{f"__reduce_{kind}_sync": 2 for kind in ("add", "min", "max", "and", "or", "xor")},
    "__pipeline_memcpy_async": 4,
}
# Names that no macro may have, besides those that begin as CUDA's or the language's own do.
FIXED_NAMES = set(
    """alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl const
    const_cast constexpr continue decltype default delete do double dynamic_cast else enum explicit
    export extern false float for friend goto if inline int long mutable namespace new noexcept not
    not_eq nullptr operator or or_eq private protected public register reinterpret_cast return short
    signed sizeof static static_assert static_cast struct switch template this thread_local throw
    true try typedef typeid typename union unsigned using virtual void volatile wchar_t while xor
    xor_eq defined override final int8_t int16_t int32_t int64_t uint8_t uint16_t uint32_t uint64_t
    size_t RAND_MAX EXIT_SUCCESS EXIT_FAILURE MB_CUR_MAX CLOCKS_PER_SEC TIME_UTC BUFSIZ EOF errno linux
    unix i386 printf assert threadIdx blockIdx blockDim gridDim warpSize dim3 std main LLM_NOT_IMPLEMENTED
    """.split()
)
TAKEN_PREFIX = re.compile(r"__|_[A-Z]|cuda|CUDA|NV_|nv_|cub|atomic[A-Z]")

_DIRECT = "call functions by their names"
# Refused wherever they stand.
WORDS = {
    **dict.fromkeys(("asm", "__asm", "__asm__"), "inline assembly can't be checked"),
    **dict.fromkeys(("throw", "try", "catch"), "exceptions do not exist on a GPU"),
    **dict.fromkeys(("virtual", "dynamic_cast", "typeid"), "virtual functions and run-time types "
                    f"can't be checked: {_DIRECT}, or use templates"),
    **dict.fromkeys(("thread_local", "__thread"), "thread-local variables do not exist on a GPU"),
    **dict.fromkeys(("new", "delete"),
                    "memory comes from cudaMalloc in host code, or is an array of fixed size"),
    "goto": "use loops and if",
    **dict.fromkeys(("__label__", "_Atomic", "__int128", "__float128", "_Float128", "__ibm128",
                     "_Complex", "__complex__", "__auto_type", "__typeof__", "__typeof", "typeof",
                     "__real__", "__imag__", "__extension__", "__transaction_atomic"),
                    "extensions of one compiler are not taken"),
    **dict.fromkeys(("__FILE__", "__BASE_FILE__", "__COUNTER__", "__INCLUDE_LEVEL__", "__DATE__",
                     "__TIME__", "__TIMESTAMP__", "__VERSION__", "_Pragma", "__pragma",
                     "__has_include", "__has_include_next", "__has_builtin", "__has_feature",
                     "__has_attribute", "__has_extension", "__has_cpp_attribute",
                     "__has_declspec_attribute", "__is_identifier", "__building_module"),
                    "code that depends on the file, the time or the compiler is not taken"),
    **dict.fromkeys(("co_await", "co_yield", "co_return", "__declspec"), "this is not C++17"),
    **dict.fromkeys(("cudaLaunchKernel", "cudaLaunchCooperativeKernel", "cudaLaunchKernelEx",
                     "cudaLaunchKernelExC", "cudaLaunchHostFunc", "cudaLaunchDevice"),
                    "launch with kernel<<<grid, block>>>(…)"),
    **dict.fromkeys(("cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaStreamCreate",
                     "cudaStreamCreateWithFlags", "cudaGraphLaunch", "cudaGraphInstantiate"),
                    "streams of your own and graphs are not taken: everything runs in stream 0"),
    **dict.fromkeys(("tex1D", "tex2D", "tex3D", "tex1Dfetch", "cudaTextureObject_t", "surf2Dread",
                     "cudaCreateTextureObject", "surf2Dwrite", "cudaSurfaceObject_t"),
                    "textures and surfaces are not taken: read through pointers"),
}  # fmt: skip
# Refused where they are called, unless they are members.
CALLS = {
    **dict.fromkeys(("malloc", "calloc", "realloc", "free", "alloca", "strdup", "aligned_alloc"),
                    "memory comes from cudaMalloc in host code, or is an array of fixed size"),
    **dict.fromkeys(("setjmp", "longjmp", "_setjmp", "sigsetjmp", "siglongjmp", "getcontext",
                     "setcontext", "va_start", "va_arg"),
                    "jumps and arguments behind the compiler's back can't be checked"),
    **dict.fromkeys(("system", "popen", "fork", "vfork", "execve", "execv", "execl", "execvp",
                     "fopen", "freopen", "fclose", "openat", "creat", "mmap", "mprotect", "syscall",
                     "dlopen", "dlsym", "socket", "connect", "getenv", "setenv", "exit", "_exit",
                     "abort", "atexit", "signal", "sigaction", "ptrace", "pthread_create", "fprintf",
                     "sprintf", "snprintf", "vprintf", "puts", "putchar", "scanf", "fgets", "fwrite",
                     "fread", "unlink", "qsort", "bsearch", "time", "clock_gettime", "usleep"),
                    "a kernel file can't call the operating system or the C library, except for "
                    "printf and mathematics"),
}  # fmt: skip
