# attacks: result: a kind of value that names a method of the reader
# expects: an unknown kind of value


def running_total(values):
    reply_json('{"decode": [1, 2]}')
