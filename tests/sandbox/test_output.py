"""What a worker printed before it answered is there when the answer is."""

from __future__ import annotations

import os

from autograder.sandbox.output import OutputReader


def test_a_look_at_the_text_waits_for_what_was_printed_before_it():
    """Whatever the reading thread is at: each line is there as soon as it was written."""
    reader = OutputReader(1 << 20, lambda: None, lambda: None)
    ends = [os.dup(fd) for fd in reader.write_fds]
    reader.start()
    try:
        for number in range(300):
            os.write(ends[number % 2], f"line {number}\n".encode())
            assert reader.text.endswith(f"line {number}\n")
    finally:
        for fd in ends:
            os.close(fd)
    assert reader.close().count("\n") == 300
