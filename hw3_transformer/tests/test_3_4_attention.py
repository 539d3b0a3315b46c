"""Task 3.4: masks, grouped-query attention and its module, against torch's own attention."""

from __future__ import annotations

import drivers_attention as drivers
import numpy as np
import torch
from attention_cases import (
    ATTENTION,
    HEADS,
    attention_case,
    attention_weights,
    brute_mask,
    causal,
    check_attention,
    module_formula,
    packed_documents,
    packed_mask,
    positions_of,
    random_mask,
)
from gradescope_utils.autograder_utils.decorators import number, weight
from tiny_model import Sizes

from autograder.testing import Hint, Measure, assert_close, assert_equal

SIZES = Sizes(hidden_size=24, num_heads=6, num_kv_heads=2)
LEAK = (
    "tokens of other documents must not enter the softmax at all: mask where documents differ, "
    "not only where a key is later; or heads and time are mixed before the output projection"
)


@number("3.4")
@weight(1)
def test_mask_allows_the_past_of_the_own_document(student, rng):
    """attention_mask against loops: positions of any order, more keys than queries, padding."""
    cases = []
    for batch, queries, keys in [(2, 5, 5), (1, 1, 7), (3, 2, 6), (2, 4, 1)]:
        plain = {
            "query_positions": rng.integers(0, keys, (batch, queries)),
            "key_positions": np.tile(np.arange(keys), (batch, 1)),
        }
        names = {
            "query_documents": rng.integers(-1, 3, (batch, queries)),
            "key_documents": rng.integers(-1, 3, (batch, keys)),
        }
        cases += [plain, {**plain, **names}]
    documents = packed_documents(rng, 3, 12)
    row = np.tile(np.arange(12), (3, 1))
    cases.append({"query_positions": row, "key_positions": row, "query_documents": documents,
                  "key_documents": documents})  # fmt: skip
    for case, reply in zip(
        cases, student.run_cases(drivers.masks, cases, _mask_label), strict=True
    ):
        text = _mask_label(case)
        assert reply["dtype"] == "bool", f"{text}: {reply['dtype']}, expected bool"
        assert_equal(
            reply["value"], brute_mask(case), name=f"attention_mask, {text}",
            hint=Hint(
                values="key position <= query position, the same document, and that one not "
                "negative: two padding tokens do not see each other",
                shape="(batch, 1, queries, keys): the 1 stands for the heads",
            ),
        )  # fmt: skip


def _mask_label(case):
    documents = ", with documents" if "query_documents" in case else ""
    return f"queries {case['query_positions'].shape}, keys {case['key_positions'].shape}{documents}"


@number("3.4")
@weight(1.25)
def test_attention_equals_torchs(student, rng):
    """grouped_query_attention and all gradients: groups of any size, causal, random and no mask."""
    cases = []
    for place, heads in enumerate(HEADS):
        queries, keys, head_dim = [(4, 4, 8), (3, 7, 2), (1, 5, 16), (5, 5, 4), (1, 1, 6)][place]
        masks = (None, causal(queries, keys), random_mask(rng, 2, queries, keys))
        for other, mask in enumerate(masks):
            dtype = ("float64", "float32")[(place + other) % 2]
            layout = ("plain", "transposed", "strided")[(place + other) % 3]
            case = attention_case(
                rng, heads, queries, keys, head_dim, dtype, mask=mask, layout=layout
            )
            cases.append(case)
    check_attention(student, drivers.attended, cases)


