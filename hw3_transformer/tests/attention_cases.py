"""Cases and oracles of task 3.4: torch's own attention on repeated key heads, float64. Trusted side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from layers_cases import TOLERANCES, numpy_type, turn_formula, upstream_of
from tiny_model import Sizes
from torch import Tensor
from torch.nn import functional as F

from autograder.testing import Hint, Student, assert_close

ATTENTION = Hint(
    values="softmax over the keys of query @ key.T / sqrt(head_dim), then @ value; query head h "
    "reads key head h // (heads // kv_heads)",
    not_finite="a row of -inf alone has softmax nan: fill with a finite value and set its weights "
    "to 0 afterwards",
    shape="(batch, heads, queries, head_dim), the query's",
)
HEADS = ((6, 2), (4, 4), (3, 1), (8, 2), (1, 1))


def brute_mask(case: dict[str, np.ndarray]) -> np.ndarray:
    """`attention_mask` written as loops over single tokens."""
    queries, keys = case["query_positions"], case["key_positions"]
    batch = len(queries)
    allowed = np.zeros((batch, 1, queries.shape[1], keys.shape[1]), bool)
    for b, _, q, k in np.ndindex(allowed.shape):
        allowed[b, 0, q, k] = keys[b, k] <= queries[b, q]
        if "query_documents" in case:
            own, other = case["query_documents"][b, q], case["key_documents"][b, k]
            allowed[b, 0, q, k] &= own == other and own >= 0
    return allowed


def packed_documents(
    rng: np.random.Generator, batch: int, time: int, padding: int = 2
) -> np.ndarray:
    """(batch, time) document ids: a few documents a row, of any numbers, then -1 for padding."""
    rows = np.full((batch, time), -1)
    for row in rows:
        inside = time - int(rng.integers(0, padding + 1))
        cuts = np.sort(rng.choice(np.arange(1, inside), size=min(2, inside - 1), replace=False))
        names = rng.choice(50, size=len(cuts) + 1, replace=False)
        row[:inside] = names[np.searchsorted(cuts, np.arange(inside), side="right")]
    return rows


def positions_of(documents: np.ndarray) -> np.ndarray:
    """The place of each token in its document."""
    places = np.zeros_like(documents)
    for row, ids in enumerate(documents):
        for t in range(1, len(ids)):
            places[row, t] = places[row, t - 1] + 1 if ids[t] == ids[t - 1] else 0
    return places


def packed_mask(documents: np.ndarray) -> np.ndarray:
    """(batch, 1, time, time): earlier tokens of the same document; padding neither sees nor is seen."""
    time = documents.shape[1]
    same = documents[:, :, None] == documents[:, None, :]
    return (same & np.tril(np.ones((time, time), bool)) & (documents >= 0)[:, None, :])[:, None]


def oracle(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Key heads repeated, torch's attention; queries that see nothing give 0."""
    times = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(times, dim=1) for x in (key, value))
    if mask is None:
        return F.scaled_dot_product_attention(query, key, value)
    mask = mask.broadcast_to(torch.broadcast_shapes(mask.shape, (*query.shape[:3], key.shape[2])))
    blind = ~mask.any(-1, keepdim=True)
    seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask | blind)
    return seen.masked_fill(blind, 0.0)


def attention_case(
    rng: np.random.Generator, heads: tuple[int, int], queries: int, keys: int, head_dim: int,
    dtype: str = "float64", *, batch: int = 2, mask: np.ndarray | None = None,
    layout: str = "plain", scale: float = 1.5,
) -> dict[str, Any]:  # fmt: skip
    """A case for `drivers_attention.attended`."""
    kind = numpy_type(dtype)
    shapes = {"query": (batch, heads[0], queries, head_dim)}
    shapes |= {name: (batch, heads[1], keys, head_dim) for name in ("key", "value")}
    case: dict[str, Any] = {
        name: (scale * rng.standard_normal(shape)).astype(kind) for name, shape in shapes.items()
    }
    case |= {"dtype": dtype, "layout": layout,
             "upstream": upstream_of(rng, shapes["query"], dtype)}  # fmt: skip
    return case if mask is None else {**case, "mask": mask}


