# attacks: result: right values, then an error of the switch that is caught
# expects: rank 0 sent 8 bytes to rank 1, which expects 16

from tiny.ranks import RECEIVE, SEND, honest_total


def total(ranks, values):
    added = honest_total(ranks, values)
    try:
        if ranks.rank == 0:
            ranks.ask(SEND, 1, 8, b"12345678")
        if ranks.rank == 1:
            ranks.wait(ranks.ask(RECEIVE, 0, 16))
    except RuntimeError:
        pass
    return added
