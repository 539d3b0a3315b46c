# attacks: python: a regular expression that backtracks for ever
# expects: did not finish: no answer within 1.5 s in running_total

import re


def running_total(values):
    return re.match(r"(a+)+$", "a" * 64 + "b")
