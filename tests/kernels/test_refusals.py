"""What is wrong with a file is remembered, for workers that can't run a compiler."""

from __future__ import annotations

import pytest

from autograder.kernels.compile import BuildError, build


def test_a_file_that_can_not_be_built_is_told_again_without_a_compiler(tmp_path, monkeypatch):
    """What is wrong is kept beside the builds: a confined worker can't run the compiler again."""
    source = tmp_path / "broken.cu"
    source.write_text('#include <cuda_runtime.h>\nextern "C" void f(float* x) { x = nothing; }\n')
    with pytest.raises(BuildError) as first:
        build(source, instrumented=True, cache=tmp_path / "cache")
    monkeypatch.setattr("autograder.kernels.compile.run", None)
    with pytest.raises(BuildError) as again:
        build(source, instrumented=True, cache=tmp_path / "cache")
    assert again.value.message == first.value.message and "broken.cu:2" in again.value.message
    assert again.value.places == first.value.places
    source.write_text(source.read_text().replace("nothing", "nullptr"))
    monkeypatch.undo()
    assert build(source, instrumented=True, cache=tmp_path / "cache").entries


def test_a_fault_of_the_machine_is_not_remembered(tmp_path, monkeypatch):
    """A tool that is missing today, or a busy machine, must not refuse a good file tomorrow."""
    monkeypatch.delenv("LLM_SYSTEMS_KERNEL_CACHE", raising=False)
    source = tmp_path / "good.cu"
    source.write_text('#include <cuda_runtime.h>\nextern "C" void f(float* x) { (void)x; }\n')

    def fail(*_: object) -> None:
        raise BuildError("objdump is not installed: it comes with binutils")

    with monkeypatch.context() as patched:
        patched.setattr("autograder.kernels.compile._build", fail)
        with pytest.raises(BuildError):
            build(source, instrumented=True, cache=tmp_path / "cache")
    assert build(source, instrumented=True, cache=tmp_path / "cache").entries
