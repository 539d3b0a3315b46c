# attacks: resources: forks until nothing is left
# expects: refused to fork
# undefended: BlockingIOError|did not finish


def running_total(values):
    parent = os.getpid()
    try:
        for _ in range(100_000):
            os.fork()
    except OSError as error:
        while os.getpid() != parent:
            time.sleep(1)
        raise RuntimeError(f"refused to fork: {type(error).__name__}") from None
