"""An allow-list of files for one process and what it starts: Linux' Landlock, without privileges.

The trusted parent builds a `RuleTable` once: it opens every allowed path (O_PATH) and lays out the
kernel's rule records. A forked worker then makes its own ruleset from the table, adds its private
folders, and confines itself: two system calls and one more per rule. A ruleset is never shared
between workers, because a rule that one of them adds to a shared one would hold for all later ones.

What Landlock does not govern: stat, chmod, chown, utime and chdir (file modes must), descriptors
that are already open, and UDP. Source: the kernel's Documentation/userspace-api/landlock.rst.
"""

from __future__ import annotations

import ctypes
import functools
import os
import stat
import struct
from collections.abc import Iterable, Sequence

from autograder.sandbox import syscalls

EXECUTE = 1 << 0
WRITE_FILE = 1 << 1
READ_FILE = 1 << 2
READ_DIR = 1 << 3
REMOVE_DIR = 1 << 4
REMOVE_FILE = 1 << 5
MAKE_CHAR = 1 << 6
MAKE_DIR = 1 << 7
MAKE_REG = 1 << 8
MAKE_SOCK = 1 << 9
MAKE_FIFO = 1 << 10
MAKE_BLOCK = 1 << 11
MAKE_SYM = 1 << 12
REFER = 1 << 13  # ABI 2: rename and link between folders
TRUNCATE = 1 << 14  # ABI 3
IOCTL_DEV = 1 << 15  # ABI 5

BIND_TCP = 1 << 0  # ABI 4
CONNECT_TCP = 1 << 1
SCOPE_ABSTRACT_UNIX_SOCKET = 1 << 0  # ABI 6
SCOPE_SIGNAL = 1 << 1
# ABI 7: refused accesses of a hostile program must not flood the host's audit log.
QUIET = (1 << 0) | (1 << 2)

HIGHEST_ABI = 7
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
_RECORD = struct.Struct("<Qi")  # struct landlock_path_beneath_attr, packed: access, descriptor
_FILE_RIGHTS = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
_PRIVATE = READ_FILE | READ_DIR | WRITE_FILE | TRUNCATE
_PRIVATE |= REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | REFER


@functools.cache
def abi() -> int:
    """The kernel's Landlock ABI (1 and up); 0 where the kernel or the machine has none."""
    if not syscalls.SUPPORTED:
        return 0
    try:
        return syscalls.call(syscalls.LANDLOCK_CREATE_RULESET, 0, 0, _CREATE_RULESET_VERSION)
    except OSError:
        return 0


def handled_files(version: int) -> int:
    """Every file right that an ABI `version` kernel can refuse."""
    rights = (1 << 13) - 1
    rights |= REFER if version >= 2 else 0
    rights |= TRUNCATE if version >= 3 else 0
    rights |= IOCTL_DEV if version >= 5 else 0
    return rights


class RuleTable:
    """What a worker may open, prepared ahead of the fork.

    reads: files, or folders with all below them, that may be read (and run, where `execute`).
    lists: folders whose names, and those of the folders below, may be listed but not read.
    writes: files (a device) or folders that may be read and written.
    special_files: links, sockets and FIFOs may be made in writable folders.
    tcp: leave TCP alone; otherwise binding and connecting are refused (ABI 4).
    Raises OSError when a path is missing: an allow-list with a typing error must not pass.
    """

    def __init__(
        self,
        reads: Iterable[str] = (),
        lists: Iterable[str] = (),
        writes: Iterable[str] = (),
        *,
        execute: bool = False,
        special_files: bool = False,
        tcp: bool = False,
        version: int | None = None,
    ) -> None:
        self.version = min(abi() if version is None else version, HIGHEST_ABI)
        self.handled = handled_files(self.version)
        self.read_rights = READ_FILE | READ_DIR | (EXECUTE if execute else 0)
        self.write_rights = _PRIVATE | (EXECUTE if execute else 0)
        if special_files:
            self.write_rights |= MAKE_SYM | MAKE_SOCK | MAKE_FIFO
        self.descriptors: list[int] = []
        records = bytearray()
        if self.version:
            for path in reads:
                records += self._record(path, self.read_rights)
            for path in lists:
                records += self._record(path, READ_DIR)
            for path in writes:
                records += self._record(path, self.write_rights)
        self._records = (ctypes.c_char * max(len(records), 1)).from_buffer_copy(records or b"\0")
        self._base = ctypes.addressof(self._records)
        self._count = len(records) // _RECORD.size
        net = 0 if tcp else BIND_TCP | CONNECT_TCP
        scoped = SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL
        # The kernel tells older forms of the structure by its length.
        fields = 3 if self.version >= 6 else 2 if self.version >= 4 else 1
        attributes = struct.pack(f"<{fields}Q", *(self.handled, net, scoped)[:fields])
        self._attributes = ctypes.create_string_buffer(attributes, len(attributes))

    def _record(self, path: str, rights: int) -> bytes:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        self.descriptors.append(descriptor)
        return _RECORD.pack(self._fit(descriptor, rights), descriptor)

    def _fit(self, descriptor: int, rights: int) -> int:
        """`rights` without those that the kernel lacks, or that a file cannot have."""
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _FILE_RIGHTS
        return rights & self.handled

    def restrict(self, reads: Sequence[str] = (), writes: Sequence[str] = ()) -> None:
        """Confine the calling thread for good, with more paths of its own; OSError if refused.

        Needs no_new_privs. Must run before the process starts a second thread.
        """
        ruleset = syscalls.call(
            syscalls.LANDLOCK_CREATE_RULESET,
            ctypes.addressof(self._attributes),
            len(self._attributes),
            0,
        )
        try:
            for index in range(self._count):
                self._add(ruleset, self._base + index * _RECORD.size)
            for rights, paths in ((self.read_rights, reads), (self.write_rights, writes)):
                for path in paths:
                    self._add_path(ruleset, path, rights)
            flags = QUIET if self.version >= 7 else 0
            syscalls.call(syscalls.LANDLOCK_RESTRICT_SELF, ruleset, flags)
        finally:
            os.close(ruleset)

    def _add_path(self, ruleset: int, path: str, rights: int) -> None:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            record = ctypes.create_string_buffer(
                _RECORD.pack(self._fit(descriptor, rights), descriptor), _RECORD.size
            )
            self._add(ruleset, ctypes.addressof(record))
        finally:
            os.close(descriptor)

    @staticmethod
    def _add(ruleset: int, record: int) -> None:
        syscalls.call(syscalls.LANDLOCK_ADD_RULE, ruleset, _RULE_PATH_BENEATH, record, 0)

    def close(self) -> None:
        """Close the prepared descriptors (in a worker: once it is confined)."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors.clear()
