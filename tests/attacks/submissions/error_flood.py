# attacks: resources: 10 GB to descriptor 2, from a thread, after the answer was given
# expects: printed more than 64 kB

import threading


def flood():
    while True:
        os.write(2, b"x" * 65536)


def running_total(values):
    threading.Thread(target=flood, daemon=True).start()
    time.sleep(60)
