"""Kernel files that attack: refused, stopped or harmless, and the process counts rightly afterwards.

Each file under hostile/ says what it tries. Those that are launched run in one process of their own,
one after the other; behind each an honest kernel shows that nothing was damaged.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from autograder import kernels  # noqa: E402

HOSTILE = Path(__file__).parent / "hostile"

# file -> a part of the message that refuses it
REFUSED = {
    "address_operator": "belong to the emulator",
    "asm_by_continuation": "put a space before",
    "asm_by_pasting": "inline assembly",
    "asm_by_universal_name": "can't stand",
    "attribute_other_spelling": "write __attribute__",
    "atomic_builtin": "CUDA's atomic functions",
    "attribute_in_macro": "attribute",
    "barrier_line": "takes no argument",
    "barrier_line_copied": "can only be called",
    "barrier_line_deduced": "deleted function",
    "barrier_line_of_a_member": "can only be called",
    "big_argument": "at most 4096 bytes",
    "builtin": "built-in function",
    "call_in_brackets": "system is not there",
    "compiler_macro": "the same path",
    "computed_goto": "goto",
    "constexpr_without_end": "limit",
    "constructor": "code to run before",
    "embed": "#embed",
    "emulator_macro": "the same path",
    "emulator_name": "belong to the emulator",
    "emulator_name_by_pasting": "belong to the emulator",
    "entry_twice": "defined twice",
    "function_pointer": "call through a pointer",
    "header_with_calls": "not among the headers",
    "hook_name_by_pasting": "belong to the emulator",
    "include_absolute": "of its own folder",
    "include_macro": "#include takes",
    "include_next": "#include_next",
    "include_path": "of its own folder",
    "initialiser_name": "_init is a name",
    "jump_buffer": "behind the compiler's back",
    "launch_by_pointer": "no __global__ function",
    "libc_name": "memset",
    "linker_name": "__ehdr_start is a name",
    "macro_barrier": "a meaning already",
    "macro_inside_of_a_header": "belong to the emulator",
    "macro_keyword": "a meaning already",
    "macro_thread_index": "a meaning already",
    "member_pointer": "call through a pointer",
    "pragma_by_digraph": "digraphs",
    "pragma_by_pasting": "made by a macro",
    "pragma_optimize": "#pragma",
    "raw_string": "raw strings",
    "stack_by_alloca": "alloca",
    "stack_by_array": "variable",
    "system_call": "operating system",
    "table_of_functions": "call through a pointer",
    "template_without_end": "depth",
}

# function of hostile/memory.cu -> the kind of fault that it ends in; those of the first table get an
# address of the Python process, 64 bytes of 'a'.
AT_PYTHON = {
    **dict.fromkeys(
        ("store", "load", "struct_copy", "vector", "two_doubles", "bit_field", "volatile_store",
         "extended", "atomic", "by_memcpy", "by_memset", "reference", "async_from",
         "address_operator", "lying_type", "host_store", "host_load", "host_memcpy"),
        "host pointer"),
    "async_to": "bad cp.async",
}  # fmt: skip
MEMORY = {
    "own_code": "constant written",
    "emulator_code": "host pointer",
    "host_memory_in_kernel": "host variable",
    "constant_written": "constant written",
    "device_memory_on_host": "device pointer",
    "device_variable_on_host": "device variable",
    "null": "null pointer",
    "past_the_end": "out of bounds",
    "freed": "use after free",
    "return_address": "out of bounds",
    "host_return_address": "out of bounds",
    "below_the_stack": "out of bounds",
    "memcpy_below_the_stack": "out of bounds",
    "other_threads_stack": "another thread's variable",
    "local_index": "index",
    "recursion": "recursion too deep",
    "host_recursion": "recursion too deep",
}
# function of hostile/resources.cu -> the kind of fault
RESOURCES = {
    "endless": "time limit",
    "endless_host": "time limit",
    "endless_barriers": "time limit",
    "endless_wait": "time limit",
    "blocks_without_end": "time limit",
    "large_grid": "invalid launch",
    "large_block": "invalid launch",
    "overflowing_block": "invalid launch",
    "no_block": "invalid launch",
    "large_shared": "too much shared memory",
    "large_dynamic_shared": "invalid launch",
    "division": "division by zero",
    "copy_all": "bad copy",
    "copy_past_the_end": "bad copy",
    "set_all": "bad copy",
    "set_host": "bad copy",
    "copy_to_host": "copy with the host",
    "copy_from_host": "copy with the host",
    "copy_in_kernel": "host function in a kernel",
    "set_in_kernel": "host function in a kernel",
    "launch_in_kernel": "launch from a kernel",
    "launches_without_end": "too many launches",
    "sets_without_end": "time limit",
    "copies_without_a_wait": "bad cp.async",
    "releases_without_end": "time limit",
}
# These end with an error of the runtime library alone.
CUDA_ERRORS = ("copy_past_a_symbol", "free_inside", "allocate_all")
# These run to their end, and the report has an error of this kind.
FOUND = {
    "uninitialised": "uninitialised",
    "volatile_race": "race",
    "lone_sync_race": "race",
    "shuffle_race": "race",
    "race_behind_warnings": "race",
}
HARMLESS = ("formats", "wide_formats", "flood")
STOPPED = {
    **{f"memory.{name}": kind for name, kind in {**AT_PYTHON, **MEMORY}.items()},
    **{f"resources.{name}": kind for name, kind in RESOURCES.items()},
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_a_clear_message(name, tmp_path, monkeypatch):
    """BuildError names the fault, and no path of this machine."""
    monkeypatch.setenv("LLM_SYSTEMS_KERNEL_CACHE", str(tmp_path))
    with pytest.raises(kernels.BuildError) as refusal:
        kernels.build(HOSTILE / f"{name}.cu")
    assert REFUSED[name] in str(refusal.value)
    assert "/tests/" not in str(refusal.value) and "emu_" not in str(refusal.value).replace(
        "emu_configure", ""
    )
    left = [path for path in tmp_path.glob("*") if path.suffix != ".refused"]
    assert not left, "more is left behind than what is wrong with the file"


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Any]:
    """What each launched function ended in, from one process for all of them."""
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", STOPPED)
def test_it_is_stopped(outcomes, name):
    """KernelError with its kind, a sentence for the student, and nothing damaged."""
    outcome = outcomes[name]
    assert outcome["kinds"][-1:] == [STOPPED[name]], outcome
    assert len(outcome["message"]) > 20
    assert outcome["good"], "an honest kernel behind it has other values or counts"


@pytest.mark.parametrize("name", CUDA_ERRORS)
def test_the_runtime_library_refuses_it(outcomes, name):
    """An error as from CUDA, and nothing damaged."""
    outcome = outcomes[f"resources.{name}"]
    assert "CUDA error" in outcome["message"]
    assert outcome["good"]


@pytest.mark.parametrize("name", FOUND)
def test_it_is_found(outcomes, name):
    """An error in the report, whatever else is in there."""
    outcome = outcomes[f"resources.{name}"]
    assert FOUND[name] in outcome["kinds"] and not outcome["message"], outcome
    assert outcome["good"]


@pytest.mark.parametrize("name", HARMLESS)
def test_it_is_harmless(outcomes, name):
    """No fault, no memory in the output, and not much of it."""
    outcome = outcomes[f"resources.{name}"]
    assert not outcome["message"] and not outcome["kinds"]
    assert outcome["output"] < 70_000
    assert outcome["good"]


def test_the_process_was_left_alone(outcomes):
    """The bytes that the attacks aimed at are what they were; each file has its row."""
    assert outcomes["untouched"]
    listed = {*REFUSED, "memory", "resources", "good"}
    assert {path.stem for path in HOSTILE.glob("*.cu")} == listed
    functions = {name for name in outcomes if "." in name}
    others = {f"resources.{name}" for name in (*CUDA_ERRORS, *FOUND, *HARMLESS)}
    assert functions == {*STOPPED, *others}


# ---- in a process of its own


def honest(device: Any) -> bool:
    """Does the honest kernel compute and count what it must?"""
    module = device.load(HOSTILE / "good.cu")
    x = np.arange(64, dtype=np.float32)
    y = device.empty(64)
    device.report()
    module.launch("good", device.array(x), y)
    report = device.report()
    (launch,) = report["launches"]
    counts = launch["counts"]
    # Two warps: each a load and a store of 128 bytes, each one shared store and one shared load.
    expected = {
        "global_load_requests": 2, "global_load_sectors": 8, "global_store_requests": 2,
        "global_store_sectors": 8, "shared_load_requests": 2, "shared_store_requests": 2,
        "shared_load_wavefronts": 2, "barriers": 1, "partial_requests": 0,
    }  # fmt: skip
    right = all(counts[name] == count for name, count in expected.items())
    return right and not report["diagnostics"] and bool((y.numpy() == 2 * x[::-1]).all())


def attempt(device: Any, module: Any, name: str, *arguments: Any) -> dict[str, Any]:
    """Launches one function; what it ended in, and whether an honest kernel still runs behind it."""
    device.report()
    message = ""
    try:
        module.launch(name, *arguments)
    except kernels.KernelError as error:
        message = str(error)
    report = device.report()
    return {
        "message": message,
        "kinds": [d["kind"] for d in report["diagnostics"] if d["severity"] == "error"],
        "output": len(report["output"]),
        "good": honest(device),
    }


def main() -> None:
    """Launches all functions of both files and prints the outcomes as JSON."""
    device = kernels.Device("emulator", "full")
    hurried = kernels.Device("emulator", "full", seconds=0.3)
    outcomes: dict[str, Any] = {}
    buffer = ctypes.create_string_buffer(b"a" * 256, 256)
    at = (ctypes.addressof(buffer) + 63) & ~63
    module = device.load(HOSTILE / "memory.cu")
    for name in module.build.entries:
        x = device.zeros(1024, np.int32)
        given = (at, x, 16) if name in AT_PYTHON else (at, x, 0)
        outcomes[f"memory.{name}"] = attempt(device, module, name, *given)
    for name in device.load(HOSTILE / "resources.cu").build.entries:
        chosen = hurried if RESOURCES.get(name) == "time limit" else device
        module = chosen.load(HOSTILE / "resources.cu")
        x = chosen.zeros(1024, np.int32)
        outcomes[f"resources.{name}"] = attempt(chosen, module, name, x, 0)
    outcomes["untouched"] = buffer.raw == b"a" * 256
    print("\n" + json.dumps(outcomes))


if __name__ == "__main__":
    main()
