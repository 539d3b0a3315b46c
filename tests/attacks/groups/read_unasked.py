# attacks: result: one rank sends at a time, and reads what came without asking, to keep its clock
# expects: did not finish

from tiny.ranks import FRAME, RECEIVE


def total(ranks, values):
    added, passing = values.copy(), values
    for _ in range(ranks.size - 1):
        if ranks.rank == 0:
            ranks.send(passing, ranks.next)
        ranks.ask(RECEIVE, ranks.previous, values.nbytes)
        ranks.exactly(FRAME.size)
        coming = np.frombuffer(ranks.exactly(values.nbytes))
        if ranks.rank != 0:
            ranks.send(passing, ranks.next)
        passing = coming
        added += passing
    return added
