# attacks: reports: text that no encoding can write
# expects: the worker's answer is a text with half a character


def running_total(values):
    reply_json('{"d": [["type", "\\udc80"], ["message", "half a \\ud800 character"]]}', status="error")