@number("3.4")
@weight(0.5)
def test_neighbouring_query_heads_share_a_key_head(student, rng):
    """Key head g holds the value g + 1 everywhere: query head h must answer h // group + 1."""
    for heads, kv_heads in ((6, 2), (6, 3), (8, 4)):
        case = attention_case(rng, (heads, kv_heads), 3, 5, 4)
        del case["upstream"]
        case["value"] = np.broadcast_to(
            np.arange(1.0, kv_heads + 1)[:, None, None], case["value"].shape
        ).copy()
        (reply,) = student.run(drivers.attended, cases=[case])
        got = np.asarray(reply["value"])
        want = np.repeat(np.arange(1, kv_heads + 1), heads // kv_heads)
        assert got.shape == case["query"].shape, f"shape {got.shape}"
        assert_close(
            got, np.broadcast_to(want[:, None, None], got.shape), rtol=1e-9,
            name=f"{heads} query heads over {kv_heads} key heads that hold 1, 2, …",
            hint="groups lie side by side: heads 0, 1, 2 of 6 share key head 0 of 2 "
            "(h // group, not h % kv_heads)",
        )  # fmt: skip


@number("3.4")
@weight(1)
def test_nothing_leaks_across_packed_documents(student, rng):
    """The gradient from a document into other documents, later tokens and padding is exactly 0."""
    weights = attention_weights(rng, SIZES)
    documents = packed_documents(rng, 2, 11)
    x = rng.standard_normal((2, 11, SIZES.hidden_size))
    mask = packed_mask(documents)
    call = {"sizes": SIZES.fields(), "weights": weights, "positions": positions_of(documents)}
    for row in range(2):
        names = [name for name in np.unique(documents[row]) if name >= 0]
        for name in names:
            inside = np.flatnonzero(documents[row] == name)
            upto = int(rng.choice(inside))
            upstream = np.zeros_like(x)
            upstream[row, upto] = rng.uniform(0.5, 1.5, SIZES.hidden_size)
            reply = student.run(drivers.module, **call, x=x, mask=mask, upstream=upstream)
            gradient = np.abs(np.asarray(reply["gradients"]["x"])).max(-1)
            outside = np.ones(documents.shape, bool)
            outside[row, inside[inside <= upto]] = False
            text = f"row {row}, document {name}, token {upto}"
            assert gradient.shape == outside.shape, f"{text}: gradient of x {gradient.shape}"
            assert (gradient[outside] == 0).all(), (
                f"{text} depends on tokens {np.argwhere(outside & (gradient != 0)).tolist()} "
                f"(row, place) that it may not see; documents {documents[row].tolist()}\n"
                f"hint: {LEAK}"
            )
            assert (gradient[~outside] > 0).all(), f"{text}: no gradient from tokens it may see"


@number("3.4")
@weight(0.75)
def test_queries_that_see_nothing_give_zeros(student, rng):
    """Fully masked rows: zeros, zero gradients, no NaN, and their neighbours untouched."""
    cases = []
    for place, heads in enumerate([(4, 2), (3, 1), (2, 2)]):
        mask = random_mask(rng, 2, 5, 6)
        mask[0, 0, 2] = False
        mask[1, 0, 0] = False
        mask[1, 0, 4] = False
        if place == 2:
            mask[0] = False
        cases.append(
            attention_case(rng, heads, 5, 6, 4, ("float64", "float32")[place % 2], mask=mask)
        )
    for case, reply in zip(cases, student.run(drivers.attended, cases=cases), strict=True):
        blind = np.broadcast_to(~case["mask"].any(-1), case["query"].shape[:3])
        for name, array in (("value", reply["value"]), ("gradient for the query",
                                                        reply["gradients"]["query"])):  # fmt: skip
            array = np.asarray(array)
            assert np.isfinite(array).all(), (
                f"{name}: NaN or infinite\nhint: {ATTENTION.not_finite}"
            )
            assert not array[blind].any(), (
                f"the {name} of queries that may see nothing is not 0: {array[blind].flat[0]:.4g}\n"
                "hint: a softmax over equal scores gives 1/keys, not 0: clear those weights"
            )
    check_attention(student, drivers.attended, cases)


@number("3.4")
@weight(0.75)
def test_the_module_projects_turns_and_attends(student, rng):
    """Attention: projections, rotation of queries and keys alone, output, and every gradient."""
    for sizes in (SIZES, SIZES.but(num_heads=3, num_kv_heads=3, rope_theta=50.0)):
        documents = packed_documents(rng, 2, 7)
        weights = attention_weights(rng, sizes)
        x = rng.standard_normal((2, 7, sizes.hidden_size))
        upstream = rng.standard_normal(x.shape)
        positions, mask = positions_of(documents) + 5, packed_mask(documents)
        leaves = {name: torch.tensor(a, requires_grad=True) for name, a in
                  {"x": x, **weights}.items()}  # fmt: skip
        expected, _, _ = module_formula(
            sizes, **leaves, positions=positions, mask=torch.tensor(mask)
        )
        expected.backward(torch.tensor(upstream))
        reply = student.run(
            drivers.module, sizes=sizes.fields(), weights=weights, x=x, positions=positions,
            mask=mask, upstream=upstream,
        )  # fmt: skip
        heads = f"{sizes.num_heads} heads over {sizes.num_kv_heads}"
        # The tables are float32, hence no closer.
        assert_close(
            reply["value"], expected.detach().numpy(), rtol=1e-4, atol=1e-5,
            name=f"Attention, {heads}",
            hint="split as (batch, time, heads, head_dim), then transpose; rotate query and key, "
            "not value; back through transpose before output",
        )  # fmt: skip
        for name, leaf in leaves.items():
            assert_close(
                reply["gradients"][name], leaf.grad.numpy(), rtol=1e-4, atol=1e-4,
                name=f"gradient for {name} of Attention, {heads}",
            )  # fmt: skip


@number("3.4")
@weight(0.75)
def test_keys_are_not_copied_for_each_query_head(student, rng):
    """Sixteen query heads over two key heads of 16,384 keys: no 128 MB of repeated keys."""
    heads, kv_heads, keys, head_dim = 16, 2, 16_384, 128
    query = rng.standard_normal((1, heads, 1, head_dim), np.float32)
    key, value = (rng.standard_normal((1, kv_heads, keys, head_dim), np.float32) for _ in "kv")
    small = {"query": query, "key": key[:, :, :8].copy(), "value": value[:, :, :8].copy()}
    student.run(drivers.attend_long, **small)  # what the first call imports is no part of it
    memory = student.memory(drivers.attend_long, query=query, key=key, value=value)
    rows = query.reshape(kv_heads, heads // kv_heads, head_dim).astype(np.float64)
    scores = np.einsum("gqd,gkd->gqk", rows, key[0].astype(np.float64)) / np.sqrt(head_dim)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    expected = (weights @ value[0].astype(np.float64)).reshape(1, heads, 1, head_dim)
    assert_close(memory.value, expected, rtol=1e-3, atol=1e-4, name="attention over 16,384 keys")
    extra, one = memory.extra_bytes / 2**20, heads * keys * head_dim * 4 / 2**20
    student.measure(Measure(name="memory over 16,384 keys", value=extra, unit="MB", full=64))
    assert extra < 64, (
        f"{extra:.0f} MB were used on top of query, key and value; keys repeated for every query "
        f"head are {one:.0f} MB\nhint: view the query as (batch, kv_heads, group * queries, "
        "head_dim) and multiply by the key head as it is; expand() is copied by @"
    )
