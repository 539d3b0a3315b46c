"""nvcc without a GPU: resources, errors in the student's lines, and a library with entry points."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from autograder.kernels import nvcc
from autograder.kernels.elf import Elf
from autograder.kernels.errors import BuildError

needs_nvcc = pytest.mark.skipif(nvcc.find_nvcc() is None, reason="no nvcc")

PTXAS = """\
ptxas info    : 0 bytes gmem, 32 bytes cmem[3]
ptxas info    : Compiling entry function 'void space::k<float, (int)4>(T1 *, int (*)(int))' for 'sm_80'
ptxas info    : Function properties for void space::k<float, (int)4>(T1 *, int (*)(int))
    40 bytes stack frame, 24 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 4224 bytes smem, 368 bytes cmem[0]
ptxas info    : Compiling entry function 'plain' for 'sm_80'
ptxas info    : Function properties for plain
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, used 0 barriers, 360 bytes cmem[0]
ptxas info    : Function properties for helper(float)
    80 bytes stack frame, 8 bytes spill stores, 8 bytes spill loads
"""


def test_what_ptxas_says_is_read_for_each_kernel():
    assert nvcc.resources(PTXAS) == [
        nvcc.Resources("space::k<float, (int)4>", 255, 4224, 40, 24, 16),
        nvcc.Resources("plain", 8, 0, 0, 0, 0),
    ]


SOURCE = """\
#include <cuda_runtime.h>
#include <cuda_fp16.h>
#include "parts.cuh"
__device__ int counter;
template <int SIZE>
__global__ void tiled(const float* x, float* y, Pair pair) {
    __shared__ float tile[SIZE];
    tile[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = tile[SIZE - 1 - threadIdx.x] * pair.a;
}
extern "C" void go(const float* x, float* y, Pair pair, __half h) {
    if (pair.a < 0) LLM_NOT_IMPLEMENTED("task 2.0: go");
    tiled<64><<<1, 64>>>(x, y, pair);
}
"""
PARTS = '#include "not_implemented.cuh"\nstruct Pair { int a; double b[2]; };\n'


def written(folder: Path, text: str) -> Path:
    template = nvcc.Path(nvcc.__file__).parents[1] / "course" / "templates" / "not_implemented.cuh"
    (folder / "not_implemented.cuh").write_bytes(template.read_bytes())
    (folder / "parts.cuh").write_text(PARTS)
    (folder / "k.cu").write_text(text)
    return folder / "k.cu"


@needs_nvcc
def test_a_check_gives_registers_and_shared_memory(tmp_path):
    (found,) = nvcc.compile_check(written(tmp_path, SOURCE))
    assert found.kernel == "tiled<64>" or found.kernel == "tiled<(int)64>"
    assert found.shared == 256 and 0 < found.registers < 64 and found.spill_stores == 0


@needs_nvcc
def test_errors_name_the_students_lines(tmp_path):
    text = SOURCE.replace("pair.a;\n}", "pair.c;\n    int n = missing;\n}")
    text = text.replace("tile[SIZE];", 'tile[SIZE];\n    static_assert(SIZE > 64, "too small");')
    with pytest.raises(BuildError) as caught:
        nvcc.compile_check(written(tmp_path, text))
    lines = dict.fromkeys(line for _, line in caught.value.places)
    assert {11, 12} <= set(lines) <= {8, 11, 12}, caught.value.message
    assert "pair.c" in caught.value.message and str(tmp_path) not in caught.value.message


@needs_nvcc
def test_a_library_has_the_entry_points_of_the_emulators_build(tmp_path):
    path, cache = written(tmp_path, SOURCE), tmp_path / "cache"
    built = nvcc.build_nvcc(path, arch="sm_80", cache=cache)
    parameters = built.entries["go"].parameters
    assert [(p.name, p.base, p.size) for p in parameters] == [
        ("x", "float", 8), ("y", "float", 8), ("pair", "Pair", 24), ("h", "__half", 2),
    ]  # fmt: skip
    names = {symbol.name for symbol in Elf(built.library).exported if symbol.section}
    assert {"emu_entry_go", "emu_sizes_go", "emu_module_error", "emu_module_message"} <= names
    # A second build runs nothing.
    again = nvcc.build_nvcc(path, arch="sm_80", cache=cache)
    assert again.library == built.library and again.entries == built.entries


def test_nvcc_is_found_on_the_path_in_the_toolkit_or_in_a_package(tmp_path, monkeypatch):
    def found() -> str | None:
        nvcc.find_nvcc.cache_clear()
        return nvcc.find_nvcc()

    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(nvcc, "search_path", lambda: str(tmp_path / "nowhere"))
    monkeypatch.setattr(nvcc.sys, "path", [str(tmp_path / "site")])
    places = [tmp_path / "site" / "nvidia" / "cu13" / "bin", tmp_path / "toolkit" / "bin"]
    for place in places:
        place.mkdir(parents=True)
        (place / "nvcc").write_text("#!/bin/sh\n")
    monkeypatch.setattr(nvcc, "USUAL", [])
    try:
        assert found() is None
        (places[0] / "nvcc").chmod(0o755)
        assert found() == str(places[0] / "nvcc")
        (places[1] / "nvcc").chmod(0o755)
        monkeypatch.setenv("CUDA_HOME", str(tmp_path / "toolkit"))
        assert found() == str(places[1] / "nvcc")
        subprocess.run([found()], check=True)
    finally:
        nvcc.find_nvcc.cache_clear()
