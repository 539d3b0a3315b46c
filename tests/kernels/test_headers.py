"""The sources of the header tests are CUDA for nvcc, and C++ for either compiler."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from autograder import kernels
from autograder.kernels import compile as emulator_build
from autograder.kernels import nvcc, toolchain

CUDA = Path(__file__).parent / "cuda"
NAMES = ("small_floats", "groups", "group_copies", "matrices", "vectors")
SOURCES = [CUDA / f"{name}.cu" for name in NAMES]
ALL = pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)


@ALL
@pytest.mark.skipif(nvcc.find_nvcc() is None, reason="the CUDA toolkit is not installed")
def test_nvcc_takes_the_sources(path):
    """For compute capability 8.0; nothing runs."""
    assert nvcc.compile_check(path, arch="sm_80")


@ALL
@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_both_compilers_build_the_sources(path, compiler, tmp_path):
    """For values and with every access watched."""
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    for instrumented in (False, True):
        built = emulator_build.build(
            path, instrumented=instrumented, compiler=compiler, cache=tmp_path
        )
        assert built.library.exists()


GRID_SYNC = """
#include <cooperative_groups.h>
#include <cuda_runtime.h>
__global__ void kernel() { cooperative_groups::this_grid().sync(); }
extern "C" void run() { kernel<<<2, 32>>>(); }
"""


def test_a_grid_can_not_be_synchronised(tmp_path):
    source = tmp_path / "grid.cu"
    source.write_text(GRID_SYNC)
    with pytest.raises(kernels.BuildError, match="a grid can't be synchronised here"):
        emulator_build.build(source, instrumented=False, cache=tmp_path)


def test_larger_shapes_of_tiles_are_refused_with_a_reason(tmp_path):
    """Tensor-core tiles that the shim has not."""
    source = tmp_path / "shape.cu"
    source.write_text(
        """
#include <cuda_runtime.h>
#include <mma.h>
__global__ void kernel() {
    nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 32, 8, 16, float> sums;
    nvcuda::wmma::fill_fragment(sums, 0.0f);
}
extern "C" void run() { kernel<<<1, 32>>>(); }
"""
    )
    with pytest.raises(kernels.BuildError, match="16x16x16"):
        emulator_build.build(source, instrumented=False, cache=tmp_path)


# A statement with x: __half*, b: __nv_bfloat16*, y: float*. All of nvcc's (CUDA 13) answers.
ACCEPTED = [
    "x[0] += 2.0f;",
    "x[0] = y[0] + y[1];",
    "y[0] = fmaxf(x[0], 0.0f);",
    "x[0] = __hmax(x[0], 0.0f);",
    "x[0] = __half(b[0]);",
    "x[0] = x[1] < x[2] ? x[1] : __half(0);",
    "y[0] = expf(x[0]);",
    "x[0] = 0;",
    "x[0]++;",
    "__half2 v = __float2half2_rn(1.0f); v += __half2{x[0], x[1]}; x[2] = v.x;",
    "float4 v = {1, 2, 3, 4}; v = {0.0f, 0.0f, 0.0f, 0.0f}; y[0] = v.x;",
    "y[0] = float4{1.0f}.y;",
    "atomicAdd(x, 1.0f);",
]
REFUSED = [
    "x[0] = x[0] * 2.0f;",
    "if (x[0] > 0.0f) y[0] = 1;",
    "y[0] += x[0];",
    "y[0] = x[0] * y[1];",
    "y[0] = max(x[0], x[1]);",
    "x[0] = b[0];",
    "__half2 v = x[0];",
    "float4 v = 1.0f;",
    "y[0] = exp(x[0]);",
    "y[0] = max(0, 1.5f);",
    "float4 v = make_float4(1, 2, 3, 4); v += v;",
]


def is_cuda(statement: str, compiler: str, folder: Path) -> bool:
    source = folder / "statement.cpp"
    source.write_text(
        "#include <cuda_bf16.h>\n#include <cuda_fp16.h>\n#include <cuda_runtime.h>\n"
        f"void kernel(__half* x, __nv_bfloat16* b, float* y) {{ {statement} }}\n"
    )
    command = [compiler, "-std=c++17", "-fsyntax-only", f"-I{toolchain.INCLUDE}", str(source)]
    return subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_what_nvcc_takes_and_refuses(compiler, tmp_path):
    """Mixed arithmetic that is ambiguous for nvcc must not compile here either."""
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    for statement in ACCEPTED:
        assert is_cuda(statement, compiler, tmp_path), f"{statement} is refused"
    for statement in REFUSED:
        assert not is_cuda(statement, compiler, tmp_path), f"{statement} is taken"
