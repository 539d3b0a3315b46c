# attacks: python: a list that never ends
# expects: no answer within 1.5 s|MemoryError|exited with status 70


class Endless(list):
    def __iter__(self):
        while True:
            yield 0.0


def running_total(values):
    return Endless([1.0])
