# attacks: python: an array that a thread changes between comparisons
# expects: wrong in

import threading


def running_total(values):
    result = np.full(values.size, 7.0)

    def change():
        while True:
            result[:] = np.cumsum(values)
            result[:] = 7.0

    threading.Thread(target=change, daemon=True).start()
    result[:] = 7.0
    return np.where(np.arange(values.size) == 0, 7.0, result)
