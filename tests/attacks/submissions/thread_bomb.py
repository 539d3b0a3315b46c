# attacks: resources: threads without end
# expects: no thread after \d+

import threading


def running_total(values):
    count = 0
    try:
        while True:
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
            count += 1
    except RuntimeError:
        raise RuntimeError(f"no thread after {count}") from None
