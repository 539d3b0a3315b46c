# attacks: resources: aborts
# expects: SIGABRT \(signal 6\) in running_total


def running_total(values):
    os.abort()
