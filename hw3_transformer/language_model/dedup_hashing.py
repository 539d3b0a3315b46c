"""Hashes that are the same in every process and on every machine. Given.

Python's own `hash` of a string is not: it is salted anew in each process, so that two workers
would not agree on what a duplicate is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def mix64(x: np.ndarray) -> np.ndarray:
    """Scramble uint64 numbers, one to one: each bit of the result depends on every bit of `x`.

    x: any shape, uint64. A new array of the same shape. This is the step of SplitMix64 (Steele,
    Lea and Flood, 2014).
    """
    with np.errstate(over="ignore"):  # products and sums are modulo 2**64
        z = np.asarray(x, np.uint64) + _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * _FIRST
        z = (z ^ (z >> np.uint64(27))) * _SECOND
        return z ^ (z >> np.uint64(31))


def word_values(words: Sequence[str]) -> np.ndarray:
    """(n,) uint64, one number for each word, the same for the same word everywhere."""
    return np.fromiter(map(_word_value, words), np.uint64, len(words))


@lru_cache(maxsize=1 << 18)
def _word_value(word: str) -> int:
    """BLAKE2b of a word's UTF-8, 64 bits of it; common words are looked up."""
    digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")
