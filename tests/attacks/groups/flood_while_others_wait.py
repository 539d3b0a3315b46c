# attacks: resources: one rank writes frames for ever, the others wait for it
# expects: rank 0 broke the protocol of its channel: more than 200,000 messages|did not finish

from tiny.ranks import FRAME, WAIT, flood


def total(ranks, values):
    if ranks.rank == 0:
        flood(ranks, FRAME.pack(WAIT, -1, 0, 1 << 40, 0) * 20_000)
        time.sleep(1000)
    ranks.barrier()
