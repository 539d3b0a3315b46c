"""Task 5.11, hidden: refused adapters change nothing; more tokens, equal names, copies."""

from __future__ import annotations

import drivers_versions as drivers
import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight
from versions_cases import drawn_adapters, merged_answers

from autograder.testing import assert_close, assert_equal, stands_alone


@number("5.11")
@weight(0.5)
@stands_alone
def test_a_refused_adapter_changes_nothing(student, rng):
    """Shapes that do not fit, a name twice, an unknown one: an error, and the slots as before."""
    events = [["load", "a", 2, 3, 1.0], ["load", "b", 2, 4, 1.0], ["load", "a", 2, 3, 5.0],
              ["acquire", "b"], ["remove", "b"], ["release", 0], ["release", 1],
              ["acquire", "a"], ["remove", "a"], ["load", "a", 1, 3, 7.0], ["acquire", "a"],
              ["release", 0]]  # fmt: skip
    got = student.run(drivers.bank_story, events=events, slots=2, wide=3, tall=4)
    wanted = [0, "ValueError", "ValueError", "KeyError", "KeyError", "ValueError", "ValueError", 0, None,
              1, 1, None]  # fmt: skip
    assert_equal([entry["got"] for entry in got], wanted, name="the answers")
    assert_equal([entry["names"] for entry in got], [["a", ""]] * 9 + [["a", "a"]] * 2 + [["", "a"]],
                 name="the slots", hint="a leaving adapter's name may be loaded anew")  # fmt: skip
    first, second = 2 * 3 * 2.0, 3 * 7 * 2.0
    sums = [[first, 0]] * 9 + [[first, second]] * 2 + [[0, second]]
    for entry, wanted_sums in zip(got, sums, strict=True):
        assert_close(entry["sums"][:, 0], np.float32(wanted_sums), rtol=1e-6, name="the updates")


@number("5.11")
@weight(0.25)
@stands_alone
def test_a_prefill_beside_decodes(student, rng):
    """One request with 200 tokens among 20 with one; all without adapters; one for all."""
    weights, adapters = rng.standard_normal((12, 10)).astype(np.float32), drawn_adapters(rng, 21, 10, 12)
    x = rng.standard_normal((220, 10)).astype(np.float32)
    for slots in (np.concatenate([np.arange(10), np.full(200, 20), np.arange(10, 20)]),
                  np.full(220, -1), np.full(220, 7), np.arange(220)[::-1] % 22 - 1):  # fmt: skip
        slots = np.ascontiguousarray(slots, dtype=np.int64)
        got = student.run(drivers.batch_of_adapters, weight=weights, adapters=adapters, x=x, slots=slots)
        # Sums below 1000 in float32, of ≤ 18 terms.
        assert_close(got, merged_answers(weights, adapters, x, slots), rtol=1e-3, atol=1e-3,
                     name=f"slots {slots[:3]} …")  # fmt: skip
