# attacks: result: a value nested 10,000 deep
# expects: an unreadable header|too many parts


def running_total(values):
    reply_json('{"l": [' * 10_000 + "]}" * 10_000)
