"""A system-call filter for workers: classic BPF, assembled by hand for x86-64 and arm64.

The filter names what is refused (EPERM) and lets the rest through: file access is Landlock's and
the file modes' business. It closes what those leave open: the network, other processes, name
spaces, kernel interfaces with a history of holes, objects that outlive the process (System V and
POSIX queues), and what two workers could tell each other by on a file that both may only read:
locks, leases, watches, futexes, which of its pages are in memory. Calls newer than this table are answered ENOSYS, as an older kernel
would.

The parent assembles the program once (`build`); a worker writes its own process id into a few
places and installs it (`Program.install`), which takes two system calls.

Sources: the kernel's Documentation/userspace-api/seccomp_filter.rst and its system-call tables.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from dataclasses import dataclass

from autograder.sandbox import syscalls
from autograder.sandbox.syscall_table import FIRST_UNKNOWN, REFUSED, numbers

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

_LOAD, _JUMP_EQUAL, _JUMP_ABOVE, _JUMP_AT_LEAST, _JUMP_ANY_BIT = 0x20, 0x15, 0x25, 0x35, 0x45
_AND, _RETURN = 0x54, 0x06
_OFFSET_NUMBER, _OFFSET_ARCH, _OFFSET_ARGUMENTS = 0, 4, 16
ALLOW, KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
DENY = _ERRNO | errno.EPERM
UNKNOWN = _ERRNO | errno.ENOSYS

_SET_MODE_FILTER, _FLAG_TSYNC = 1, 1

AF_UNIX, AF_INET, AF_INET6 = 1, 2, 10
SOCK_STREAM, SOCK_SEQPACKET = 1, 5
CLONE_THREAD, CLONE_PARENT = 0x00010000, 0x00008000
# mount, cgroup, uts, ipc, user, pid and net name spaces
CLONE_NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000
CLONE_NAMESPACES |= 0x10000000 | 0x20000000 | 0x40000000
# F_SETSIG, F_SETOWN, F_SETOWN_EX: a descriptor's owner is signalled, so they are a kind of kill().
FCNTL_SIGNALS = (10, 8, 15)
# F_GETLK, F_SETLK, F_SETLKW; the same of open files; F_SETLEASE, F_GETLEASE, F_NOTIFY. A lock needs
# no right to write: who may read a file can lock its bytes, and ask where others have.
FCNTL_LOCKS = (5, 6, 7, 36, 37, 38, 1024, 1025, 1026)
# FUTEX_PRIVATE_FLAG and FUTEX_WAIT, FUTEX_WAIT_BITSET (the clock's bit aside). A futex without the
# flag is one place for all who map that page of a file, a shared library's too. To wait on one is
# let through, as pthread_join does (the kernel wakes it when the thread ends); it tells nobody.
FUTEX_PRIVATE, FUTEX_OPERATIONS, FUTEX_WAITS = 128, 127, (0, 9)
# FIOSETOWN, SIOCSPGRP: the same; TIOCSCTTY, TIOCSTI, TIOCLINUX: typing into a terminal.
IOCTL_SIGNALS = (0x8901, 0x8902, 0x540E, 0x5412, 0x541C)
PR_SET_PDEATHSIG = 1

Instruction = tuple[int, int, int, int]
_OWN_PID = -1  # stands for the worker's process id until it is known


def _load_argument(index: int) -> Instruction:
    # The low word: every argument tested here is an int, or a mask the kernel cuts to 32 bits.
    return (_LOAD, 0, 0, _OFFSET_ARGUMENTS + 8 * index)


def _give(verdict: int) -> Instruction:
    return (_RETURN, 0, 0, verdict)


def _only(index: int, *allowed: int) -> list[Instruction]:
    """Allow the call when argument `index` is one of `allowed`."""
    code = [_load_argument(index)]
    for value in allowed:
        code += [(_JUMP_EQUAL, 0, 1, value), _give(ALLOW)]
    return [*code, _give(DENY)]


def _except(index: int, *refused: int) -> list[Instruction]:
    """Refuse the call when argument `index` is one of `refused`."""
    code = [_load_argument(index)]
    for value in refused:
        code += [(_JUMP_EQUAL, 0, 1, value), _give(DENY)]
    return [*code, _give(ALLOW)]


def _sockets(allow_loopback: bool) -> list[Instruction]:
    """Stream-like local sockets. A datagram socket could write to any service's socket file."""
    code = [_load_argument(0)]
    if allow_loopback:
        for family in (AF_INET, AF_INET6):
            code += [(_JUMP_EQUAL, 0, 1, family), _give(ALLOW)]
    code += [(_JUMP_EQUAL, 1, 0, AF_UNIX), _give(DENY), _load_argument(1), (_AND, 0, 0, 0xF)]
    for kind in (SOCK_STREAM, SOCK_SEQPACKET):
        code += [(_JUMP_EQUAL, 0, 1, kind), _give(ALLOW)]
    return [*code, _give(DENY)]


def _clone(allow_processes: bool) -> list[Instruction]:
    if allow_processes:
        bits = CLONE_NAMESPACES | CLONE_PARENT
        return [_load_argument(0), (_JUMP_ANY_BIT, 0, 1, bits), _give(DENY), _give(ALLOW)]
    return [_load_argument(0), (_JUMP_ANY_BIT, 0, 1, CLONE_THREAD), _give(ALLOW), _give(DENY)]


def _futexes() -> list[Instruction]:
    """Those of this process alone, and waiting on any."""
    code = [_load_argument(1), (_JUMP_ANY_BIT, 0, 1, FUTEX_PRIVATE), _give(ALLOW)]
    code += [(_AND, 0, 0, FUTEX_OPERATIONS)]
    for operation in FUTEX_WAITS:
        code += [(_JUMP_EQUAL, 0, 1, operation), _give(ALLOW)]
    return [*code, _give(DENY)]


