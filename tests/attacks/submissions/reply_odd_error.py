# attacks: reports: an error report of impossible parts
# expects: every part is odd


def running_total(values):
    frames = '{"l": [{"l": ["a\\u0000b", {"i": "1"}, "f"]}, {"l": ["%s", {"i": "1"}, "f"]}]}' % ("x" * 9000)
    reply_json(
        '{"d": [["type", {"l": []}], ["bases", true], ["message", "every part is odd"], ["frames", %s]]}'
        % frames,
        status="error",
    )
