# attacks: resources: recursion without end
# expects: RecursionError


def running_total(values):
    return running_total(values)
