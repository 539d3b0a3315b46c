# attacks: python: a promise instead of a result
# expects: can't be returned here


class Lazy:
    def __init__(self, values):
        self.values = values

    def numpy(self):
        return np.cumsum(self.values)

    def __getattr__(self, name):
        return getattr(np.cumsum(self.values), name)


def running_total(values):
    return Lazy(values)
