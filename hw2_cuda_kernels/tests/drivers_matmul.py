"""Drivers of task 2.4: arrays in, arrays and reports out. The package is imported inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autograder import kernels


def build_matmul() -> None:
    """matmul.cu for the emulator."""
    from cuda_kernels import matmul

    kernels.build(Path(matmul.__file__).with_suffix(".cu"), mode="full")


def matmuls(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One answer a case: {"a", "b", "version"}."""
    from cuda_kernels import matmul as module

    device = kernels.Device(backend="emulator", mode="full")
    answers = []
    for case in cases:
        a, b = device.array(case["a"]), device.array(case["b"])
        out = module.matmul(device, a, b, case["version"])
        answers.append({"out": out.numpy(), "report": device.report()})
    return answers


WARM_UP_MATMUL = {"2.4": build_matmul}
