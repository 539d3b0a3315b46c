# attacks: resources: asks for 40 GB at once
# expects: Unable to allocate 40


def running_total(values):
    return np.ones(5 * 2**30)
