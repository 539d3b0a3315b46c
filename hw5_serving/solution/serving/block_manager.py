"""Task 5.1: who holds which cache block, which blocks can be shared, which may be taken again."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

import numpy as np

from serving.sequence import Sequence


class OutOfBlocks(Exception):
    """The pool has fewer blocks to give than were asked for."""


def block_hash(parent: bytes, tokens: list[int], namespace: str = "") -> bytes:
    """The name of a full block: 32 bytes that depend on all text up to its end.

    parent: the hash of the block before it, b"" for the first. Equal tokens behind another parent,
    or in another namespace, have other keys and values, so they get another name. The lengths of
    the parts are part of what is hashed: no two different inputs may run together into one.
    """
    # BEGIN SOLUTION 5.1
    label = namespace.encode()
    digest = hashlib.sha256()
    for part in (parent, label, np.asarray(tokens, dtype="<i8").tobytes()):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()
    # END SOLUTION


class BlockManager:
    """Blocks of one pool, by number (Kwon et al., 2023, PagedAttention; as in vLLM).

    Each block is in one of three states: held (ref_counts[b] ≥ 1); cached: nobody holds it, but it
    is found by its hash until it is evicted; empty. `num_free` counts the last two.
    """

    def __init__(self, num_blocks: int, block_size: int, prefix_caching: bool = True) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.prefix_caching = prefix_caching
        self.ref_counts = [0] * num_blocks
        self.hashes: list[bytes | None] = [None] * num_blocks
        self.by_hash: dict[bytes, int] = {}
        # Held blocks with content from before `clear_cache`: they get no name.
        self.outdated: set[int] = set()
        # Blocks nobody holds; empty ones first, then cached ones from longest unused to newest.
        self.free_blocks: OrderedDict[int, None] = OrderedDict.fromkeys(range(num_blocks))

    @property
    def num_free(self) -> int:
        """Blocks that nobody holds."""
        return len(self.free_blocks)

    def cached_prefix(self, sequence: Sequence) -> list[int]:
        """Blocks that hold the beginning of the sequence's tokens, from the first on; nothing moves.

        Only full blocks count, and at least one token is left over: its logits have to be computed,
        even where the text is a whole number of blocks and all are cached.
        """
        # BEGIN SOLUTION 5.1
        found: list[int] = []
        if not self.prefix_caching:
            return found
        parent = b""
        size = self.block_size
        for start in range(0, (sequence.num_tokens - 1) // size * size, size):
            piece = sequence.token_ids[start : start + size]
            parent = block_hash(parent, piece, sequence.namespace)
            block = self.by_hash.get(parent)
            if block is None:
                break
            found.append(block)
        return found
        # END SOLUTION

    def blocks_wanted(self, sequence: Sequence, num_tokens: int) -> int:
        """Blocks of the pool's free ones that `allocate(sequence, num_tokens)` would take."""
        # BEGIN SOLUTION 5.1
        total = -(-num_tokens // self.block_size)
        if sequence.block_table:
            return max(0, total - len(sequence.block_table))
        shared = self.cached_prefix(sequence)[:total]
        return total - sum(self.ref_counts[block] > 0 for block in shared)
        # END SOLUTION

    def allocate(self, sequence: Sequence, num_tokens: int) -> None:
        """Give the sequence blocks for its first `num_tokens` tokens; those it has stay.

        A sequence without blocks first takes its cached prefix, as many blocks of it as are asked
        for (held once more, taken out of the free ones), and its num_computed_tokens becomes their
        length. New blocks are taken empty before cached, of the cached the one longest unused; a
        cached block that is taken loses its hash. Raises OutOfBlocks, with nothing changed, where
        too few are free.
        """
        # BEGIN SOLUTION 5.1
        wanted = self.blocks_wanted(sequence, num_tokens)
        if wanted > self.num_free:
            raise OutOfBlocks(f"{wanted} blocks are needed, {self.num_free} are free")
        total = -(-num_tokens // self.block_size)
        if not sequence.block_table:
            # Held before new ones are taken, or these might evict them.
            sequence.block_table = self.cached_prefix(sequence)[:total]
            for block in sequence.block_table:
                self._hold(block)
            sequence.num_computed_tokens = len(sequence.block_table) * self.block_size
        while len(sequence.block_table) < total:
            block = next(iter(self.free_blocks))
            self._forget(block)
            self._hold(block)
            sequence.block_table.append(block)
        # END SOLUTION

    def register(self, sequence: Sequence) -> None:
        """Name all blocks that `num_computed_tokens` fills and that have none: others can find them.

        To be called after the keys and values were written. Where two blocks have one content, the
        one that was named first stays the one that is found. A block that `clear_cache` bars from
        having a name gets none, nor does what follows it in the text: it was computed from it.
        """
        # BEGIN SOLUTION 5.1
        if not self.prefix_caching:
            return
        parent = b""
        for place in range(sequence.num_computed_tokens // self.block_size):
            block = sequence.block_table[place]
            if block in self.outdated:
                break
            known = self.hashes[block]
            if known is None:
                start = place * self.block_size
                piece = sequence.token_ids[start : start + self.block_size]
                known = block_hash(parent, piece, sequence.namespace)
                if known not in self.by_hash:
                    self.by_hash[known], self.hashes[block] = block, known
            parent = known
        # END SOLUTION

    def free(self, sequence: Sequence) -> None:
        """Give back all blocks of the sequence; once for each hold, so twice does no harm.

        Its table is empty and num_computed_tokens 0 afterwards. Blocks with a name become cached,
        the last of the text longest unused, so that a prefix outlives its continuation.
        """
        # BEGIN SOLUTION 5.1
        held, sequence.block_table, sequence.num_computed_tokens = sequence.block_table, [], 0
        for block in reversed(held):
            self._release(block)
        # END SOLUTION

    def fork(self, parent: Sequence, child: Sequence) -> list[tuple[int, int]]:
        """Let the child go on from the parent's computed tokens: full blocks shared, the rest copied.

        The child has the same tokens and namespace, no blocks yet. Returns the (from, to) blocks
        whose content the caller copies: none, or the one partly filled block. Raises OutOfBlocks,
        nothing changed.
        """
        # BEGIN SOLUTION 5.1
        full, rest = divmod(parent.num_computed_tokens, self.block_size)
        if rest and not self.num_free:
            raise OutOfBlocks("a copy of the last block is needed, none is free")
        child.block_table = parent.block_table[:full]
        for block in child.block_table:
            self._hold(block)
        copies: list[tuple[int, int]] = []
        if rest:
            target = next(iter(self.free_blocks))
            self._forget(target)
            self._hold(target)
            child.block_table.append(target)
            if parent.block_table[full] in self.outdated:
                self.outdated.add(target)
            copies.append((parent.block_table[full], target))
        child.num_computed_tokens = parent.num_computed_tokens
        return copies
        # END SOLUTION

    def clear_cache(self) -> None:
        """Forget all names: no later sequence takes over what was computed so far.

        Cached blocks are empty from now on. Blocks that are held get no name until all who hold
        them have given them back, and neither do copies of them (`fork`).
        """
        # BEGIN SOLUTION 5.1
        self.by_hash.clear()
        self.hashes = [None] * self.num_blocks
        self.outdated = {block for block, count in enumerate(self.ref_counts) if count > 0}
        # END SOLUTION

    def _hold(self, block: int) -> None:
        # BEGIN SOLUTION 5.1
        if self.ref_counts[block] == 0:
            del self.free_blocks[block]
            self.outdated.discard(block)
        self.ref_counts[block] += 1
        # END SOLUTION

    def _release(self, block: int) -> None:
        # BEGIN SOLUTION 5.1
        if self.ref_counts[block] < 1:
            raise ValueError(f"block {block} is given back, but nobody holds it")
        self.ref_counts[block] -= 1
        if self.ref_counts[block] == 0:
            self.free_blocks[block] = None
            if self.hashes[block] is None:
                self.free_blocks.move_to_end(block, last=False)  # nothing is lost by taking it
        # END SOLUTION

    def _forget(self, block: int) -> None:
        # BEGIN SOLUTION 5.1
        name, self.hashes[block] = self.hashes[block], None
        if name is not None:
            del self.by_hash[name]
        # END SOLUTION