def _examined(allow_processes: bool, allow_loopback: bool) -> dict[str, list[Instruction]]:
    """Calls whose verdict depends on their arguments."""
    checks = {
        "socket": _sockets(allow_loopback),
        "socketpair": _sockets(False),
        "clone": _clone(allow_processes),
        "clone3": [_give(UNKNOWN)],  # its flags are in memory: glibc falls back to clone
        "personality": _only(0, 0xFFFFFFFF),  # a query
        "fcntl": _except(1, *FCNTL_SIGNALS),
        "ioctl": _except(1, *IOCTL_SIGNALS),
        "prctl": _except(0, PR_SET_PDEATHSIG),
    }
    if not allow_loopback:
        checks["connect"] = [_give(DENY)]  # socket pairs need none; services' sockets stay away
    if not allow_processes:
        # Memory behind a descriptor counts for no limit on address space.
        for name in ("fork", "vfork", "execve", "execveat", "memfd_create", "memfd_secret"):
            checks[name] = [_give(DENY)]
        for name in ("kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"):
            checks[name] = _only(0, _OWN_PID)
        # Compilers lock files and share futexes; they are no rank of a group.
        checks["fcntl"] = _except(1, *FCNTL_SIGNALS, *FCNTL_LOCKS)
        checks["flock"] = [_give(DENY)]
        checks["futex"] = _futexes()
        # To ask whether a page is in memory, and to put it out: a bit each, of any library's pages.
        checks["fadvise64"] = [_give(DENY)]
        for name in ("futex_wake", "futex_requeue", "preadv2", "cachestat"):
            checks[name] = [_give(UNKNOWN)]
        for name in ("prlimit64", "sched_setaffinity"):
            checks[name] = _only(0, 0, _OWN_PID)
    return checks


def _refuse_numbers(refused: list[int]) -> list[Instruction]:
    """Refuse the listed numbers; neighbours share one comparison."""
    code: list[Instruction] = []
    runs: list[list[int]] = []
    for number in sorted(refused):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    for first, last in runs:
        if first == last:
            code += [(_JUMP_EQUAL, 0, 1, first), _give(DENY)]
        else:
            code += [(_JUMP_AT_LEAST, 0, 2, first), (_JUMP_ABOVE, 1, 0, last), _give(DENY)]
    return code


def assemble(machine: str, *, allow_processes: bool, allow_loopback: bool) -> list[Instruction]:
    """The filter for `machine` ("x86_64" or "aarch64"); KeyError for another."""
    table = numbers(machine)
    code: list[Instruction] = [
        (_LOAD, 0, 0, _OFFSET_ARCH),
        (_JUMP_EQUAL, 1, 0, AUDIT_ARCH[machine]),
        _give(KILL_PROCESS),  # 32-bit calls have other numbers: nobody needs them
        (_LOAD, 0, 0, _OFFSET_NUMBER),
        # Unknown to this table, and (bit 30) the x32 calls.
        (_JUMP_AT_LEAST, 0, 1, FIRST_UNKNOWN),
        _give(UNKNOWN),
    ]
    for name, block in _examined(allow_processes, allow_loopback).items():
        if name in table:
            code += [(_JUMP_EQUAL, 0, len(block), table[name]), *block]
    code += _refuse_numbers([table[name] for name in REFUSED if name in table])
    return [*code, _give(ALLOW)]


class _FilterProgram(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


@dataclass
class Program:
    """An assembled filter, with the places where the worker's process id belongs."""

    code: ctypes.Array
    pid_offsets: list[int]
    header: _FilterProgram

    def install(self, pid: int) -> None:
        """Filter the calling process, all its threads, for good. Needs no_new_privs.

        pid: the caller's own. OSError when the kernel refuses.
        """
        for offset in self.pid_offsets:
            struct.pack_into("<I", self.code, offset, pid)
        address = ctypes.addressof(self.header)
        unmatched = syscalls.call(syscalls.SECCOMP, _SET_MODE_FILTER, _FLAG_TSYNC, address)
        if unmatched:
            raise OSError(errno.EBUSY, f"thread {unmatched} could not be filtered")


def build(
    *, allow_processes: bool = False, allow_loopback: bool = False, machine: str | None = None
) -> Program:
    """Assemble the filter ahead of the fork.

    allow_processes: the worker may fork, exec and signal (what it may signal is then the business
    of its uid and of Landlock's scope). allow_loopback: IP sockets and connect are let through; a
    filter cannot read addresses, so what they reach must be bounded elsewhere.
    """
    instructions = assemble(
        machine or syscalls.MACHINE, allow_processes=allow_processes, allow_loopback=allow_loopback
    )
    offsets = [8 * i + 4 for i, (_, _, _, k) in enumerate(instructions) if k == _OWN_PID]
    packed = b"".join(struct.pack("<HBBI", c, t, f, max(k, 0)) for c, t, f, k in instructions)
    code = (ctypes.c_char * len(packed)).from_buffer_copy(packed)
    return Program(code, offsets, _FilterProgram(len(instructions), ctypes.addressof(code)))


def available() -> bool:
    """Does this kernel have system-call filters (and this machine a table)?"""
    if not syscalls.SUPPORTED:
        return False
    try:  # SECCOMP_GET_ACTION_AVAIL for ERRNO
        action = ctypes.c_uint32(_ERRNO)
        syscalls.call(syscalls.SECCOMP, 2, 0, ctypes.addressof(action))
    except OSError:
        return False
    return True
