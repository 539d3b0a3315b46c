# attacks: result: an array of negative size
# expects: a malformed shape


def running_total(values):
    reply_json('{"a": ["float64", [-1]]}')
