# attacks: result: a thread ends the process with status 0
# expects: exited with status 0

import threading


def leave():
    time.sleep(0.05)
    os._exit(0)


def running_total(values):
    threading.Thread(target=leave).start()
    while True:
        time.sleep(1)
