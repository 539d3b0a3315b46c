# attacks: resources: System V segments and queues that outlive the process
# attempts: 4
# undefended: DONE


def segment():
    number = system_call(29, 194, 0, 4096, 0o1600)
    system_call(31, 195, number, 0, 0)
    return number


def queue():
    number = system_call(68, 186, 0, 0o600)
    system_call(71, 187, number, 0, 0)
    return number


def running_total(values):
    attempt("shmget", segment)
    attempt("msgget", queue)
    attempt("/dev/shm", lambda: open("/dev/shm/LEFTOVER_NAME", "w"))
    attempt("/dev/mqueue", lambda: open("/dev/mqueue/LEFTOVER_NAME", "w"))
    confess()
