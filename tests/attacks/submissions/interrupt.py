# attacks: result: raises KeyboardInterrupt, which would stop a test runner
# expects: KeyboardInterrupt


def running_total(values):
    raise KeyboardInterrupt
