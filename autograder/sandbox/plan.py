"""What a grading run's workers are and may use."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Plan:
    """What one grading run's workers are.

    modules: name -> path of staff modules (drivers, peers); overlay: folder with the package;
    confine: "full" drops to a throwaway uid (needs root), "self" keeps the uid, "none" is for
    measuring what confinement costs. never: what no rule may open (hidden tests, reference).
    cache: folder for byte code and compiled kernels, or None. reads: what else workers may read.
    builders: processes that a worker may start while it warms up (compilers); others start none.
    """

    package: str
    overlay: Path
    imports: tuple[str, ...] = ()
    modules: Mapping[str, Path] = field(default_factory=dict)
    cache: Path | None = None
    confine: str = "self"
    never: tuple[Path, ...] = ()
    reads: tuple[Path, ...] = ()
    builders: int = 0
    fork: bool = sys.platform == "linux"
    wall_seconds: float = 20.0
    cpu_seconds: int = 60
    memory_mb: int = 4096
    processes: int = 0
    open_files: int = 64
    output_kb: int = 256
    file_mb: int = 64
    reply_mb: int = 256
    threads: int = 2
    layers: tuple[str, ...] = ("landlock", "seccomp")


def clean_environment(threads: int) -> dict[str, str]:
    """The environment of the zygote: nothing of the grader's own, one thread per library."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONSAFEPATH": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "NUMBA_NUM_THREADS": str(max(2, threads)),
        # Under the OpenMP layer one compiled parallel function in a parent kills forked children.
        "NUMBA_THREADING_LAYER": "workqueue",
    }
