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
    raise NotImplementedError("task 5.1: block_hash")


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
        raise NotImplementedError("task 5.1: BlockManager.cached_prefix")

    def blocks_wanted(self, sequence: Sequence, num_tokens: int) -> int:
        """Blocks of the pool's free ones that `allocate(sequence, num_tokens)` would take."""
        raise NotImplementedError("task 5.1: BlockManager.blocks_wanted")

    def allocate(self, sequence: Sequence, num_tokens: int) -> None:
        """Give the sequence blocks for its first `num_tokens` tokens; those it has stay.

        A sequence without blocks first takes its cached prefix, as many blocks of it as are asked
        for (held once more, taken out of the free ones), and its num_computed_tokens becomes their
        length. New blocks are taken empty before cached, of the cached the one longest unused; a
        cached block that is taken loses its hash. Raises OutOfBlocks, with nothing changed, where
        too few are free.
        """
        raise NotImplementedError("task 5.1: BlockManager.allocate")

    def register(self, sequence: Sequence) -> None:
        """Name all blocks that `num_computed_tokens` fills and that have none: others can find them.

        To be called after the keys and values were written. Where two blocks have one content, the
        one that was named first stays the one that is found. A block that `clear_cache` bars from
        having a name gets none, nor does what follows it in the text: it was computed from it.
        """
        raise NotImplementedError("task 5.1: BlockManager.register")

    def free(self, sequence: Sequence) -> None:
        """Give back all blocks of the sequence; once for each hold, so twice does no harm.

        Its table is empty and num_computed_tokens 0 afterwards. Blocks with a name become cached,
        the last of the text longest unused, so that a prefix outlives its continuation.
        """
        raise NotImplementedError("task 5.1: BlockManager.free")

    def fork(self, parent: Sequence, child: Sequence) -> list[tuple[int, int]]:
        """Let the child go on from the parent's computed tokens: full blocks shared, the rest copied.

        The child has the same tokens and namespace, no blocks yet. Returns the (from, to) blocks
        whose content the caller copies: none, or the one partly filled block. Raises OutOfBlocks,
        nothing changed.
        """
        raise NotImplementedError("task 5.1: BlockManager.fork")

    def clear_cache(self) -> None:
        """Forget all names: no later sequence takes over what was computed so far.

        Cached blocks are empty from now on. Blocks that are held get no name until all who hold
        them have given them back, and neither do copies of them (`fork`).
        """
        raise NotImplementedError("task 5.1: BlockManager.clear_cache")

    def _hold(self, block: int) -> None:
        raise NotImplementedError("task 5.1: BlockManager._hold")

    def _release(self, block: int) -> None:
        raise NotImplementedError("task 5.1: BlockManager._release")

    def _forget(self, block: int) -> None:
        raise NotImplementedError("task 5.1: BlockManager._forget")
