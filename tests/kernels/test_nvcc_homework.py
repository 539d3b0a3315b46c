"""Every kernel file of homework 2, reference and stub, compiles with nvcc; the reference spills nothing."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from autograder.kernels import nvcc

ROOT = Path(__file__).resolve().parents[2]
HOMEWORK = ROOT / "hw2_cuda_kernels"
STUBS = sorted((HOMEWORK / "cuda_kernels").glob("*.cu"))
RUNTIME = ROOT / "autograder" / "kernels" / "cuda" / "gpu_runtime.cu"

needs_nvcc = pytest.mark.skipif(nvcc.find_nvcc() is None, reason="nvcc is not on PATH")
needs_reference = pytest.mark.skipif(
    not (HOMEWORK / "solution").is_dir(), reason="the reference is in the staff's repository"
)


def checked(paths: list[Path]) -> dict[str, object]:
    """Each file's resources, or what is wrong with it; two at a time."""
    def one(path: Path) -> object:
        try:
            return nvcc.compile_check(path)
        except nvcc.BuildError as error:
            return error

    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        return {path.name: found for path, found in zip(paths, pool.map(one, paths), strict=True)}


def wrong(found: dict[str, object]) -> dict[str, str]:
    """What does not compile, what has no kernels, and kernels whose registers did not suffice."""
    told = {}
    for name, value in found.items():
        if isinstance(value, Exception):
            told[name] = str(value)
        elif not value:
            told[name] = "no kernels"
        for kernel in value if isinstance(value, list) else ():
            if kernel.spill_stores or kernel.spill_loads or not 0 < kernel.registers <= 255:
                told[f"{name}: {kernel.kernel}"] = str(kernel)
    return told


@needs_nvcc
@needs_reference
def test_the_reference_compiles_and_spills_nothing(tmp_path):
    folder = tmp_path / "k"
    shutil.copytree(HOMEWORK / "cuda_kernels", folder)
    shutil.copytree(HOMEWORK / "solution" / "cuda_kernels", folder, dirs_exist_ok=True)
    found = checked(sorted(folder.glob("*.cu")))
    assert len(found) == len(STUBS) == 12
    assert not wrong(found)


@needs_nvcc
def test_the_files_that_students_get_compile():
    failed = {name: str(one) for name, one in checked(STUBS).items() if isinstance(one, Exception)}
    assert STUBS
    assert not failed


@needs_nvcc
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_the_runtime_compiles(arch, tmp_path):
    library = nvcc.build_library(RUNTIME, arch=arch, cache=tmp_path)
    assert library.stat().st_size > 0


def test_a_spill_or_an_error_is_told():
    spills = nvcc.Resources("k", 255, 0, 64, 8, 12)
    found = {"a.cu": [nvcc.Resources("good", 32)], "b.cu": [spills], "c.cu": nvcc.BuildError("no"),
             "d.cu": []}  # fmt: skip
    assert set(wrong(found)) == {"b.cu: k", "c.cu", "d.cu"}
