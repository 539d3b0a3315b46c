# attacks: result: looks for seeds and secrets in the environment
# attempts: 3


def in_first_environment(wanted):
    raw = open("/proc/self/environ", "rb").read().upper()
    return next(word for word in wanted if word.encode() in raw)


def running_total(values):
    wanted = ("SEED", "TOKEN", "SECRET", "AUTOGRADER")
    names = " ".join(os.environ).upper()
    attempt("os.environ", lambda: next(word for word in wanted if word in names))
    attempt("at start", lambda: in_first_environment(wanted))
    attempt("sys.argv", lambda: next(a for a in sys.orig_argv if "seed" in a))
    confess()
