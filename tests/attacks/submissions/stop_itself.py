# attacks: resources: stops itself instead of ending
# expects: did not finish: no answer within 1.5 s

import signal


def running_total(values):
    os.kill(os.getpid(), signal.SIGSTOP)
