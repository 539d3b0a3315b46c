# attacks: result: right values, and a message that nobody receives
# expects: rank 0 sent 40 bytes to rank 1, which never received them|rank 0 sent 32 bytes

from tiny.ranks import honest_total


def total(ranks, values):
    added = honest_total(ranks, values)
    if ranks.rank == 0:
        ranks.send(values, 1)
    return added
