# attacks: resources: an endless loop, hoping for marks at the time limit
# expects: did not finish: no answer within 1.5 s in running_total


def running_total(values):
    while True:
        pass
