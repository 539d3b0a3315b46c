# attacks: resources: memory that no address space shows, in anonymous files
# attempts: 2
# undefended: DONE


def running_total(values):
    attempt("memfd_create", lambda: os.memfd_create("hoard"))
    attempt("memfd_secret", lambda: system_call(447, 447, 0))
    confess()
