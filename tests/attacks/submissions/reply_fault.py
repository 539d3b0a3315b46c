# attacks: result: claims that confinement failed, a fault of the grader
# expects: error report is malformed|answered a call


def running_total(values):
    reply_json('"no room"', status="unconfined")
