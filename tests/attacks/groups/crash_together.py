# attacks: result: all ranks end their processes at the same moment
# expects: exited with status 3


def total(ranks, values):
    ranks.barrier()
    os._exit(3)
