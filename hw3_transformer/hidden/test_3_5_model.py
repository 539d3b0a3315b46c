"""Task 3.5, hidden: caches, names, other files and more that do not fit, half precision."""

from __future__ import annotations

from pathlib import Path

import drivers_gguf
import drivers_model as drivers
import numpy as np
import torch
from attention_cases import causal, packed_documents, positions_of
from gguf_files import GGUFFile, Kind, interleaved
from gradescope_utils.autograder_utils.decorators import number, weight
from model_cases import CLOSE, MODEL, check_gradients, expected_answer, expected_shapes, random_ids
from tiny_model import Sizes, random_weights, reference_logits, tensors

from autograder.testing import assert_close, assert_equal, packaged

# Made with the public golden file, by tests/golden/make_smollm2.py.
RANDOM = Path(__file__).with_name("smollm2_random.npz")
SIZES = Sizes()
FILED = Sizes(
    vocab_size=45, hidden_size=96, num_heads=6, num_kv_heads=3, intermediate_size=64, num_layers=3
)


@number("3.5")
@weight(0.75)
def test_a_cache_is_asked_in_turn(student, rng):
    """Positions go on from cache.lengths row by row; mask first, an update a layer, one advance."""
    weights, rows = random_weights(rng, SIZES), 2
    ids = random_ids(rng, SIZES, rows, 7)
    # Row 1 forgets the last of the first three tokens: its next one is at position 2 again.
    hidden = causal(3, 6).repeat(rows, axis=0)
    hidden[1, :, :, 2] = False
    last = np.ones((rows, 1, 1, 7), bool)
    last[1, ..., 2] = False
    steps = [
        {"ids": ids[:, :3], "mask": causal(3, 3), "lengths": np.zeros(rows, np.int64)},
        {"ids": ids[:, 3:6], "mask": hidden, "lengths": np.array([3, 2])},
        {"ids": ids[:, 6:], "mask": last, "lengths": np.array([6, 5])},
    ]
    replies = student.run(drivers.with_cache, sizes=SIZES.fields(), weights=weights, steps=steps)
    short = np.delete(ids[1], 2)[None]
    whole = [expected_answer(weights, SIZES, {"ids": row})["logits"][0] for row in (ids[:1], short)]
    for step, reply in zip(steps, replies, strict=True):
        time = step["ids"].shape[1]
        updates = [f"update {layer}" for layer in range(SIZES.num_layers)]
        events = [e for e in reply["events"] if not e.startswith("mask")]
        assert_equal(events, [*updates, f"advance {time}"], name="calls of the cache")
        assert f"mask {time}" in reply["events"], f"mask({time}) was not asked: {reply['events']}"
        for row, start in enumerate(step["lengths"]):
            want = whole[row][start : start + time]
            if start == 0:
                want = expected_answer(weights, SIZES, {"ids": ids[row : row + 1, :3]})["logits"][0]
            assert_close(
                reply["logits"][row], want, **CLOSE, name=f"row {row}, {time} tokens from {start}",
                hint="positions start at cache.lengths, row by row; the mask is the cache's",
            )  # fmt: skip
    given = [{**steps[0], "positions": np.tile([4, 9, 30], (rows, 1))}]
    (reply,) = student.run(drivers.with_cache, sizes=SIZES.fields(), weights=weights, steps=given)
    call = {"ids": ids[:, :3], "positions": given[0]["positions"]}
    assert_close(reply["logits"], expected_answer(weights, SIZES, call)["logits"], **CLOSE,
                 name="logits where positions are given beside a cache")  # fmt: skip
    student.raises(
        drivers.cache_and_documents, "ValueError", sizes=SIZES.fields(), weights=weights, ids=ids
    )


@number("3.5")
@weight(0.25)
def test_names_and_shapes(student):
    """Parameters by name and shape; the head is the embedding's own matrix where tied."""
    for sizes in (SIZES, SIZES.but(tie_embeddings=False, num_layers=1, num_kv_heads=3)):
        got = student.run(drivers.described, sizes=sizes.fields())
        expected = expected_shapes(sizes)
        assert_equal(got["shapes"], expected, name="parameters")
        assert_equal(got["state"], sorted(expected), name="names in state_dict()")
        head = "embedding.weight" if sizes.tie_embeddings else "head.weight"
        assert_equal(got["head"], [head], name="the parameter that head_weight is",
                     hint="the same tensor, not a copy: tied weights share their gradient")  # fmt: skip


