# attacks: result: all ranks reach their time limit at the same moment
# expects: did not finish: no answer within 1.5 s in total


def total(ranks, values):
    ranks.barrier()
    time.sleep(1000)
