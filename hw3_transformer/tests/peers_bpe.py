"""The peer of task 3.1: BPE training that counts all pairs again for every merge.

Plain Python, one thread, no student code. Both sides get the words counted already, so only the
merging is compared.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np


def unpacked_words(data: np.ndarray, ends: np.ndarray, amounts: np.ndarray) -> dict[bytes, int]:
    """Words and how often each occurs. data: uint8, all words in a row; ends: where each ends."""
    raw, starts = data.tobytes(), [0, *ends.tolist()]
    spans = zip(starts[:-1], starts[1:], amounts.tolist(), strict=True)
    return {raw[start:end]: amount for start, end, amount in spans}


def recounted_merges(
    data: np.ndarray, ends: np.ndarray, amounts: np.ndarray, count: int
) -> list[list[int]]:
    """`learn_merges` of task 3.1 on packed words."""
    return [list(pair) for pair in recount(unpacked_words(data, ends, amounts), count)]


def recount(counts: dict[bytes, int], count: int) -> list[tuple[int, int]]:
    """`learn_merges` of task 3.1, with every pair of every word counted for every merge."""
    words = [(list(word), times) for word, times in counts.items()]
    learned: list[tuple[int, int]] = []
    while len(learned) < count:
        seen: Counter[tuple[int, int]] = Counter()
        for ids, times in words:
            for neighbours in pairwise(ids):
                seen[neighbours] += times
        if not seen:
            break
        most = max(seen.values())
        best = min(pair for pair, times in seen.items() if times == most)
        for ids, _ in words:
            at = 0
            while at < len(ids) - 1:
                if (ids[at], ids[at + 1]) == best:
                    ids[at : at + 2] = [256 + len(learned)]
                at += 1
        learned.append(best)
    return learned
