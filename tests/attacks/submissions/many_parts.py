# attacks: python: a list of so many parts that reading it would take the grader long
# expects: too many parts


def running_total(values):
    return [True] * 1_000_000
