# attacks: reports: an error report whose frames are an array
# expects: its frames are an array


def running_total(values):
    reply_json(
        '{"d": [["message", "its frames are an array"], ["frames", {"a": ["float64", [2]]}]]}',
        16, bytes(16), status="error",
    )
