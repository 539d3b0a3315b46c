"""Which paths workers need, and who can reach a path."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

# Folders are named one by one: a container may keep its work in /usr/src or /usr/local/src.
SYSTEM_READS = (
    *("/lib", "/lib32", "/lib64", "/libx32", "/bin"),
    *("/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/libx32", "/usr/bin"),
    *("/usr/include", "/usr/share", "/usr/local/lib", "/usr/local/bin", "/usr/local/include"),
    *("/etc/ld.so.cache", "/etc/localtime", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf"),
    *("/dev/zero", "/dev/random", "/dev/urandom", "/sys/kernel/mm/transparent_hugepage"),
    *("/sys/devices/system/cpu", "/sys/devices/system/node"),
)
PROC_READS = (
    *("/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/loadavg", "/proc/uptime"),
    *("/proc/version", "/proc/filesystems", "/proc/sys/vm", "/proc/sys/kernel"),
)
DEVICE_WRITES = ("/dev/null",)


def interpreter_reads() -> list[str]:
    """Folders of the standard library that this interpreter reads after start-up."""
    # Of the base interpreter: a virtual environment's own folder holds packages of every kind.
    base = {
        "base": sys.base_prefix,
        "platbase": sys.base_exec_prefix,
        "installed_base": sys.base_prefix,
        "installed_platbase": sys.base_exec_prefix,
    }
    names = ("stdlib", "platstdlib")
    found = {os.path.realpath(sysconfig.get_path(name, vars=base)) for name in names}
    return sorted(path for path in found if os.path.isdir(path))


def outermost(paths: Iterable[str]) -> list[str]:
    """The real paths without those below another: each rule costs every worker a system call."""
    kept: list[str] = []
    real = {os.path.realpath(path) for path in paths}
    for path in sorted(real, key=lambda path: path.split(os.sep)):
        if not kept or os.path.commonpath([kept[-1], path]) != kept[-1]:
            kept.append(path)
    return kept


def reaches(allowed: str, forbidden: str) -> bool:
    """Is `forbidden`, or something in it, below `allowed` once links are followed?"""
    allowed, forbidden = os.path.realpath(allowed), os.path.realpath(forbidden)
    return os.path.commonpath([allowed, forbidden]) in (allowed, forbidden)


def blocking_parent(path: str | Path, *, execute: bool = False) -> Path | None:
    """The first part of `path` that keeps a foreign uid from reading it; None where nothing does.

    A folder on the way needs o+x, the end o+r, a folder at the end both, and with `execute` a file
    o+rx. Links are followed. Access lists beyond the mode bits are not looked at. OSError: missing.
    """
    given = Path(os.path.abspath(path))
    real = Path(os.path.realpath(given))
    for end in dict.fromkeys((given, real)):
        for parent in reversed(end.parents):
            if not os.stat(parent).st_mode & 0o001:
                return parent
    mode = os.stat(real).st_mode
    needed = 0o005 if execute or os.path.isdir(real) else 0o004
    return None if mode & needed == needed else real


def readable_by_others(path: str | Path, *, execute: bool = False) -> bool:
    """Can an unrelated uid reach and read (or execute) `path`, by the mode bits?"""
    try:
        return blocking_parent(path, execute=execute) is None
    except OSError:
        return False
