# attacks: result: NaN where a number of bytes belongs
# expects: an unreadable header


def running_total(values):
    reply_json('{"b": NaN}')
