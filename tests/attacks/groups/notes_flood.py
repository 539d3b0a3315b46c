# attacks: reports: notes by the thousand, with what breaks a page or a terminal
# expects: rank 0 broke the protocol of its channel: more than 5,000 notes

from tiny.ranks import NOTE, honest_total


def total(ranks, values):
    added = honest_total(ranks, values)
    text = b"<script>alert(1)</script>\x1b[31m" + b"x" * 900
    for _ in range(6_000 if ranks.rank == 0 else 0):
        ranks.ask(NOTE, -1, len(text), text)
    ranks.barrier()
    return added