@number("3.5")
@weight(0.75)
def test_sizes_names_and_rows_of_a_file(student, rng):
    """read_config with fields left out, parameter_name, unpermute for any number of heads."""
    left_out = {"llama.attention.head_count_kv": None, "llama.rope.freq_base": None,
                "llama.rope.dimension_count": None}  # fmt: skip
    plain = FILED.but(num_kv_heads=FILED.num_heads, tie_embeddings=False, norm_eps=2e-3)
    file = GGUFFile(plain, random_weights(rng, plain), metadata=left_out).written()
    got = student.run(drivers_gguf.config, file=file)
    assert_close(got.pop("norm_eps"), 2e-3, name="norm_eps")
    expected = {k: v for k, v in plain.but(rope_theta=1e4).fields().items() if k != "norm_eps"}
    assert_equal(got, expected, name="read_config without the optional fields")
    names = {
        "token_embd.weight": "embedding.weight", "output_norm.weight": "norm.weight",
        "output.weight": "head.weight", "blk.0.attn_norm.weight": "blocks.0.attention_norm.weight",
        "blk.11.attn_k.weight": "blocks.11.attention.key.weight",
        "blk.3.ffn_gate.weight": "blocks.3.ffn.gate.weight",
        "blk.29.ffn_norm.weight": "blocks.29.ffn_norm.weight",
        "blk.2.attn_output.weight": "blocks.2.attention.output.weight",
        "blk.0.attn_q.bias": None, "rope_freqs.weight": None, "blk.0.ffn_gate_inp.weight": None,
    }  # fmt: skip
    assert_equal(student.run(drivers_gguf.names, gguf_names=list(names)), list(names.values()),
                 name="parameter_name")  # fmt: skip
    for heads, width in [(1, 2), (3, 4), (9, 64), (2, 6)]:
        weight = rng.standard_normal((heads * width, 5)).astype(np.float32)
        got = student.run(drivers_gguf.unpermuted, weight=interleaved(weight, heads), heads=heads)
        assert_equal(got, weight, name=f"unpermute, {heads} heads of {width}")


@number("3.5")
@weight(0.75)
def test_files_of_other_types(student, rng):
    """F32, F16, BF16 and Q4_0 tensors, a head of its own, a model in bfloat16, a Path."""
    for kinds, dtype, tied in [
        ({"embedding": Kind.F16, "matrix": Kind.F32, "head": Kind.F32}, None, False),
        ({"embedding": Kind.F32, "matrix": Kind.F16, "head": Kind.F16}, "float64", True),
        ({"embedding": Kind.Q8_0, "matrix": Kind.Q4_0, "head": Kind.BF16}, "bfloat16", False),
    ]:
        sizes = FILED.but(tie_embeddings=tied)
        file = GGUFFile(sizes, random_weights(rng, sizes), kinds=kinds)
        stored, ids = file.stored(), random_ids(rng, sizes, 1, 6)
        more = {} if dtype is None else {"dtype": dtype}
        got = student.run(drivers_gguf.load, file=file.written(), ids=ids, as_path=True, **more)
        assert_equal(got["types"], [dtype or "float32"], name="types of the parameters")
        assert got["trainable"], "parameters that were loaded want gradients, as fresh ones do"
        assert got["training"] is False, "the model comes in eval mode"
        for name, array in stored.items():
            kind = getattr(torch, dtype or "float32")
            want = torch.tensor(array).to(kind).to(torch.float64).numpy()
            assert_equal(np.asarray(got["weights"][name], np.float64), want, name=name)
        logits = reference_logits(tensors(stored), sizes, torch.tensor(ids)).numpy()
        bound = 0.25 if dtype == "bfloat16" else 1e-3
        assert_close(got["logits"], logits, rtol=bound, atol=bound, name=f"logits, {dtype}")


