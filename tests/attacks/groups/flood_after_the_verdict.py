# attacks: resources: lengths that do not match, then frames that each want an answer, none read
# expects: rank 0 sent 4 bytes to rank 1, which expects 8

from tiny.ranks import FRAME, RECEIVE, SEND, WAIT, flood


def total(ranks, values):
    if ranks.rank == 0:
        ranks.ask(SEND, 1, 4, b"1234")
        time.sleep(0.1)
        flood(ranks, FRAME.pack(WAIT, -1, 0, 1 << 40, 0) * 20_000)
    if ranks.rank == 1:
        ranks.ask(RECEIVE, 0, 8)
        time.sleep(0.1)
    time.sleep(0.5)
    return np.zeros_like(values)
