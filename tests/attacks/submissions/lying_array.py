# attacks: python: an object that claims to be whatever is expected of it
# expects: can't be returned here|wrong in


class Liar:
    __class__ = np.ndarray
    dtype, shape, size, ndim = np.dtype(float), (5,), 5, 1

    def __array__(self, *_, **__):
        return np.full(5, 7.0)

    def __eq__(self, other):
        return True


def running_total(values):
    return Liar()
