# attacks: reports: an exception with 100 MB of text
# expects: RuntimeError: xxxx


def running_total(values):
    raise RuntimeError("x" * (100 << 20))
