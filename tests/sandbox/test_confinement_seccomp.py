"""The system-call filter: the assembled program run by a small interpreter, and by the kernel."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import platform
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from autograder.sandbox import seccomp, syscall_table, syscalls
from autograder.sandbox.probe import in_child, refused

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
needs_kernel = pytest.mark.skipif(
    not seccomp.available(), reason="no system-call filters on this kernel or machine"
)
MACHINES = ("x86_64", "aarch64")
OWN, OTHER = 4242, 4243
ALLOWED, REFUSED, UNKNOWN = seccomp.ALLOW, seccomp.DENY, seccomp.UNKNOWN


def verdict(machine: str, name: str | int, *arguments: int, arch: int | None = None, **options):
    """What the filter for `machine` answers to the call, by interpreting its bytes."""
    number = name if isinstance(name, int) else syscall_table.numbers(machine)[name]
    program = seccomp.build(machine=machine, **options)
    code = bytearray(program.code.raw)
    for offset in program.pid_offsets:
        struct.pack_into("<I", code, offset, OWN)
    arch = seccomp.AUDIT_ARCH[machine] if arch is None else arch
    padded = [value & (2**64 - 1) for value in (*arguments, *[0] * (6 - len(arguments)))]
    data = struct.pack("<IIQ6Q", number, arch, 0, *padded)
    instructions = list(struct.iter_unpack("<HBBI", code))
    place = accumulator = 0
    while True:
        operation, if_true, if_false, value = instructions[place]
        place += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif operation == 0x54:
            accumulator &= value
        elif operation == 0x06:
            return value
        else:
            tests = {
                0x15: accumulator == value,
                0x25: accumulator > value,
                0x35: accumulator >= value,
                0x45: bool(accumulator & value),
            }
            place += if_true if tests[operation] else if_false


@pytest.mark.parametrize("machine", MACHINES)
def test_every_listed_call_is_refused_and_everyday_calls_are_not(machine):
    for name in syscall_table.REFUSED:
        if name in syscall_table.numbers(machine):
            assert verdict(machine, name) == REFUSED, name
    everyday = {
        "x86_64": [0, 1, 3, 9, 10, 11, 13, 39, 60, 186, 202, 228, 231, 257, 318],
        "aarch64": [56, 57, 63, 64, 93, 94, 98, 113, 172, 178, 214, 215, 222, 226, 278],
    }
    for number in everyday[machine]:
        assert verdict(machine, number) == ALLOWED, number


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_of_another_architecture_kill_and_newer_calls_are_unknown(machine):
    assert verdict(machine, 1, arch=0x40000003) == seccomp.KILL_PROCESS
    assert verdict(machine, syscall_table.FIRST_UNKNOWN) == UNKNOWN
    assert verdict(machine, 2**32 - 1) == UNKNOWN
    x32_read = 0x40000000
    assert verdict(machine, x32_read) == UNKNOWN


@pytest.mark.parametrize("machine", MACHINES)
def test_only_local_stream_sockets_may_be_made(machine):
    for name in ("socket", "socketpair"):
        assert verdict(machine, name, socket.AF_UNIX, socket.SOCK_STREAM | 0o2000000) == ALLOWED
        assert verdict(machine, name, socket.AF_UNIX, socket.SOCK_SEQPACKET) == ALLOWED
        assert verdict(machine, name, socket.AF_UNIX, socket.SOCK_DGRAM) == REFUSED
        for family in (0, 2, 10, 16, 17, 38, 40):
            assert verdict(machine, name, family, socket.SOCK_STREAM) == REFUSED, family
    assert verdict(machine, "connect", 3) == REFUSED
    assert verdict(machine, "socket", 2, 2, allow_loopback=True) == ALLOWED
    assert verdict(machine, "socket", 16, 3, allow_loopback=True) == REFUSED
    assert verdict(machine, "connect", 3, allow_loopback=True) == ALLOWED


@pytest.mark.parametrize("machine", MACHINES)
def test_threads_may_start_and_processes_may_not(machine):
    thread_flags = 0x3D0F00  # as glibc's pthread_create
    assert verdict(machine, "clone", thread_flags) == ALLOWED
    assert verdict(machine, "clone", signal.SIGCHLD) == REFUSED
    assert verdict(machine, "clone3") == UNKNOWN
    names = {"fork", "vfork", "execve", "execveat", "memfd_create", "memfd_secret"}
    for name in names & set(syscall_table.numbers(machine)):
        assert verdict(machine, name) == REFUSED
        assert verdict(machine, name, allow_processes=True) == ALLOWED
    assert verdict(machine, "clone", signal.SIGCHLD, allow_processes=True) == ALLOWED
    for flag in (0x20000, 0x8000, 0x02000000, 0x10000000, 0x20000000, 0x40000000):
        assert verdict(machine, "clone", flag | 17, allow_processes=True) == REFUSED, hex(flag)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    "name", ["kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"]
)
def test_signals_reach_the_process_itself_and_nobody_else(machine, name):
    assert verdict(machine, name, OWN, 6) == ALLOWED
    for target in (OTHER, 0, -1, -OTHER, 1):
        assert verdict(machine, name, target, 9) == REFUSED, target


@pytest.mark.parametrize("machine", MACHINES)
def test_roundabout_signals_and_other_processes_limits_are_refused(machine):
    for command in (8, 10, 15):
        assert verdict(machine, "fcntl", 0, command) == REFUSED
    for request in (0x8901, 0x8902, 0x5412, 0x541C, 0x540E):
        assert verdict(machine, "ioctl", 0, request) == REFUSED
    assert verdict(machine, "fcntl", 0, 1030) == verdict(machine, "ioctl", 0, 0x5401) == ALLOWED
    assert verdict(machine, "prctl", 1, 0) == REFUSED  # it would outlive a killed grader
    assert verdict(machine, "prctl", 15) == ALLOWED
    for name in ("prlimit64", "sched_setaffinity"):
        assert verdict(machine, name, 0) == verdict(machine, name, OWN) == ALLOWED
        assert verdict(machine, name, OTHER) == REFUSED
    assert verdict(machine, "personality", 0xFFFFFFFF) == ALLOWED
    assert verdict(machine, "personality", 0x0040000) == REFUSED


@pytest.mark.parametrize("machine", MACHINES)
def test_no_two_workers_can_talk_by_a_file_that_they_may_only_read(machine):
    for command in (*range(5, 8), *range(36, 39), 1024, 1025, 1026):
        assert verdict(machine, "fcntl", 3, command) == REFUSED, command
        assert verdict(machine, "fcntl", 3, command, allow_processes=True) == ALLOWED  # compilers
    for command in (0, 1, 2, 3, 4, 1030):
        assert verdict(machine, "fcntl", 3, command) == ALLOWED, command
    assert verdict(machine, "flock", 3, 2) == REFUSED
    private = 128
    for operation in range(14):
        assert verdict(machine, "futex", 0, operation | private) == ALLOWED, operation
        wait = operation in (0, 9)  # pthread_join's, whom the kernel wakes
        for clock in (0, 256):
            seen = verdict(machine, "futex", 0, operation | clock)
            assert seen == (ALLOWED if wait else REFUSED), operation
    assert verdict(machine, "fadvise64", 3, 0, 0, 4) == REFUSED
    for name in ("futex_wake", "futex_requeue", "preadv2", "cachestat"):
        assert verdict(machine, name) == UNKNOWN


def test_arguments_are_cut_to_the_bits_that_the_kernel_reads():
    high = 1 << 32
    assert verdict("x86_64", "kill", OTHER | high) == REFUSED
    assert verdict("x86_64", "socket", socket.AF_INET | high, socket.SOCK_STREAM) == REFUSED
    assert verdict("x86_64", "ioctl", 0, 0x5412 | high) == REFUSED


@pytest.mark.parametrize("machine", MACHINES)
def test_the_program_is_within_the_kernels_bounds(machine):
    code = seccomp.assemble(machine, allow_processes=False, allow_loopback=True)
    assert len(code) < 4096
    for place, (operation, if_true, if_false, _) in enumerate(code):
        assert 0 <= if_true < 256 and 0 <= if_false < 256
        if operation != 0x06:
            assert place + 1 + max(if_true, if_false) < len(code), "a jump past the end"
    assert code[-1][0] == 0x06


HEADERS = {
    "x86_64": "#include <sys/syscall.h>\n",
    # What arm64's own header asks for before it includes the table that newer machines share.
    "aarch64": "#define __ARCH_WANT_NEW_STAT\n#define __ARCH_WANT_SET_GET_RLIMIT\n"
    "#define __ARCH_WANT_SYS_CLONE3\n#include <asm-generic/unistd.h>\n",
}


@pytest.mark.parametrize("machine", MACHINES)
def test_numbers_agree_with_the_headers_where_they_are_installed(machine):
    if machine == "x86_64" and machine != syscalls.MACHINE:
        pytest.skip("needs this machine's own headers")
    command = ["g++", "-E", "-dM", "-x", "c", "-"]
    try:
        done = subprocess.run(
            command, input=HEADERS[machine], capture_output=True, text=True, timeout=20
        )
    except OSError:
        pytest.skip("no compiler")
    found = dict(re.findall(r"#define __NR_(\w+) (\w+)\b", done.stdout))
    if sys.platform != "linux" or not found:
        pytest.skip("no kernel headers")
    ours = syscall_table.numbers(machine)
    wrong = {
        name: (number, found[name])
        for name, number in ours.items()
        # A few are given by another name, for both widths of a word.
        if name in found and found[name].isdigit() and int(found[name]) != number
    }
    assert not wrong and len(set(found) & set(ours)) > 60


def filtered(body, **options):
    """The answer of `body` in a child under the filter alone."""

    def run():
        program = seccomp.build(**options)
        syscalls.control(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        program.install(os.getpid())
        return body()

    return in_child(run)


@needs_kernel
def test_the_kernel_takes_the_program_and_refuses_sockets_and_processes():
    def body():
        thread_ran = []
        thread = threading.Thread(target=lambda: thread_ran.append(True))
        thread.start()
        thread.join()
        return {
            "inet": refused(lambda: socket.socket(socket.AF_INET)),
            "inet6": refused(lambda: socket.socket(socket.AF_INET6)),
            "netlink": refused(lambda: socket.socket(16, socket.SOCK_RAW)),
            "fork": refused(os.fork),
            "posix_spawn": refused(lambda: os.posix_spawn("/bin/true", ["true"], {})),
            "exec": refused(lambda: os.execv("/bin/true", ["true"])),
            "kill parent": refused(lambda: os.kill(os.getppid(), 0)),
            "kill all": refused(lambda: os.kill(-1, 0)),
            "ptrace": refused(lambda: syscalls.call(_number("ptrace"), 16, os.getppid())),
            "memory files": refused(lambda: os.memfd_create("x")),
            "setpriority": refused(lambda: os.setpriority(os.PRIO_USER, 0, 5)),
            "threads": bool(thread_ran),
            "pair": not refused(socket.socketpair),
            "self": not refused(lambda: os.kill(os.getpid(), 0)),
        }

    answer = filtered(body)
    assert isinstance(answer, dict), answer
    assert all(answer.values()), answer


@needs_kernel
def test_the_kernel_refuses_locks_watches_and_shared_futexes_and_threads_still_join():
    def body():
        file = os.open(__file__, os.O_RDONLY)
        page = mmap.mmap(file, 4096, mmap.MAP_SHARED, mmap.PROT_READ)
        # The address of a page that can't be written: through numpy, which does not mind.
        address = np.frombuffer(page, np.uint8).ctypes.data
        lock = struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 5, 7, 0)
        joined = [threading.Thread(target=time.sleep, args=(0.01,)) for _ in range(8)]
        for thread in joined:
            thread.start()
        for thread in joined:
            thread.join()
        return {
            "flock": refused(lambda: fcntl.flock(file, fcntl.LOCK_SH)),
            "lock": refused(lambda: fcntl.fcntl(file, fcntl.F_SETLK, lock)),
            "query": refused(lambda: fcntl.fcntl(file, fcntl.F_GETLK, lock)),
            "lease": refused(lambda: fcntl.fcntl(file, 1024, 0)),
            "watch": refused(lambda: syscalls.call(_number("inotify_init1"), 0)),
            "wake": refused(lambda: syscalls.call(_number("futex"), address, 1, 1)),
            "requeue": refused(lambda: syscalls.call(_number("futex"), address, 3, 1)),
            "put out": refused(lambda: os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)),
            "in memory": refused(lambda: os.preadv(file, [bytearray(8)], 0, os.RWF_NOWAIT)),
            "flags": not refused(lambda: fcntl.fcntl(file, fcntl.F_GETFL)),
        }

    answer = filtered(body)
    assert isinstance(answer, dict), answer
    assert all(answer.values()), answer


def _number(name: str) -> int:
    return syscall_table.numbers(syscalls.MACHINE)[name]


@needs_kernel
def test_a_filtered_process_can_abort():
    pid = os.fork()
    if pid == 0:
        try:
            os.close(2)
            signal.signal(signal.SIGABRT, signal.SIG_DFL)
            syscalls.control(syscalls.PR_SET_NO_NEW_PRIVS, 1)
            seccomp.build().install(os.getpid())
            os.abort()
        finally:
            os._exit(3)
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGABRT


@needs_kernel
def test_with_processes_allowed_a_worker_starts_programs_but_no_name_spaces():
    def body():
        command = [sys.executable, "-c", "print(6 * 7)"]
        done = subprocess.run(command, capture_output=True, text=True)
        new_user = 0x10000000
        return [done.stdout, refused(lambda: syscalls.call(_number("unshare"), new_user))]

    assert filtered(body, allow_processes=True) == ["42\n", True]


@needs_kernel
@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs int 0x80")
def test_a_32_bit_call_kills_the_process():
    pid = os.fork()
    if pid == 0:
        try:
            syscalls.control(syscalls.PR_SET_NO_NEW_PRIVS, 1)
            seccomp.build().install(os.getpid())
            page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
            page.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")  # mov eax, 20; int 0x80; ret
            address = ctypes.addressof(ctypes.c_char.from_buffer(page))
            ctypes.CFUNCTYPE(ctypes.c_int)(address)()
        finally:
            os._exit(0)
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGSYS


NUMBA_UNDER_ALL_LAYERS = """
import os, sys, sysconfig, tempfile
import numba, numpy as np
from autograder.sandbox import confinement
from autograder.sandbox.probe import ProbeLimits
site = (sysconfig.get_paths()["purelib"],)
prepared = confinement.prepare(confinement.Confinement(ProbeLimits(cpu_seconds=60), reads=site))
folder = tempfile.mkdtemp()
os.chmod(folder, 0o777)
pid = os.fork()
if pid == 0:
    try:
        uid = 31998 if prepared.drops_uid else None
        environment = {**confinement.clean_environment(folder), "NUMBA_NUM_THREADS": "2"}
        confinement.apply(prepared, work=folder, uid=uid, environment=environment)
        @numba.njit(parallel=True)
        def total(x):
            s = 0.0
            for i in numba.prange(x.size):
                s += x[i]
            return s
        print(total(np.ones(1000)), numba.threading_layer(), flush=True)
    finally:
        os._exit(0)
os.waitpid(pid, 0)
os.rmdir(folder)
"""


@needs_kernel
def test_numba_compiles_and_runs_in_parallel_under_all_layers():
    pytest.importorskip("numba")
    package = str(Path(seccomp.__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": package, "OMP_NUM_THREADS": "1"}
    environment |= {"NUMBA_THREADING_LAYER": "workqueue", "NUMBA_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", NUMBA_UNDER_ALL_LAYERS],
        capture_output=True, text=True, timeout=120, env=environment,
    )  # fmt: skip
    assert done.stdout == "1000.0 workqueue\n", done.stderr
