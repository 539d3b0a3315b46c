# attacks: resources: lifts the recursion limit and overruns the stack
# expects: SIGSEGV|RecursionError


class Deep:
    def __repr__(self):
        return repr(self)


def running_total(values):
    sys.setrecursionlimit(10**9)
    return repr(Deep())
