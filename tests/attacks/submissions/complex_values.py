# attacks: python: values of a kind that comparisons mishandle
# expects: complex128 can't be returned


def running_total(values):
    return np.cumsum(values) + 0j
