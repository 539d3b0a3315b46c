# attacks: result: replies with a pickle
# expects: not a message

import pickle


class Payload:
    def __reduce__(self):
        return (open, ("LEFTOVER", "w"))


def running_total(values):
    channel().sendall(pickle.dumps(Payload()) * 2)
    time.sleep(60)
