"""What a worker runs to learn of nvcc which registers a kernel file's kernels use."""

from __future__ import annotations

import os
from typing import Any

from autograder import kernels  # noqa: F401  read before the worker is confined
from autograder.kernels import nvcc


def resources(path: str, program: str, arch: str) -> list[dict[str, Any]]:
    """`nvcc.compile_check` of the file at `path`, by the nvcc at `program`, as plain data."""
    os.environ["PATH"] = os.path.dirname(program) + os.pathsep + os.environ.get("PATH", "")
    nvcc.find_nvcc.cache_clear()
    return nvcc.as_rows(nvcc.compile_check(path, arch))
