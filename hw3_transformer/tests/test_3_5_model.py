"""Task 3.5: the whole model against another way to write it, and weights from GGUF files."""

from __future__ import annotations

import drivers_gguf
import drivers_model as drivers
import numpy as np
import torch
from attention_cases import packed_documents, packed_mask, positions_of
from gguf_files import GGUFFile
from gradescope_utils.autograder_utils.decorators import number, weight
from model_cases import (
    CLOSE,
    GOLDEN,
    MODEL,
    check_gradients,
    expected_answer,
    random_ids,
)
from tiny_model import Sizes, random_weights, reference_logits, tensors

from autograder.testing import Hint, Measure, assert_close, assert_equal, packaged

SIZES = Sizes()
# As in the real file, hidden and intermediate size are multiples of 32, the block of Q4_1.
FILED = Sizes(
    vocab_size=61, hidden_size=64, num_heads=4, num_kv_heads=2, intermediate_size=96,
    rope_theta=100_000.0,
)  # fmt: skip
INTERLEAVED = (
    "query and key rows of a file are interleaved: rows 2i and 2i + 1 of a head turn together, "
    "apply_rope wants them head_dim/2 apart; undo it with num_heads for the query and "
    "num_kv_heads for the key"
)


@number("3.5")
@weight(1)
def test_logits_equal_another_implementation(student, rng):
    """Hidden states and logits in float64, embeddings tied and not, for several shapes."""
    for sizes, batch, time in [
        (SIZES, 2, 9), (SIZES.but(tie_embeddings=False, num_layers=3), 1, 5),
        (SIZES.but(num_heads=4, num_kv_heads=1, norm_eps=0.1, rope_theta=300.0), 3, 1),
    ]:  # fmt: skip
        weights, ids = random_weights(rng, sizes), random_ids(rng, sizes, batch, time)
        got = student.run(drivers.answer, sizes=sizes.fields(), weights=weights, ids=ids)
        expected = expected_answer(weights, sizes, {"ids": ids})
        tied = "tied" if sizes.tie_embeddings else "not tied"
        text = f"ids {ids.shape}, {sizes.num_layers} layers, {tied}"
        assert_close(got["hidden"], expected["hidden"], **CLOSE, name=f"hidden_states, {text}",
                     hint=Hint(values=MODEL))  # fmt: skip
        assert_close(got["value"], expected["logits"], **CLOSE, name=f"logits, {text}",
                     hint="hidden @ head_weight.T: the embedding's weight where tied")  # fmt: skip
        assert_close(got["last"], expected["logits"][:, -1], **CLOSE,
                     name=f"logits of hidden[:, -1], {text}")  # fmt: skip
        assert_close(got["forward"], expected["logits"], **CLOSE, name=f"model(ids), {text}")
        # A shift would cancel in every score: positions with gaps show whether they are used.
        call = {"ids": ids, "positions": np.cumsum(rng.integers(1, 6, ids.shape), axis=1)}
        got = student.run(drivers.logits, sizes=sizes.fields(), weights=weights, dtype="float64",
                          **call)  # fmt: skip
        assert_close(got, expected_answer(weights, sizes, call)["logits"], **CLOSE,
                     name=f"logits at positions with gaps, {text}",
                     hint="positions, where given, go to rope_tables")  # fmt: skip


@number("3.5")
@weight(0.25)
def test_a_block_adds_twice(student, rng):
    """Block: x plus attention of the norm, and that plus the MLP of its norm."""
    sizes = SIZES.but(num_layers=1)
    weights = random_weights(rng, sizes)
    x = rng.standard_normal((2, 4, sizes.hidden_size))
    # The oracle runs from ids: an embedding that holds x's rows makes it run from x.
    rows = {**weights, "embedding.weight": x.reshape(8, -1), "norm.weight": np.ones(48)}
    ids = np.arange(8).reshape(2, 4)
    documents = np.zeros((2, 4), np.int64)
    after = student.run(
        drivers.block, sizes=sizes.fields(), weights=weights, x=x, positions=np.arange(4),
        mask=packed_mask(documents),
    )  # fmt: skip
    normalised = expected_answer(rows, sizes.but(vocab_size=8), {"ids": ids})["hidden"]
    after = np.asarray(after)
    assert after.shape == x.shape, f"Block gives {after.shape} for {x.shape}"
    scale = np.sqrt((after * after).mean(-1, keepdims=True) + sizes.norm_eps)
    assert_close(after / scale, normalised, **CLOSE, name="the block's result, normalised",
                 hint=MODEL)  # fmt: skip
    assert np.abs(after - x).max() > 0.1, "the block left x as it was"


@number("3.5")
@weight(0.75)
def test_every_gradient(student, rng):
    """The gradient of each parameter, embeddings tied and not, by the oracle's autograd."""
    for sizes in (SIZES, SIZES.but(tie_embeddings=False)):
        weights, ids = random_weights(rng, sizes), random_ids(rng, sizes, 2, 6)
        upstream = rng.standard_normal((2, 6, sizes.vocab_size))
        got = student.run(
            drivers.answer, sizes=sizes.fields(), weights=weights, ids=ids, upstream=upstream
        )
        expected = expected_answer(weights, sizes, {"ids": ids}, upstream)
        text = "tied" if sizes.tie_embeddings else "not tied"
        check_gradients(got["gradients"], expected["gradients"], text)


