"""How things are divided among ranks. Given: every task and every test divides in this way."""

from __future__ import annotations


def chunk_bounds(count: int, parts: int) -> list[tuple[int, int]]:
    """(start, stop) of each of `parts` chunks of `count` things, as even as they can be.

    The first count % parts chunks have one more than the others; with fewer things than parts the
    last chunks are empty. Raises ValueError where parts < 1 or count < 0.
    """
    if parts < 1 or count < 0:
        raise ValueError(f"{count} things can't be divided into {parts} chunks")
    size, more = divmod(count, parts)
    stops = [size * (part + 1) + min(part + 1, more) for part in range(parts)]
    return list(zip([0, *stops[:-1]], stops, strict=True))
