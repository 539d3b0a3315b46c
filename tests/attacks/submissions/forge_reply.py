# attacks: result: finds channel and call id by walking frames, and answers by itself
# expects: every entry is 0

from autograder.sandbox import wire


def running_total(values):
    wire.send(channel(), {"id": call_id(), "status": "ok"}, np.zeros(values.size))
    return np.cumsum(values)
