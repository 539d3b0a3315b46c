# attacks: resources: waits for a lock that it holds
# expects: did not finish: no answer within 1.5 s in running_total

import threading


def running_total(values):
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()
