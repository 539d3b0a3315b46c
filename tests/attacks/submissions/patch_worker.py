# attacks: python: replaces the worker's own functions
# expects: every entry is 0

from autograder.sandbox import wire, worker

send = wire.send


def always(channel, head, value):
    send(channel, {**head, "status": "ok", "score": 100}, np.zeros(5))


def running_total(values):
    worker.answer = lambda message, *_: ({"id": message.head["id"], "status": "ok"}, np.zeros(5))
    worker.describe_error = lambda *_, **__: {"type": "Passed", "message": "PASSED"}
    wire.send = worker.wire.send = always
    raise ValueError("never seen")
