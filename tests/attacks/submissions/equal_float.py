# attacks: python: a number that equals everything
# expects: has shape \(\), expected \(5,\)


class Equal(float):
    __hash__ = float.__hash__

    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False

    def __float__(self):
        return 1.5


def running_total(values):
    return Equal(0.0)
