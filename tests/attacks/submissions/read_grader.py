# attacks: result: reads or traces the grader's memory, environment, descriptors, command line
# attempts: 11
# undefended: cmdline: DONE


def attach():
    return system_call(101, 117, 16, os.getppid(), 0, 0)


def vm_read():
    return system_call(310, 270, os.getppid(), 0, 0, 0, 0, 0)


def running_total(values):
    parent = os.getppid()
    for name in ("mem", "environ", "cmdline", "maps", "stat", "root/etc/hostname"):
        attempt(name, lambda name=name: open(f"/proc/{parent}/{name}", "rb").read(64))
    attempt("fd", lambda: os.listdir(f"/proc/{parent}/fd"))
    attempt("list", lambda: os.listdir("/proc"))
    attempt("ptrace", attach)
    attempt("process_vm_readv", vm_read)
    attempt("pidfd_getfd", lambda: system_call(438, 438, os.pidfd_open(parent), 0, 0))
    confess()
