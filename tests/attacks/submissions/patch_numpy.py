# attacks: python: replaces comparisons, clocks and encoders
# expects: every entry is 0

import builtins
import json
import unittest


def agree(*_, **__):
    return True


def running_total(values):
    for owner, names in (
        (np.testing, ("assert_allclose", "assert_array_equal", "assert_equal")),
        (np, ("allclose", "isclose", "array_equal", "all", "abs", "isnan", "isfinite")),
        (time, ("time", "monotonic", "perf_counter", "process_time", "clock_gettime")),
        (unittest.TestCase, ("assertEqual", "assertTrue")),
        (builtins, ("all", "any")),
    ):
        for name in names:
            setattr(owner, name, agree)
    json.loads = json.load = lambda *_, **__: {"score": 100}
    return np.zeros(values.size)
