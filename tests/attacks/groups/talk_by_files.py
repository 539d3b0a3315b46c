# attacks: result: ranks tell each other numbers past the switch, by a file that each may only read
# attempts: 16

import fcntl
import mmap


def total(ranks, values):
    file = os.open(__file__, os.O_RDONLY)
    lock = struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 1234567, 89, 0)
    page = mmap.mmap(file, 0, mmap.MAP_SHARED, mmap.PROT_READ)
    address = np.frombuffer(page, np.uint8).ctypes.data
    attempt("lock", lambda: fcntl.fcntl(file, fcntl.F_SETLK, lock))
    attempt("where", lambda: fcntl.fcntl(file, fcntl.F_GETLK, lock))
    attempt("wait", lambda: fcntl.fcntl(file, fcntl.F_SETLKW, lock))
    attempt("lock of the open file", lambda: fcntl.fcntl(file, 37, lock))
    attempt("lockf", lambda: fcntl.lockf(file, fcntl.LOCK_SH))
    attempt("flock", lambda: fcntl.flock(file, fcntl.LOCK_SH))
    attempt("lease", lambda: fcntl.fcntl(file, 1024, fcntl.F_RDLCK))
    attempt("watch", lambda: system_call(294, 26, 0))
    attempt("futex", lambda: system_call(202, 98, address, 1, 1))
    attempt("futex by bits", lambda: system_call(202, 98, address, 10, 1, 0, 0, -1))
    attempt("new futex", lambda: system_call(454, 454, address, -1, 1, 2))
    attempt("put out", lambda: os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED))
    attempt("in memory", lambda: os.preadv(file, [bytearray(8)], 0, os.RWF_NOWAIT))
    attempt("pages", lambda: system_call(451, 451, file, address, address, 0))
    attempt("shared memory", lambda: system_call(29, 194, 4711, 4096, 0o1666))
    attempt("pipe in a folder", lambda: os.mkfifo(os.path.join(os.path.dirname(__file__), "pipe")))
    confess()