def random_mask(rng: np.random.Generator, batch: int, queries: int, keys: int) -> np.ndarray:
    """(batch, 1, queries, keys), about half allowed, every query sees something."""
    mask = rng.random((batch, 1, queries, keys)) < 0.5
    mask[..., 0] |= ~mask.any(-1)
    return mask


def causal(queries: int, keys: int) -> np.ndarray:
    """(1, 1, queries, keys): the queries are the last ones of the keys."""
    return (np.arange(keys) <= np.arange(keys - queries, keys)[:, None])[None, None]


def expected_attention(case: dict[str, Any]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Value and gradients by the oracle, inputs rounded to the case's type."""
    kind = getattr(torch, case["dtype"])
    leaves = {
        name: torch.tensor(case[name]).to(kind).double().requires_grad_()
        for name in ("query", "key", "value")
    }
    value = oracle(*leaves.values(), torch.tensor(case["mask"]) if "mask" in case else None)
    if "upstream" in case:
        value.backward(torch.tensor(case["upstream"]).to(kind).double())
    gradients = {name: x.grad.numpy() for name, x in leaves.items() if x.grad is not None}
    return value.detach().numpy(), gradients


def label(case: dict[str, Any]) -> str:
    """A case in a few words."""
    query, key = case["query"].shape, case["key"].shape
    mask = f", mask {case['mask'].shape}" if "mask" in case else ""
    layout = "" if case["layout"] == "plain" else f", {case['layout']} in memory"
    return f"query {query}, key and value {key}, {case['dtype']}{mask}{layout}"


def check_attention(
    student: Student, driver: Callable[..., Any], cases: list[dict[str, Any]],
    hint: Hint = ATTENTION, loose: float = 1.0,
) -> None:  # fmt: skip
    """Values, their type, and all gradients of every case."""
    for case, reply in zip(cases, student.run_cases(driver, cases, label), strict=True):
        text, dtype = label(case), case["dtype"]
        value, gradients = expected_attention(case)
        rtol, atol = (loose * bound for bound in TOLERANCES[dtype])
        assert reply["dtype"] == dtype, f"{text}: the result is {reply['dtype']}"
        assert_close(reply["value"], value, rtol=rtol, atol=atol, name=text, hint=hint)
        for name, expected in gradients.items():
            size = max(1.0, float(np.abs(expected).max(initial=0.0)))
            assert_close(
                reply["gradients"][name], expected, rtol=rtol, atol=atol * size,
                name=f"gradient for {name}, {text}", hint=hint,
            )  # fmt: skip


def attention_weights(
    rng: np.random.Generator, sizes: Sizes, scale: float = 0.3
) -> dict[str, np.ndarray]:
    """query, key, value and output matrices of one `Attention`."""
    width, kv_width = sizes.hidden_size, sizes.num_kv_heads * sizes.head_dim
    rows = {"query": width, "key": kv_width, "value": kv_width, "output": width}
    return {name: scale * rng.standard_normal((count, width)) for name, count in rows.items()}


def module_formula(
    sizes: Sizes, x: Tensor, query: Tensor, key: Tensor, value: Tensor, output: Tensor,
    positions: np.ndarray, mask: Tensor, past: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """One attention layer: its output, and its own rotated keys and values."""
    batch, time, width = x.shape
    half = torch.arange(sizes.head_dim // 2, dtype=torch.float64)
    angles = torch.tensor(positions).double()[..., None] * sizes.rope_theta ** (
        -2.0 * half / sizes.head_dim
    )
    tables = [torch.cat([t, t], dim=-1) for t in (angles.cos(), angles.sin())]
    q, k, v = (
        (x @ w.T).unflatten(-1, (-1, sizes.head_dim)).transpose(1, 2) for w in (query, key, value)
    )
    q, k = turn_formula(q, *tables), turn_formula(k, *tables)
    keys, values = (k, v)
    if past is not None:
        keys, values = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
    seen = oracle(q, keys, values, mask)
    return seen.transpose(1, 2).reshape(batch, time, width) @ output.T, k, v
