"""Real data for task 1.13, read by the trusted side; workers get arrays."""

from __future__ import annotations

import functools

import numpy as np

CONTEXT = 32
HELD_OUT_BYTES = 65_536
HELD_OUT_DIGITS = 360


@functools.cache
def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images and labels to train on, then 360 to test on, by a fixed split."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images, labels = (images / 16.0).astype(np.float32), labels.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(images))
    test, train = order[:HELD_OUT_DIGITS], order[HELD_OUT_DIGITS:]
    return images[train], labels[train], images[test], labels[test]


@functools.cache
def held_out_text() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Text to train on, then contexts (n, 32) from its end with the byte (n,) that follows each.

    The contexts do not overlap, so none shows what follows another. The text is that of the
    standard library: a score does not depend on what was fetched.
    """
    from pydoc_data import topics

    joined = "\n".join(topics.topics[name] for name in sorted(topics.topics)).encode()
    text = np.frombuffer(joined, np.uint8)
    train, rest = text[:-HELD_OUT_BYTES], text[-HELD_OUT_BYTES:]
    count = len(rest) // (CONTEXT + 1)
    windows = rest[: count * (CONTEXT + 1)].reshape(count, CONTEXT + 1)
    return train, windows[:, :-1].copy(), windows[:, -1].astype(np.int64)
