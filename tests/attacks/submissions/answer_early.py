# attacks: result: answers a call that was not made
# expects: answered a call that was not made


def running_total(values):
    reply_raw(b'{"head": {"id": "0123456789abcdef", "status": "ok"}, "value": true}')
