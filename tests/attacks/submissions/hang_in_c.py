# attacks: python: blocks in C, holding the interpreter's lock, deaf to signals
# expects: did not finish: no answer within 1.5 s

import signal


def running_total(values):
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    return sum(range(10**14))
