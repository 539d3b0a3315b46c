# attacks: python: NaN, which no comparison calls wrong
# expects: every wrong entry is NaN


def running_total(values):
    return np.full(values.size, np.nan)
