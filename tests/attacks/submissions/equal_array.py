# attacks: python: an array that equals everything
# expects: wrong in


class Equal(np.ndarray):
    def __eq__(self, other):
        return np.True_

    def __ne__(self, other):
        return np.False_

    def __sub__(self, other):
        return np.zeros(self.shape)

    __rsub__ = __sub__

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        return np.ones(self.shape, bool)

    def __array_function__(self, function, types, arguments, options):
        return True


def running_total(values):
    return np.full(values.size, 7.0).view(Equal)
