# attacks: python: a number of 4,000 digits
# expects: malformed integer|can't be returned here


def running_total(values):
    return 10**4000
