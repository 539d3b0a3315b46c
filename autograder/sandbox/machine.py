"""What this machine grants: quotas of control groups (v1 and v2), memory, tools, GPUs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

# cgroup v1 says "no limit" with a number near 2**63.
_UNLIMITED = 1 << 60


def _mounts(root: Path) -> list[tuple[str, str, list[str]]]:
    """(mount point, type, options) of the file systems in `root`/proc/mounts."""
    try:
        lines = (root / "proc/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    parts = [line.split() for line in lines]
    return [(part[1], part[2], part[3].split(",")) for part in parts if len(part) >= 4]


def _group_of(controller: str, root: Path) -> str | None:
    """This process's group for a v1 `controller`, or for v2 where it is ""."""
    try:
        text = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    for line in text.splitlines():
        _, names, group = line.split(":", 2)
        if controller in names.split(","):
            return group
    return None


def _folders(controller: str, root: Path) -> Iterator[tuple[int, Path]]:
    """(version, folder) of this process's group and its parents, for "cpu" or "memory".

    In a container the group's name may be the host's, and its folder the mount point itself.
    """
    for point, kind, options in _mounts(root):
        if kind == "cgroup2":
            version, group = 2, _group_of("", root)
        elif kind == "cgroup" and controller in options:
            version, group = 1, _group_of(controller, root)
        else:
            continue
        base = root / point.lstrip("/")
        folder = base / (group or "").lstrip("/")
        while folder != base and base in folder.parents:
            yield version, folder
            folder = folder.parent
        yield version, base


def _number(path: Path, field: int = 0) -> int | None:
    try:
        return int(path.read_text(encoding="ascii").split()[field])
    except (OSError, ValueError, IndexError):
        return None


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Processors' worth of time that control groups grant; None where they set no bound."""
    quotas = []
    for version, folder in _folders("cpu", root):
        if version == 2:
            quota, period = _number(folder / "cpu.max"), _number(folder / "cpu.max", 1)
        else:
            quota = _number(folder / "cpu.cfs_quota_us")
            period = _number(folder / "cpu.cfs_period_us")
        if quota is not None and quota > 0 and period:
            quotas.append(quota / period)
    return min(quotas, default=None)


def memory_limit(root: Path = Path("/")) -> int | None:
    """Bytes that control groups grant; None where they set no bound."""
    limits = []
    for version, folder in _folders("memory", root):
        limit = _number(folder / ("memory.max" if version == 2 else "memory.limit_in_bytes"))
        if limit is not None and limit < _UNLIMITED:
            limits.append(limit)
    return min(limits, default=None)


def processors() -> int:
    """Processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def physical_memory() -> int | None:
    """Bytes of memory in the machine; None where it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None


def tool_version(*names: str) -> tuple[str, str] | None:
    """(path, a line with its version) of the first tool that exists and answers `--version`."""
    for name in names:
        path = shutil.which(name)
        if path is None:
            continue
        answer = output_of([path, "--version"])
        if answer is not None:
            lines = [line.strip() for line in answer.splitlines() if line.strip()]
            wanted = [line for line in lines if "release" in line] or lines[:1]
            return path, wanted[0] if wanted else "no version given"
    return None


def output_of(command: list[str], seconds: float = 20.0) -> str | None:
    """What `command` prints; None if it fails, hangs or does not exist."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def graphics_processors() -> list[str]:
    """A line for each GPU that the driver lists."""
    path = shutil.which("nvidia-smi")
    query = ["--query-gpu=name,memory.total", "--format=csv,noheader"]
    answer = output_of([path, *query]) if path else None
    return [line.strip() for line in (answer or "").splitlines() if line.strip()]


def has_cuda_driver() -> bool:
    """Is there a CUDA driver library, whether or not a GPU answers?"""
    names = ("libcuda.so.1", "libcuda.so")
    folders = ("/usr/lib", "/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu")
    folders += ("/usr/lib/wsl/lib", "/usr/local/cuda/compat", "/usr/local/nvidia/lib64")
    folders += tuple(os.environ.get("LD_LIBRARY_PATH", "").split(":"))
    if sys.platform != "linux":
        return False
    return any(Path(folder, name).exists() for folder in folders if folder for name in names)
