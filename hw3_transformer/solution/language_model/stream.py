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
        # BEGIN SOLUTION 3.2
        self.size = size
        self._half = np.uint64((max(size - 1, 1).bit_length() + 1) // 2)
        self._mask = np.uint64((1 << int(self._half)) - 1)
        self._keys = np.random.SeedSequence([seed, epoch]).generate_state(ROUNDS, np.uint64)
        self._table: np.ndarray | None = None
        if size <= SMALL:
            scores = mix64(mix64(np.arange(size, dtype=np.uint64) ^ self._keys[0]) ^ self._keys[1])
            self._table = np.argsort(scores, kind="stable").astype(np.int64)
        # END SOLUTION

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """What stands at `positions`, any shape of integers: int64 indices of the same shape.

        Raises IndexError for a position outside range(size).
        """
        # BEGIN SOLUTION 3.2
        positions = np.asarray(positions, np.int64)
        if positions.size and not (0 <= positions.min() and positions.max() < self.size):
            raise IndexError(f"a position is outside of range({self.size})")
        if self._table is not None:
            return self._table[positions]
        result = self._scramble(positions.astype(np.uint64).ravel())
        limit = np.uint64(self.size)
        outside = np.flatnonzero(result >= limit)
        while len(outside):
            result[outside] = self._scramble(result[outside])
            outside = outside[result[outside] >= limit]
        return result.astype(np.int64).reshape(positions.shape)
        # END SOLUTION

    def _scramble(self, x: np.ndarray) -> np.ndarray:
        """The network alone, uint64 to uint64. A helper you may use, or leave."""
        # BEGIN SOLUTION 3.2
        left, right = x >> self._half, x & self._mask
        for key in self._keys:
            left, right = right, left ^ (mix64(right ^ key) & self._mask)
        return (left << self._half) | right
        # END SOLUTION


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
        # BEGIN SOLUTION 3.2
        self.folder = Path(folder)
        self.manifest = read_manifest(folder)
        self.mapped_bytes = mapped_bytes
        for shard in self.manifest.shards:
            for entry in shard.files.values():
                path = self.folder / entry.name
                if not path.is_file():
                    raise CorpusError(f"{path} is missing")
                if path.stat().st_size != entry.size:
                    size = path.stat().st_size
                    raise CorpusError(f"{path} has {size} bytes, in the manifest {entry.size}")
        samples = [shard.samples for shard in self.manifest.shards]
        self._ends = np.cumsum(samples, dtype=np.int64)
        self._maps: dict[int, list[np.ndarray]] = {}  # in the order of use
        self._touched = 0
        # END SOLUTION

    def __len__(self) -> int:
        """The number of samples."""
        # BEGIN SOLUTION 3.2
        return self.manifest.samples
        # END SOLUTION

    def __getitem__(self, index: int) -> Row:
        """Sample `index`: the token ids of its documents, each (length,) in the stored dtype.

        They are copies, so that no mapping stays alive by them. A document may be empty. Raises
        IndexError outside of range(len(self)).
        """
        # BEGIN SOLUTION 3.2
        if not 0 <= index < len(self):
            raise IndexError(f"there is no sample {index} in a corpus of {len(self)}")
        number = int(np.searchsorted(self._ends, index, side="right"))
        arrays = self._shard(number)
        tokens, documents, samples = arrays
        place = index - int(self._ends[number]) + self.manifest.shards[number].samples
        first, last = samples[place : place + 2].tolist()
        starts = documents[first : last + 1].tolist()
        row = [np.array(tokens[a:b]) for a, b in zip(starts, starts[1:], strict=False)]
        length = (starts[-1] - starts[0]) * tokens.itemsize
        self._touched += sum(min(array.nbytes, FAULT_BYTES) for array in arrays) + length
        if self._touched > self.mapped_bytes:
            self._give_back()
        return row
        # END SOLUTION

    def verify(self) -> Iterator[str]:
        """Read every file once, in pieces, and compare its checksum; yields the names on the way.

        Raises CorpusError, naming the file, at the first that was changed. Memory does not grow
        with the files.
        """
        # BEGIN SOLUTION 3.2
        for shard in self.manifest.shards:
            for entry in shard.files.values():
                checksum = 0
                with open(self.folder / entry.name, "rb") as file:
                    while piece := file.read(1 << 20):
                        checksum = zlib.crc32(piece, checksum)
                if checksum != entry.checksum:
                    raise CorpusError(f"{self.folder / entry.name} has another checksum")
                yield entry.name
        # END SOLUTION

    def _shard(self, number: int) -> list[np.ndarray]:
        """Tokens, documents and samples of a shard, mapped. A helper you may use, or leave."""
        # BEGIN SOLUTION 3.2
        arrays = self._maps.pop(number, None)
        if arrays is None:
            if len(self._maps) >= MAPPED_SHARDS:
                del self._maps[next(iter(self._maps))]  # the one that was not used for longest
            arrays = []
            for kind in KINDS:
                entry = self.manifest.shards[number].files[kind]
                dtype = self.manifest.dtype if kind == "tokens" else "<i8"
                # No bytes can't be mapped: a shard of empty documents has no tokens.
                path = self.folder / entry.name
                arrays.append(np.memmap(path, dtype, "r") if entry.size else np.empty(0, dtype))
        self._maps[number] = arrays
        return arrays
        # END SOLUTION

    def _give_back(self) -> None:
        """Give back the pages that were read. A helper you may use, or leave."""
        # BEGIN SOLUTION 3.2
        for arrays in self._maps.values():
            for array in arrays:
                if isinstance(array, np.memmap):
                    array.base.madvise(mmap.MADV_DONTNEED)
        self._touched = 0
        # END SOLUTION


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
        # BEGIN SOLUTION 3.2
        if len(corpus) == 0:
            raise ValueError("the corpus is empty: there would never be a batch")
        if batch_size < 1 or not 0 <= rank < world_size:
            raise ValueError(f"batch size {batch_size}, rank {rank} of {world_size} can't be")
        self.corpus, self.batch_size, self.seed = corpus, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.epoch = self.step = 0
        # END SOLUTION

    @property
    def steps_per_epoch(self) -> int:
        """How many batches an epoch has, the last and perhaps smaller one included."""
        # BEGIN SOLUTION 3.2
        return -(-len(self.corpus) // self.batch_size)
        # END SOLUTION

    def indices(self, epoch: int, step: int) -> np.ndarray:
        """(n,) int64, this rank's samples of that step; IndexError if there is no such step."""
        # BEGIN SOLUTION 3.2
        if not 0 <= step < self.steps_per_epoch:
            raise IndexError(f"an epoch has {self.steps_per_epoch} steps, there is no step {step}")
        start = step * self.batch_size
        size = min(self.batch_size, len(self.corpus) - start)
        share, rest = divmod(size, self.world_size)
        first = start + self.rank * share + min(self.rank, rest)
        count = share + (self.rank < rest)
        order = Permutation(len(self.corpus), self.seed, epoch)
        return order(np.arange(first, first + count))
        # END SOLUTION

    def __iter__(self) -> TokenStream:
        """Itself: it never ends."""
        return self

    def __next__(self) -> list[Row]:
        """This rank's samples of the next step, each a list of documents."""
        # BEGIN SOLUTION 3.2
        if self.step >= self.steps_per_epoch:
            self.epoch, self.step = self.epoch + 1, 0
        rows = [self.corpus[int(index)] for index in self.indices(self.epoch, self.step)]
        self.step += 1
        return rows
        # END SOLUTION

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers from which another object, on any rank of any number, can go on.

        Keys: seed, epoch, step, batch_size, corpus (the manifest's fingerprint). Nothing in it
        grows, and nothing depends on rank or world_size.
        """
        # BEGIN SOLUTION 3.2
        return {
            "seed": self.seed, "epoch": self.epoch, "step": self.step,
            "batch_size": self.batch_size, "corpus": self.corpus.manifest.fingerprint,
        }  # fmt: skip
        # END SOLUTION

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken: the seed is the state's, rank and world_size are ours.

        Raises ValueError, naming the key and changing nothing, if the batch size or the corpus is
        another one: the steps would mean other samples.
        """
        # BEGIN SOLUTION 3.2
        mine = self.state_dict()
        for key in ("batch_size", "corpus"):
            if state[key] != mine[key]:
                raise ValueError(f"{key} was {state[key]} in the state, it is {mine[key]} now")
        self.seed, self.epoch, self.step = state["seed"], state["epoch"], state["step"]
        # END SOLUTION
