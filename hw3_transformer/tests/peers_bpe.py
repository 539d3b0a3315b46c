"""The peer of task 3.1: BPE training that counts all pairs again for every merge.

Plain Python, one thread, no student code. Both sides get the words counted already, so only the
merging is compared.
"""

from __future__ import annotations

from collections import Counter

import numpy as np


def unpacked_words(data: np.ndarray, ends: np.ndarray, amounts: np.ndarray) -> dict[bytes, int]:
    """Words and how often each occurs. data: uint8, all words in a row; ends: where each ends."""
    raw, starts = data.tobytes(), [0, *ends.tolist()]
    spans = zip(starts, starts[1:], amounts.tolist(), strict=False)
    return {raw[start:end]: amount for start, end, amount in spans}


def recounted_merges(
    data: np.ndarray, ends: np.ndarray, amounts: np.ndarray, count: int
) -> list[list[int]]:
    """`learn_merges` of task 3.1 on packed words."""
    return [list(pair) for pair in recount(unpacked_words(data, ends, amounts), count)]


def recount(counts: dict[bytes, int], count: int) -> list[tuple[int, int]]:
    """`learn_merges` of task 3.1, with every pair of every word counted for every merge."""
    words = [(list(word), amount) for word, amount in counts.items()]
    merges: list[tuple[int, int]] = []
    while len(merges) < count:
        pairs: Counter[tuple[int, int]] = Counter()
        for ids, amount in words:
            for pair in zip(ids, ids[1:], strict=False):
                pairs[pair] += amount
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        made = 256 + len(merges)
        merges.append(best)
        for ids, _ in words:
            place = 0
            while place < len(ids) - 1:
                if (ids[place], ids[place + 1]) == best:
                    ids[place : place + 2] = [made]
                place += 1
    return merges
