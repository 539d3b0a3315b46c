# attacks: reports: an error report of impossible parts
# expects: every part is odd


def running_total(values):
    frame = '{"l": ["%s", {"i": "1"}, "f"]}'
    frames = '{"l": [%s, %s]}' % (frame % "a\\u0000b", frame % ("x" * 9000))
    parts = '["type", {"l": []}], ["bases", true], ["message", "every part is odd"]'
    reply_json('{"d": [%s, ["frames", %s]]}' % (parts, frames), status="error")
