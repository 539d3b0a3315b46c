# attacks: resources: a thread writes frames for ever once the driver has returned
# expects: sum on rank 0|goes on sending|more than 200,000 messages

from tiny.ranks import FRAME, WAIT, flood


def total(ranks, values):
    flood(ranks, FRAME.pack(WAIT, -1, 0, 1 << 40, 0) * 20_000)
    return np.zeros_like(values)
