# attacks: result: a ring in which one rank sends at a time, as long as all messages together
# expects: 6 messages came one after the other


def total(ranks, values):
    added, passing = values.copy(), values
    for _ in range(ranks.size - 1):
        if ranks.rank == 0:
            ranks.send(passing, ranks.next)
        coming = ranks.receive(len(values), ranks.previous)
        if ranks.rank != 0:
            ranks.send(passing, ranks.next)
        passing = coming
        added += passing
    return added
