# attacks: resources: messages to itself, received at once by the switch, never read
# expects: rank 0 broke the protocol of its channel: a message to itself

from tiny.ranks import RECEIVE, SEND, honest_total


def total(ranks, values):
    added = honest_total(ranks, values)
    if ranks.rank == 0:
        ranks.ask(RECEIVE, 0, 1 << 20)
        ranks.ask(SEND, 0, 1 << 20, bytes(1 << 20))
    ranks.barrier()
    return added
