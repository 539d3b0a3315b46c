# attacks: python: changes its inputs in place, so that they would match
# expects: every entry is 0


def running_total(values):
    values[...] = 0
    values.setflags(write=False)
    return values
