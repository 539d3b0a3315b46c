# attacks: resources: takes 40 GB in small pieces
# expects: MemoryError|exited with status 70|SIGABRT|did not finish


def running_total(values):
    kept = []
    while len(kept) < 40_000:
        kept.append(np.ones(2**17))
    return values
