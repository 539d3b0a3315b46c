"""The few kernel calls that Python's `os` lacks, by number through libc's `syscall`.

Imports anywhere; `call` and `control` work on Linux (x86-64 and arm64) only. They are bound once
at import, so that a freshly forked worker spends microseconds here.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys

LINUX = sys.platform == "linux"
_machine = platform.machine().lower()
MACHINE = {"amd64": "x86_64", "arm64": "aarch64"}.get(_machine, _machine)
SUPPORTED = LINUX and MACHINE in ("x86_64", "aarch64") and sys.byteorder == "little"

# Since 5.1 new system calls have the same number on every architecture.
LANDLOCK_CREATE_RULESET = 444
LANDLOCK_ADD_RULE = 445
LANDLOCK_RESTRICT_SELF = 446
CLOSE_RANGE = 436
SECCOMP = {"x86_64": 317, "aarch64": 277}.get(MACHINE, -1)

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_GET_NO_NEW_PRIVS = 39

_libc = ctypes.CDLL(None, use_errno=True)
if LINUX:
    _syscall = _libc.syscall
    _syscall.restype = ctypes.c_long
    _syscall.argtypes = [ctypes.c_long] * 7
    _prctl = _libc.prctl
    _prctl.restype = ctypes.c_int
    _prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4


def call(number: int, *arguments: int) -> int:
    """The system call `number` with up to six integers or addresses; OSError when it fails."""
    if not LINUX:
        raise OSError(38, "system calls by number need Linux")
    padded = arguments + (0,) * (6 - len(arguments))
    result = _syscall(number, *padded)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(result)


def control(option: int, value: int = 0) -> int:
    """prctl(option, value); OSError when it fails."""
    if not LINUX:
        raise OSError(38, "prctl needs Linux")
    result = _prctl(option, value, 0, 0, 0)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(result)


def become_subreaper() -> bool:
    """Orphans below this process become its children (so it can reap them); False where absent."""
    try:
        control(PR_SET_CHILD_SUBREAPER, 1)
    except OSError:
        return False
    return True


def close_all_but(keep: set[int]) -> None:
    """Close every file descriptor from 3 up that is not in `keep`; one system call per gap."""
    first = 3
    for kept in sorted(number for number in keep if number >= 3):
        _close_span(first, kept - 1)
        first = kept + 1
    _close_span(first, 0x7FFFFFFF)


def _close_span(first: int, last: int) -> None:
    if first > last:
        return
    try:
        call(CLOSE_RANGE, first, last, 0)
    except OSError:  # Linux before 5.9, or not Linux
        os.closerange(first, min(last + 1, os.sysconf("SC_OPEN_MAX")))
