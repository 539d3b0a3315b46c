# attacks: reports: 20,000 frames, each of which the grader would look up
# expects: so many frames


def running_total(values):
    name = __name__.replace(".", "/") + ".py"
    frame = '{"l": ["%s", {"i": "1"}, "f"]}' % name
    frames = '{"l": [%s]}' % ", ".join([frame] * 20_000)
    reply_json('{"d": [["message", "so many frames"], ["frames", %s]]}' % frames, status="error")


PADDING = "x" * 500_000
