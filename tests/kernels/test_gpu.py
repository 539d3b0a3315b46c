"""The GPU back end as far as it goes without a GPU: what is missing is said, errors have a text."""

from __future__ import annotations

import numpy as np
import pytest

from autograder.kernels import gpu, nvcc
from autograder.kernels.errors import KernelError

needs_nvcc = pytest.mark.skipif(nvcc.find_nvcc() is None, reason="no nvcc")
STUB = """\
#include <cuda_runtime.h>
#include "not_implemented.cuh"
extern "C" void unfinished(float* x) { LLM_NOT_IMPLEMENTED("task 2.0: unfinished"); }
extern "C" void nothing(float* x) {}
"""


def test_a_machine_without_a_gpu_says_so(monkeypatch):
    monkeypatch.setattr(gpu, "DRIVERS", ("/nowhere/driver",))
    gpu.missing.cache_clear()
    try:
        assert gpu.missing() == "no GPU on this machine"
        assert not gpu.available()
    finally:
        gpu.missing.cache_clear()


@pytest.fixture
def backend(tmp_path, monkeypatch):
    """The back end over a runtime for sm_80, which loads without a GPU."""
    build = nvcc.build_library
    monkeypatch.setattr(nvcc, "build_library", lambda path: build(path, arch="sm_80", cache=tmp_path))
    gpu._runtime.cache_clear()
    yield gpu.GpuBackend()
    gpu._runtime.cache_clear()


@needs_nvcc
@pytest.mark.skipif(gpu.available(), reason="there is a GPU")
def test_without_a_gpu_calls_end_in_errors_with_a_text(backend):
    for call in (lambda: backend.allocate(8), lambda: backend.copy(0, 0, 8),
                 lambda: backend.timed(lambda: None),
                 lambda: backend.write(0, np.zeros(2))):  # fmt: skip
        with pytest.raises(KernelError, match=r"CUDA error \d+"):
            call()
    assert gpu._runtime().gpu_compute_capability() == 0


@needs_nvcc
def test_a_stub_raises_what_it_raises_on_the_emulator(backend, tmp_path):
    template = nvcc.Path(nvcc.__file__).parents[1] / "course" / "templates" / "not_implemented.cuh"
    (tmp_path / "not_implemented.cuh").write_bytes(template.read_bytes())
    (tmp_path / "k.cu").write_text(STUB)
    built = nvcc.build_nvcc(tmp_path / "k.cu", arch="sm_80", cache=tmp_path / "cache")
    handle = backend.open(built)
    for _ in range(2):  # the message is gone with the first
        with pytest.raises(NotImplementedError, match="^task 2.0: unfinished$"):
            backend.call(handle, built.entries["unfinished"], [bytes(8)], {})
        assert handle.emu_module_message() == b""