@number("3.5")
@weight(0.75)
def test_packed_documents_are_kept_apart(student, rng):
    """Positions and documents reach every block: each document gets the logits it gets alone."""
    weights = random_weights(rng, SIZES)
    documents = packed_documents(rng, 2, 12)
    ids, positions = random_ids(rng, SIZES, 2, 12), positions_of(documents)
    got = np.asarray(student.run(
        drivers.logits, sizes=SIZES.fields(), weights=weights, ids=ids, positions=positions,
        documents=documents, dtype="float64",
    ))  # fmt: skip
    assert got.shape == (2, 12, SIZES.vocab_size), f"logits of shape {got.shape}"
    assert np.isfinite(got).all(), "NaN or infinite logits, perhaps of padding (document -1)"
    for row in range(2):
        for name in np.unique(documents[row][documents[row] >= 0]):
            inside = documents[row] == name
            alone = expected_answer(weights, SIZES, {"ids": ids[row : row + 1, inside]})["logits"]
            assert_close(
                got[row, inside], alone[0], **CLOSE, name=f"logits of document {name}, row {row}",
                hint="positions go to rope_tables, documents to attention_mask; which token is "
                "earlier is decided by the order in the row, since positions start again",
            )  # fmt: skip


@number("3.5")
@weight(0.75)
def test_a_small_file_gives_its_weights(student, rng):
    """load_gguf of a file as SmolLM2's: Q8_0 embedding, Q4_1 matrices, interleaved query and key."""
    weights = random_weights(rng, FILED)
    file = GGUFFile(FILED, weights)
    stored = file.stored()
    ids = random_ids(rng, FILED, 2, 7)
    got = student.run(drivers_gguf.load, file=file.written(), ids=ids)
    config = {name: got["config"][name] for name in FILED.fields()}
    eps = config.pop("norm_eps")
    expected = {name: value for name, value in FILED.fields().items() if name != "norm_eps"}
    assert_equal(config, expected, name="model.config")
    assert_close(eps, FILED.norm_eps, name="config.norm_eps")
    assert got["training"] is False, "the model comes in eval mode"
    assert sorted(got["weights"]) == sorted(stored), f"parameters {sorted(got['weights'])}"
    for name, array in stored.items():
        turns = name.endswith(("query.weight", "key.weight"))
        assert_equal(got["weights"][name], array, name=name, hint=INTERLEAVED if turns else "")
    logits = reference_logits(tensors(stored), FILED, torch.tensor(ids)).numpy()
    assert_close(got["logits"], logits, rtol=1e-3, atol=1e-3, name="logits of the loaded model")


@number("3.5")
@weight(0.5)
def test_files_that_do_not_fit_are_refused(student, rng):
    """A missing or unknown tensor, another shape or architecture, a missing field: ValueError."""
    weights = random_weights(rng, FILED)
    wrong = np.zeros((FILED.hidden_size, FILED.intermediate_size + 32))
    for changes, naming in [
        ({"tensors": {"blk.1.ffn_up.weight": None}}, "blocks.1.ffn.up.weight"),
        ({"tensors": {"output_norm.weight": None}}, "norm.weight"),
        ({"tensors": {"blk.0.ffn_down.weight": wrong}}, "blk.0.ffn_down.weight"),
        ({"tensors": {"blk.0.attn_q.bias": np.zeros(64)}}, "blk.0.attn_q.bias"),
        ({"architecture": "gpt2"}, "gpt2"),
        ({"metadata": {"llama.attention.head_count": None}}, "llama.attention.head_count"),
    ]:
        file = GGUFFile(FILED, weights, **changes).written()
        student.raises(drivers_gguf.load, "ValueError", naming=naming, file=file)
    student.run(drivers_gguf.load, file=GGUFFile(FILED, weights).written())  # the whole one loads


@number("3.5")
@weight(1.25)
def test_smollm2_equals_transformers(student):
    """The real SmolLM2-135M: logits within 1e-3, 100 greedy tokens, no weight held twice."""
    path = packaged("smollm2")
    with np.load(GOLDEN) as arrays:
        golden = dict(arrays)
    ids = np.concatenate([golden["ids"], golden["following"]])
    memory = student.memory(
        drivers_gguf.real, timeout=60, path=str(path), ids=ids, columns=golden["columns"]
    )
    got, prompt = memory.value, len(golden["ids"])
    assert_close(
        got["logits"], golden["logits"], rtol=0, atol=1e-3, name="logits of SmolLM2-135M",
        hint="the tiny models are right and this one is not? Look at what they share by chance: "
        "rope_theta is 100,000 here, 9 heads share 3 key heads",
    )  # fmt: skip
    assert_close(got["logsumexp"], golden["logsumexp"], rtol=0, atol=1e-3, name="logsumexp")
    assert_equal(got["highest"], golden["highest"], name="the likeliest next tokens")
    # Each token that greedy decoding wrote is the argmax at the place before it.
    greedy = np.asarray(got["highest"])[prompt - 1 : -1]
    assert_equal(greedy, golden["following"], name="100 greedy tokens, as transformers writes them")
    extra = memory.extra_bytes / 2**20
    weights = 134_515_008 * 4 / 2**20
    student.measure(Measure(name="loading SmolLM2-135M", value=extra, unit="MB", full=LOADING_MB))
    assert extra < LOADING_MB, (
        f"loading and running took {extra:.0f} MB on top; the weights are {weights:.0f} MB\n"
        "hint: make the model on the meta device and load_state_dict(state, assign=True); keep no "
        "second list of dequantised arrays"
    )


LOADING_MB = 950
