"""Task 5.2 on the trusted side: batches over a paged pool, and torch's own attention as the oracle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from autograder.testing import assert_close


@dataclass(frozen=True)
class Batch:
    """What the driver gets, and each text's keys and values in one row (positions, kv_heads, dim)."""

    query: np.ndarray
    keys: np.ndarray
    values: np.ndarray
    spans: list[dict[str, Any]]
    texts: list[tuple[np.ndarray, np.ndarray]]

    def arguments(self) -> dict[str, Any]:
        """The driver's."""
        return {"query": self.query, "keys": self.keys, "values": self.values, "spans": self.spans}


def batch(
    rng: np.random.Generator, parts: list[tuple[int, int]], heads: tuple[int, int] = (4, 2),
    width: int = 8, block_size: int = 4, shared: int = 0, behind: float = np.nan,
    loudness: float = 1.0,
) -> Batch:  # fmt: skip
    """A flat batch of (first, count) for each text, over a pool with a few blocks to spare.

    shared: so many blocks at the beginning are the same ones in every text that is long enough.
    behind: what lies in all slots of no text. loudness: of keys, from the first position to the
    last between 1 and this. Rows of the batch are in another order than the spans.
    """
    sizes = [-(-(first + count) // block_size) for first, count in parts]
    room = sum(sizes) + shared + 5
    order = rng.permutation(room).tolist()
    common, order = order[:shared], order[shared:]
    shape = (room, block_size, heads[1], width)
    keys, values = (np.full(shape, behind, np.float32) for _ in "kv")
    beginning = rng.standard_normal((2, shared * block_size, heads[1], width))
    spans, texts = [], []
    for (first, count), blocks in zip(parts, sizes, strict=True):
        end = first + count
        own = max(blocks - shared, 0)
        table, order = [*common[:blocks], *order[:own]], order[own:]
        both = rng.standard_normal((2, end, heads[1], width))
        alike = min(first, shared * block_size) // block_size * block_size
        both[:, :alike] = beginning[:, :alike]
        if alike < min(blocks, shared) * block_size:  # what it writes itself is its own block
            fresh = min(blocks, shared) - alike // block_size
            table[alike // block_size : alike // block_size + fresh] = order[:fresh]
            order = order[fresh:]
        both[0] *= np.linspace(1, loudness, end)[:, None, None]
        both = both.astype(np.float32)
        for place in range(end):
            where = table[place // block_size], place % block_size
            keys[where], values[where] = both[:, place]
        spans.append({"start": 0, "count": count, "first": first, "table": table})
        texts.append((both[0], both[1]))
    rows = 0
    for number in rng.permutation(len(parts)).tolist():
        spans[number]["start"], rows = rows, rows + parts[number][1]
    query = rng.standard_normal((rows, heads[0], width)).astype(np.float32)
    return Batch(query, keys, values, spans, texts)


def expected(made: Batch, dtype: str = "float32") -> np.ndarray:
    """Scaled dot-product attention of each text by itself, in float64, of inputs rounded to dtype."""
    kind = getattr(torch, dtype)
    query = torch.tensor(made.query).to(kind).double()
    out = np.zeros(made.query.shape)
    for span, text in zip(made.spans, made.texts, strict=True):
        rows = slice(span["start"], span["start"] + span["count"])
        key, value = (torch.tensor(part).to(kind).double().movedim(0, 1) for part in text)
        own = torch.arange(span["first"], span["first"] + span["count"])[:, None]
        mask = torch.arange(key.shape[1]) <= own
        got = F.scaled_dot_product_attention(
            query[rows].movedim(0, 1)[None], key[None], value[None], attn_mask=mask, enable_gqa=True
        )
        out[rows] = got[0].movedim(0, 1).numpy()
    return out


def compare(
    answer: dict[str, Any], made: Batch, what: str, dtype: str = "float32", hint: str = ""
) -> None:
    """The answer against the oracle, span by span; nothing given may have been written to."""
    assert answer["dtype"] == f"torch.{dtype}", f"{what}: {answer['dtype']}, the query is {dtype}"
    assert answer["untouched"] is True, f"{what}: query or pool were written to"
    # bfloat16 has 8 bits, so a right result is off by 2^-9; sums of it in float32 add nothing to that.
    rtol, atol = {"float32": (1e-4, 1e-5), "float64": (1e-9, 1e-10), "bfloat16": (2**-8, 2e-4)}[
        dtype
    ]
    right, got = expected(made, dtype), np.asarray(answer["out"])
    assert got.shape == right.shape, f"{what}: shape {got.shape}, expected {right.shape}"
    for span in made.spans:
        rows = slice(span["start"], span["start"] + span["count"])
        assert_close(
            got[rows], right[rows], rtol=rtol, atol=atol,
            name=f"{what}: rows {rows.start} … {rows.stop - 1}, positions {span['first']} …, table "
            f"{span['table'][:6]}", hint=hint,
        )  # fmt: skip
