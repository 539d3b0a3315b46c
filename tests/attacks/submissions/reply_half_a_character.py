# attacks: reports: text that no encoding can write
# expects: the worker's answer is a text with half a character


def running_total(values):
    message = '["message", "half a \\ud800 character"]'
    reply_json('{"d": [["type", "\\udc80"], %s]}' % message, status="error")
