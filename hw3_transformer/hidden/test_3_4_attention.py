"""Task 3.4, hidden: large scores, half precision, masks that broadcast, the cache hook, packing."""

from __future__ import annotations

import drivers_attention as drivers
import numpy as np
import torch
from attention_cases import (
    attention_case,
    attention_weights,
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

from autograder.testing import assert_close, assert_equal

SIZES = Sizes(hidden_size=24, num_heads=6, num_kv_heads=2)


@number("3.4")
@weight(0.5)
def test_scores_of_ten_thousand(student, rng):
    """Scores of ±1e4, alike and far apart: finite, and what float64 says."""
    cases = []
    for dtype in ("float64", "float32"):
        for mask in (None, causal(3, 5)):
            case = attention_case(rng, (4, 2), 3, 5, 4, dtype, mask=mask)
            direction = np.ones(4) * 100.0
            for sign in (1.0, -1.0):
                near = {**case, "query": np.empty_like(case["query"])}
                near["query"][:] = sign * direction * 1.0
                near["key"] = (direction + 0.004 * rng.integers(-3, 4, case["key"].shape)).astype(
                    case["key"].dtype
                )
                cases.append(near)
            cases.append({**case, "query": 100 * case["query"], "key": 100 * case["key"]})
    # Scores of 2e4 are known to 2e-3 in float32, and exp carries that to the weights.
    check_attention(student, drivers.attended, [c for c in cases if c["dtype"] == "float64"])
    for case in cases:
        if case["dtype"] == "float32":
            del case["upstream"]
    check_attention(
        student, drivers.attended, [c for c in cases if c["dtype"] == "float32"], loose=200.0
    )


@number("3.4")
@weight(0.5)
def test_half_precision(student, rng):
    """bfloat16 and float16 keep their type; products beyond 65,504 do not overflow before scaling."""
    cases = []
    for dtype in ("bfloat16", "float16"):
        for mask in (None, causal(4, 6)):
            case = attention_case(rng, (4, 2), 4, 6, 8, dtype, mask=mask, scale=0.7)
            del case["upstream"]
            cases.append(case)
    check_attention(student, drivers.attended, cases)
    big = attention_case(rng, (2, 1), 2, 3, 64, "float16")
    del big["upstream"]
    big["query"][:] = 36.0
    big["key"][:] = 36.0  # products of 82,944, scores of 10,368
    big["key"][:, :, 1] = -36.0
    check_attention(student, drivers.attended, [big])


@number("3.4")
@weight(0.5)
def test_masks_that_broadcast(student, rng):
    """One mask for all rows, for all queries, for all of both, or without leading dimensions."""
    full = random_mask(rng, 3, 4, 5)
    keys_alone = rng.random((3, 1, 1, 5)) < 0.5
    keys_alone[..., 2] = True
    cases = [
        attention_case(rng, (4, 2), 4, 5, 6, batch=3, mask=mask)
        for mask in (full[:1], keys_alone, keys_alone[:1], full[0, 0], full[0], full,
                     np.zeros((1, 1, 1, 5), bool), np.ones((3, 1, 4, 1), bool))
    ]  # fmt: skip
    check_attention(student, drivers.attended, cases)


@number("3.4")
@weight(0.75)
def test_the_cache_gets_turned_keys_and_its_answer_is_attended(student, rng):
    """One call of update(layer, keys, values) a forward pass; x attends to what comes back."""
    weights = attention_weights(rng, SIZES)
    for batch, time, held, layer in [(2, 1, 5, 0), (1, 3, 4, 7), (2, 4, 0, 1)]:
        past = rng.standard_normal((2, batch, SIZES.num_kv_heads, held, SIZES.head_dim))
        x = rng.standard_normal((batch, time, SIZES.hidden_size))
        positions = held + np.tile(np.arange(time), (batch, 1))
        for mask in (causal(time, held + time),) + ((None,) if time == 1 else ()):
            tensors = {name: torch.tensor(a) for name, a in {"x": x, **weights}.items()}
            expected, keys, values = module_formula(
                SIZES, **tensors, positions=positions, past=tuple(map(torch.tensor, past)),
                mask=torch.tensor(causal(time, held + time)),
            )  # fmt: skip
            got = student.run(
                drivers.module_with_cache, sizes=SIZES.fields(), weights=weights, layer=layer, x=x,
                positions=positions, mask=mask, past=list(past),
            )  # fmt: skip
            calls, text = got["calls"], f"{time} tokens after {held}, layer {layer}"
            assert len(calls) == 1, f"{text}: update was called {len(calls)} times"
            assert calls[0]["layer"] == layer, f"update got layer {calls[0]['layer']}"
            assert_close(calls[0]["keys"], keys.numpy(), rtol=1e-4, atol=1e-5,
                         name=f"keys handed to the cache, {text}",
                         hint="rotated, (batch, kv_heads, time, head_dim)")  # fmt: skip
            assert_close(calls[0]["values"], values.numpy(), rtol=1e-9, atol=1e-9,
                         name=f"values handed to the cache, {text}", hint="not rotated")  # fmt: skip
            assert_close(got["value"], expected.numpy(), rtol=1e-4, atol=1e-5,
                         name=f"Attention with a cache, {text}")  # fmt: skip


@number("3.4")
@weight(0.75)
def test_a_packed_row_equals_its_documents_alone(student, rng):
    """Each document of a packed row gets what it would get in a row of its own; padding gets 0."""
    weights = attention_weights(rng, SIZES)
    documents = packed_documents(rng, 2, 13, padding=3)
    documents[1, -1] = -1
    x = rng.standard_normal((2, 13, SIZES.hidden_size))
    call = {"sizes": SIZES.fields(), "weights": weights}
    packed = np.asarray(student.run(
        drivers.module, **call, x=x, positions=positions_of(documents), mask=packed_mask(documents)
    )["value"])  # fmt: skip
    assert packed.shape == x.shape, f"shape {packed.shape}"
    for row in range(2):
        for name in np.unique(documents[row]):
            inside = documents[row] == name
            if name < 0:
                assert_equal(packed[row, inside], np.zeros((inside.sum(), SIZES.hidden_size)),
                             name="output of padding")  # fmt: skip
                continue
            time = int(inside.sum())
            alone = student.run(
                drivers.module, **call, x=x[row : row + 1, inside], mask=causal(time, time),
                positions=np.arange(time)[None],
            )["value"]  # fmt: skip
            assert_close(packed[row, inside], alone[0], rtol=1e-9, atol=1e-10,
                         name=f"document {name} of row {row}, packed and alone")  # fmt: skip


@number("3.4")
@weight(0.5)
def test_one_token_one_head_no_key(student, rng):
    """Sizes of 1 everywhere, no query, and no key at all (zeros)."""
    cases = [
        attention_case(rng, (1, 1), 1, 1, 2, batch=1), attention_case(rng, (5, 1), 1, 1, 2),
        attention_case(rng, (4, 2), 0, 3, 4), attention_case(rng, (2, 2), 3, 1, 4),
        attention_case(rng, (2, 1), 1, 9, 2, "float32", batch=1, layout="strided"),
    ]  # fmt: skip
    check_attention(student, drivers.attended, cases)
    nothing = attention_case(rng, (4, 2), 2, 0, 4)
    del nothing["upstream"]
    (reply,) = student.run(drivers.attended, cases=[nothing])
    assert_equal(reply["value"], np.zeros((2, 4, 2, 4)), name="attention over no keys")


@number("3.4")
@weight(0.5)
def test_any_sizes(student, rng):
    """Random sizes, groups, masks with blind queries, layouts and types, with every gradient."""
    cases = []
    for place in range(20):
        kv_heads, group, queries, keys, half, batch = (int(n) for n in rng.integers(1, 5, 6))
        mask = rng.random((batch, 1, queries, keys)) < 0.6 if place % 4 else None
        cases.append(attention_case(
            rng, (kv_heads * group, kv_heads), queries, keys, 2 * half,
            ("float64", "float32")[place % 2], batch=batch, mask=mask,
            layout=("plain", "transposed", "strided")[place % 3],
        ))  # fmt: skip
    check_attention(student, drivers.attended, cases)
