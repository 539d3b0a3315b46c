# attacks: resources: answers wrongly at once and goes on computing in a thread
# expects: every entry is 0

import threading


def spin():
    while True:
        pass


def running_total(values):
    threading.Thread(target=spin, daemon=True).start()
    return np.zeros(values.size)
