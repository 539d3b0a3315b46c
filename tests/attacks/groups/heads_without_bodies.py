# attacks: resources: heads that promise 100 MB each, of every rank, so that the grader makes room
# expects: did not finish|not yet received

from tiny.ranks import SEND


def total(ranks, values):
    ranks.ask(SEND, ranks.next, 100 << 20, b"a beginning")
    time.sleep(1000)
