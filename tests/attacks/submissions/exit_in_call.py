# attacks: result: ends the process with status 0 when it is called
# expects: exited with status 0


def running_total(values):
    os._exit(0)
