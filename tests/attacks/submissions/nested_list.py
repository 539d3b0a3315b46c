# attacks: python: a list nested 100,000 deep
# expects: nested more than 32 deep


def running_total(values):
    result = []
    for _ in range(100_000):
        result = [result]
    return result
