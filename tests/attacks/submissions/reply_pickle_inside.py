# attacks: result: a well-formed message whose array holds pickled objects
# expects: a malformed value

import pickle


def running_total(values):
    body = pickle.dumps({"score": 100})
    reply_json('{"a": ["object", [1]]}', len(body), body)
