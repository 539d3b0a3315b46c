# attacks: result: a header claims 2 GB of results
# expects: a result of 2,048 MB


def running_total(values):
    reply_raw(b"{}", payload=2 << 30)
