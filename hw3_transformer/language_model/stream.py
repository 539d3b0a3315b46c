"""Task 3.2: a corpus larger than memory, read in an order that any number of ranks agree on."""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from language_model.dedup_hashing import mix64
from language_model.packing import Row
from language_model.stream_format import KINDS, CorpusError, read_manifest

ROUNDS = 6
"""Of the Feistel network."""

SMALL = 256
"""Up to this size an order is a table."""

FAULT_BYTES = 2 << 20
"""What one page fault may map, around the address: kernels keep files in pages of up to 2 MB."""

MAPPED_SHARDS = 12
"""How many shards are mapped at once; each mapping keeps a file open."""


class Permutation:
    """A random order of range(size) that takes no memory: a Feistel network with cycle walking.

    Numbers of 2k bits are split into halves, (left, right) -> (right, left ^ f(right)), ROUNDS
    times, with a random function f for each round: one to one, whatever f is (Luby and Rackoff,
    1988). Where 2**(2k) > size, a result that is too large goes in again until it is not, which is
    one to one as well (Black and Rogaway, 2002). On a few bits the result would be far from random,
    and walking long: up to SMALL, a table of all indices sorted by random keys does it.

    The same size, seed and epoch give the same order everywhere, and another seed or epoch another:
    seed 1 in epoch 0 is not seed 0 in epoch 1. size ≥ 0, below 2**62; seed and epoch ≥ 0.
    """

    def __init__(self, size: int, seed: int = 0, epoch: int = 0) -> None:
        raise NotImplementedError("task 3.2: Permutation.__init__")

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """What stands at `positions`, any shape of integers: int64 indices of the same shape.

        Raises IndexError for a position outside range(size).
        """
        raise NotImplementedError("task 3.2: Permutation.__call__")

    def _scramble(self, x: np.ndarray) -> np.ndarray:
        """The network alone, uint64 to uint64. A helper you may use, or leave."""
        raise NotImplementedError("task 3.2: Permutation._scramble")


class Corpus:
    """A corpus as `stream_format` writes it, memory-mapped: opened at once, whatever its size.

    Opening reads the manifest and compares every file's size with it, no more. Raises CorpusError,
    naming the file, where one is missing or of another size. Afterwards any sample can be had by
    its index, in the order of writing, at the same cost.

    Pages that were read stay mapped and count as this process's memory until they are given back,
    and one page fault may map FAULT_BYTES; about `mapped_bytes` may be mapped at once. At most
    MAPPED_SHARDS shards are, for each mapping keeps a file open.
    """

    def __init__(self, folder: str | os.PathLike[str], mapped_bytes: int = 32 << 20) -> None:
        raise NotImplementedError("task 3.2: Corpus.__init__")

    def __len__(self) -> int:
        """The number of samples."""
        raise NotImplementedError("task 3.2: Corpus.__len__")

    def __getitem__(self, index: int) -> Row:
        """Sample `index`: the token ids of its documents, each (length,) in the stored dtype.

        They are copies, so that no mapping stays alive by them. A document may be empty. Raises
        IndexError outside of range(len(self)).
        """
        raise NotImplementedError("task 3.2: Corpus.__getitem__")

    def verify(self) -> Iterator[str]:
        """Read every file once, in pieces, and compare its checksum; yields the names on the way.

        Raises CorpusError, naming the file, at the first that was changed. Memory does not grow
        with the files.
        """
        raise NotImplementedError("task 3.2: Corpus.verify")

    def _shard(self, number: int) -> list[np.ndarray]:
        """Tokens, documents and samples of a shard, mapped. A helper you may use, or leave."""
        raise NotImplementedError("task 3.2: Corpus._shard")

    def _give_back(self) -> None:
        """Give back the pages that were read. A helper you may use, or leave."""
        raise NotImplementedError("task 3.2: Corpus._give_back")


class TokenStream:
    """Batches of samples, epoch after epoch, each in a new order; one object on each rank.

    Step s of an epoch takes the samples at positions s * batch_size to (s + 1) * batch_size of the
    epoch's `Permutation(len(corpus), seed, epoch)`, fewer in the last step. This global batch does
    not depend on the number of ranks: they share it in consecutive slices whose lengths differ by
    at most one, longer ones first. So a rank's slice may be empty, but all ranks take equally many
    steps, as collective operations need.

    Attributes: epoch and step, of the batch that comes next. Raises ValueError for an empty corpus,
    batch_size < 1, or a rank outside of range(world_size).
    """

    def __init__(
        self, corpus: Corpus, batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        raise NotImplementedError("task 3.2: TokenStream.__init__")

    @property
    def steps_per_epoch(self) -> int:
        """How many batches an epoch has, the last and perhaps smaller one included."""
        raise NotImplementedError("task 3.2: TokenStream.steps_per_epoch")

    def indices(self, epoch: int, step: int) -> np.ndarray:
        """(n,) int64, this rank's samples of that step; IndexError if there is no such step."""
        raise NotImplementedError("task 3.2: TokenStream.indices")

    def __iter__(self) -> TokenStream:
        """Itself: it never ends."""
        return self

    def __next__(self) -> list[Row]:
        """This rank's samples of the next step, each a list of documents."""
        raise NotImplementedError("task 3.2: TokenStream.__next__")

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers from which another object, on any rank of any number, can go on.

        Keys: seed, epoch, step, batch_size, corpus (the manifest's fingerprint). Nothing in it
        grows, and nothing depends on rank or world_size.
        """
        raise NotImplementedError("task 3.2: TokenStream.state_dict")

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken: the seed is the state's, rank and world_size are ours.

        Raises ValueError, naming the key and changing nothing, if the batch size or the corpus is
        another one: the steps would mean other samples.
        """
        raise NotImplementedError("task 3.2: TokenStream.load_state_dict")