@number("3.5")
@weight(0.5)
def test_more_files_that_do_not_fit(student, rng):
    """Scaled or partial rotation, layers too many or too few, swapped sizes, no embedding."""
    weights = random_weights(rng, FILED)
    square = np.zeros((FILED.num_kv_heads * FILED.head_dim, FILED.hidden_size))
    for changes, naming in [
        ({"metadata": {"llama.rope.scaling.type": "yarn"}}, "yarn"),
        ({"metadata": {"llama.rope.dimension_count": 8}}, "llama.rope.dimension_count"),
        ({"metadata": {"llama.block_count": 2}}, "blk.2"),
        ({"metadata": {"llama.block_count": 4}}, "blocks.3"),
        ({"metadata": {"llama.embedding_length": None}}, "llama.embedding_length"),
        ({"tensors": {"token_embd.weight": None}}, "token_embd.weight"),
        ({"tensors": {"blk.0.attn_q.weight": square}}, "blk.0.attn_q.weight"),
        ({"tensors": {"blk.2.attn_k.weight": square[:-3]}}, "blk.2.attn_k.weight"),
        ({"tensors": {"blk.1.ffn_gate.weight": np.zeros((96, 64))}}, "blk.1.ffn_gate.weight"),
        ({"tensors": {"rope_freqs.weight": np.ones(8)}}, "rope_freqs.weight"),
    ]:
        file = GGUFFile(FILED, weights, **changes).written()
        student.raises(drivers_gguf.load, "ValueError", naming=naming, file=file)
    plain = GGUFFile(FILED, weights, metadata={"llama.rope.scaling.type": "none"}).written()
    got = student.run(drivers_gguf.load, file=plain)
    assert_equal(sorted(got["weights"]), sorted(weights), name="parameters of a file that fits")


@number("3.5")
@weight(0.25)
def test_bfloat16(student, rng):
    """A model in bfloat16 stays near the oracle, and its logits are bfloat16."""
    weights, ids = random_weights(rng, SIZES, scale=0.1), random_ids(rng, SIZES, 2, 5)
    got = student.run(
        drivers.answer, sizes=SIZES.fields(), weights=weights, ids=ids, dtype="bfloat16"
    )
    rounded = {n: torch.tensor(a).bfloat16().float().numpy() for n, a in weights.items()}
    expected = expected_answer(rounded, SIZES, {"ids": ids})["logits"]
    assert got["dtype"] == "bfloat16", f"logits are {got['dtype']}"
    assert np.abs(expected).max() > 1, "a weak test: logits are near 0"
    assert_close(got["value"], expected, rtol=0.05, atol=0.06, name="logits in bfloat16")


@number("3.5")
@weight(0.75)
def test_any_sizes_with_padding_and_positions(student, rng):
    """Random sizes, documents with padding, positions far out: logits and every gradient."""
    for place in range(4):
        kv_heads, group, half, layers = (int(n) for n in rng.integers(1, 4, 4))
        sizes = Sizes(
            vocab_size=int(rng.integers(5, 40)), hidden_size=2 * half * kv_heads * group,
            num_heads=kv_heads * group, num_kv_heads=kv_heads, num_layers=layers,
            intermediate_size=int(rng.integers(1, 30)), rope_theta=float(rng.integers(20, 20_000)),
            norm_eps=float(10.0 ** rng.integers(-6, -1)), tie_embeddings=bool(place % 2),
        )  # fmt: skip
        weights = random_weights(rng, sizes, scale=0.4)
        documents = packed_documents(rng, 2, 8)
        call = {"ids": random_ids(rng, sizes, 2, 8), "documents": documents,
                "positions": positions_of(documents) + 200 * (place == 3)}  # fmt: skip
        upstream = rng.standard_normal((2, 8, sizes.vocab_size))
        upstream[documents < 0] = 0.0  # padding's own logits are nobody's business
        got = student.run(
            drivers.answer, sizes=sizes.fields(), weights=weights, upstream=upstream, **call
        )
        expected = expected_answer(weights, sizes, call, upstream)
        inside, text = documents >= 0, f"{sizes.num_heads} heads over {kv_heads}, {layers} layers"
        assert_close(np.asarray(got["value"])[inside], expected["logits"][inside], rtol=1e-3,
                     atol=2e-4, name=f"logits, {text}", hint=MODEL)  # fmt: skip
        check_gradients(got["gradients"], expected["gradients"], text)


@number("3.5")
@weight(0.75)
def test_smollm2_on_other_ids(student):
    """The real SmolLM2-135M on random ids: logits of transformers within 1e-3."""
    path = packaged("smollm2")
    with np.load(RANDOM) as arrays:
        golden = dict(arrays)
    got = student.run(
        drivers_gguf.real, timeout=60, path=str(path), ids=golden["ids"], columns=golden["columns"]
    )
    assert_close(
        got["logits"], golden["logits"], rtol=0, atol=1e-3, name="logits of SmolLM2-135M"
    )
