# attacks: result: more bytes than the header describes
# expects: more bytes than the header describes


def running_total(values):
    reply_json('{"a": ["float64", [1]]}', 16, bytes(16))
