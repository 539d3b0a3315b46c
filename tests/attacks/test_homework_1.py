"""Tricks on homework 1 that give right values, or nearly, without the work: each loses its test."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from autograder.batch.grade import Grading, grade_files
from autograder.batch.mutants import reference_files
from autograder.course.assignment import load_assignment
from autograder.course.intake import Submission

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux only")
HOMEWORK = load_assignment(Path(__file__).parents[2] / "hw1_autodiff")

# trick -> test, words of its message, and (file, what the reference has, what stands there instead)
TRICKS = {
    "a walk that searches an array by numpy": (
        # On a busy machine the walk reaches the time limit before it can be compared.
        "test_the_walk_is_linear", "the walk is not linear|did not finish",
        [
            ("engine.py", "    visited = {id(root)}\n",
             "    visited, count = np.zeros(1 << 18, np.int64), 1\n    visited[0] = id(root)\n"),
            ("engine.py", "and id(candidate) not in visited:\n                visited.add(id(candidate))",
             "and not (visited[:count] == id(candidate)).any():\n"
             "                visited[count] = id(candidate)\n                count += 1"),
        ],
    ),
    "a dense gradient whose pages are not touched": (
        "test_memory_follows_the_rows_used", "MemoryError",
        [
            ("embedding.py",
             "        return cls(ordered[starts], np.add.reduceat(values[order], starts, axis=0), shape)",
             "        dense = np.zeros(shape, values.dtype)\n"
             "        np.add.at(dense, ids, values)\n"
             "        return cls(ordered[starts], dense[ordered[starts]], shape)"),
        ],
    ),
    "an AdamW that remembers its last move": (
        "test_speed_of_adamw", "a parameter is wrong",
        [
            ("optim.py", '            state["step"] += 1\n',
             '            decay = np.float32(1 - self.learning_rate * self.weight_decay)\n'
             '            if "move" in state:\n'
             '                parameter.data *= decay\n'
             '                parameter.data -= state["move"]\n'
             '                continue\n'
             '            before = parameter.data.copy()\n'
             '            state["step"] += 1\n'),
            ("optim.py", "            if not np.may_share_memory(flat, parameter.data):\n",
             '            state["move"] = before * decay - flat.reshape(parameter.shape)\n'
             "            if not np.may_share_memory(flat, parameter.data):\n"),
        ],
    ),
    "plain blocks that hold more than they need": (
        "test_eight_blocks_hold_a_quarter", "64 MB are allowed",
        [
            ("checkpoint.py", "    context.save(function, inputs, tuple(generators), states)\n",
             "    context.save(function, inputs, tuple(generators), states)\n"
             "    context.kept = np.ones(16 << 20, np.uint8)\n"),
            ("elementwise.py", '        return backend.map_array("gelu", x)\n',
             "        context.hoard = [x + place for place in range(9)]\n"
             '        return backend.map_array("gelu", x)\n'),
        ],
    ),
}  # fmt: skip


def tricked(changes: list[tuple[str, str, str]]) -> Submission:
    """The reference with the changes."""
    files = reference_files(HOMEWORK)
    for name, old, new in changes:
        text = files[f"autodiff/{name}"].decode()
        assert text.count(old) == 1, f"{name} has no {old!r}"
        files[f"autodiff/{name}"] = text.replace(old, new).encode()
    return Submission(files, [])


@pytest.mark.parametrize("trick", TRICKS)
def test_a_trick_earns_nothing(trick):
    test, words, changes = TRICKS[trick]
    graded = grade_files(HOMEWORK, tricked(changes), None, Grading(expression=test))
    (outcome,) = graded.report.tests()
    assert (outcome.points, outcome.state) == (0, "failed")
    assert re.search(words, f"{outcome.exception} {outcome.message}"), outcome.message
