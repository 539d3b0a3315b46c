"""Task 3.8, hidden: quantised bases, heads, dropout, saving and loading, small types."""

from __future__ import annotations

import drivers_lora as drivers
import numpy as np
import torch
from gradescope_utils.autograder_utils.decorators import number, weight
from lora_cases import (
    ALL,
    SMALL,
    adapted_paths,
    folded,
    oracle_logits,
    random_adapter,
    random_problem,
)
from tiny_model import random_weights

from autograder.testing import assert_close, assert_equal


def _rounded(weight: np.ndarray, bits: int, group: int) -> np.ndarray:
    """What is left of a weight after groups of a row share a scale."""
    limit = 2 ** (bits - 1) - 1
    groups = weight.reshape(len(weight), -1, group).astype(np.float64)
    scales = np.abs(groups).max(-1, keepdims=True) / limit
    scales = np.where(scales == 0, 1, scales)
    return (np.clip(np.round(groups / scales), -limit, limit) * scales).reshape(weight.shape)


def _no_ties(weight: np.ndarray, bits: int, group: int) -> np.ndarray:
    """The weight, each entry kept 0.02 steps from where float32 and float64 may round apart."""
    limit = 2 ** (bits - 1) - 1
    groups = weight.reshape(len(weight), -1, group).astype(np.float64)
    scales = np.abs(groups).max(-1, keepdims=True) / limit
    steps = groups / np.where(scales == 0, 1, scales)
    offset = steps - np.floor(steps) - 0.5
    steps = steps + np.where(np.abs(offset) < 0.02, np.where(offset < 0, -0.02, 0.02), 0)
    return (steps * scales).reshape(weight.shape).astype(weight.dtype)


@number("3.8")
@weight(0.5)
def test_over_a_quantised_base(student, rng):
    """8 and 4 bits: output, gradients, training, merging to floats, and back to the same codes."""
    for bits in (8, 4):
        w, a, b = (rng.standard_normal(s) for s in ((6, 16), (2, 16), (6, 2)))
        w = _no_ties(w, bits, 8)
        x, upstream = rng.standard_normal((5, 16)), rng.standard_normal((5, 6))
        got = student.run(
            drivers.one_layer, weight=w, a=a, b=b, alpha=3.0, x=x, upstream=upstream, bits=bits
        )
        effective = _rounded(w, bits, 8) + 1.5 * b @ a
        about = f"over {bits} bits"
        assert_close(got["output"], x @ effective.T, rtol=1e-6, atol=1e-6, name=f"output {about}")
        assert_close(got["x"], upstream @ effective, rtol=1e-6, atol=1e-6, name=f"x.grad {about}")
        assert_close(
            got["b"], 1.5 * upstream.T @ x @ a.T, rtol=1e-6, atol=1e-6, name=f"B.grad {about}"
        )
        problem = random_problem(rng, ["query", "up"])
        quantised = [n for n, a in problem.weights.items() if n.startswith("blocks.") and a.ndim == 2]
        for name in quantised:
            problem.weights[name] = _no_ties(problem.weights[name], bits, 8)
        small = problem.weights | {n: _rounded(problem.weights[n], bits, 8) for n in quantised}
        expected = oracle_logits(
            folded(small, problem.adapter, problem.rank, problem.alpha), SMALL, problem.ids
        )
        first, off, _, merged, merged_off, _, again, plain = student.run(
            drivers.adapted, **problem.asked(), bits=bits,
            steps=["logits", "disabled", "merge", "logits", "disabled", "unmerge", "logits", "plain"],
        )  # fmt: skip
        near = {"rtol": 0, "atol": 1e-4 * float(np.abs(expected).max())}
        assert_close(first, expected, **near, name=f"logits {about}")
        hint = "the merged weight must be float: quantising it again rounds the update away"
        assert_close(merged, expected, **near, name=f"merged logits {about}", hint=hint)
        assert_close(plain, expected, **near, name=f"logits of merged_state, {about}")
        assert_equal(again, first, name=f"logits after merge and unmerge, {about}")
        assert_equal(merged_off, off, name=f"logits when off, merged, {about}")
    weights = random_weights(rng, SMALL)
    ids = rng.integers(0, SMALL.vocab_size, (4, 12))
    trained = student.run(
        drivers.train_adapter, sizes=SMALL.fields(), weights=weights, ids=ids, rank=4, steps=8,
        bits=4,
    )  # fmt: skip
    names = sorted(f"{p}.lora_{x}" for p in adapted_paths(SMALL, ["query", "value"]) for x in "ab")
    assert trained["losses"][-1] < trained["losses"][0] - 0.02, "the loss did not fall over 4 bits"
    assert trained["moved"] == trained["with state"] == names, f"moved: {trained['moved']}"


@number("3.8")
@weight(0.25)
def test_the_graph_keeps_no_float_weights_of_a_quantised_base(student, rng):
    """A forward pass over 26 million 4-bit weights leaves less than 40 MB; floats are 103 MB."""
    sizes = SMALL.but(
        hidden_size=512, num_layers=8, num_heads=8, num_kv_heads=4, intermediate_size=1408
    )
    training = student.session(drivers.QuantizedTraining, sizes=sizes.fields())
    ids = rng.integers(0, sizes.vocab_size, (1, 9))
    plain = training.call("without_graph", ids=ids)
    before = training.resident_bytes()
    loss = training.call("with_graph", ids=ids)
    grown = training.resident_bytes() - before
    norms = np.asarray(training.call("backward"))
    assert_close(loss, plain, rtol=1e-5, name="the loss, with a graph and without")
    assert len(norms) == 56 and norms.min() > 0, "not every B got a gradient"
    assert grown < 40 << 20, (
        f"the graph of one short forward pass holds {grown >> 20} MB: call the base layer, which "
        "keeps its codes; a product with `base.weight` keeps the floats it was made into"
    )


@number("3.8")
@weight(0.5)
def test_states_hold_the_adapter_alone_and_wrong_ones_are_refused(student, rng):
    """adapter_state is a copy; missing, unknown and misshapen tensors are named, nothing changes."""
    weights, targets = random_weights(rng, SMALL), ["query", "value"]
    good = random_adapter(rng, SMALL, 3, targets)
    some = "blocks.1.attention.value.lora_b"
    wrong = {
        "missing": ({n: a for n, a in good.items() if n != some}, some),
        "unknown": (good | {"blocks.0.ffn.up.lora_a": good[some]}, "blocks.0.ffn.up.lora_a"),
        "misshapen": (good | {some: good[some][:, :2]}, some),
        "transposed": (good | {some: good[some].T.copy()}, some),
    }
    asked = {"sizes": SMALL.fields(), "weights": weights, "rank": 3}
    for what, (state, name) in wrong.items():
        student.raises(drivers.load_into, "ValueError", naming=name, state=state, **asked)
        other = {n: a + np.float32(1) for n, a in state.items()}
        raised, after, saved = student.run(drivers.refused_load, good=good, bad=other, **asked)
        assert raised == "ValueError", f"a state with a {what} tensor raised {raised or 'nothing'}"
        for key, array in good.items():
            assert_equal(after[key], array, name=f"{key} after a {what} tensor was refused")
            assert_equal(
                saved[key], array, name=f"the saved {key}", hint="a state is a copy, not a view"
            )
    student.raises(drivers.load_into, "RuntimeError", state=good, merged=True, **asked)


@number("3.8")
@weight(0.5)
def test_tied_heads_are_refused_and_free_ones_adapted(student, rng):
    """A tied head has no layer of its own; an untied one gets an adapter that logits go through."""
    weights = random_weights(rng, SMALL)
    asked = {"sizes": SMALL.fields(), "weights": weights}
    for target in ("head", "embedding", "nothing"):
        student.raises(
            drivers.attach_wrongly, "ValueError", naming=target, **asked, first=[],
            then=["query", target],
        )  # fmt: skip
    raised, adapters, frozen = student.run(
        drivers.unchanged_by_refusal, **asked, targets=["value", "head"]
    )
    assert [raised, adapters, frozen] == ["ValueError", 0, 0], (
        f"after a refused call: {raised}, {adapters} adapters, {frozen} frozen parameters; check "
        "every target before changing anything"
    )
    student.raises(
        drivers.attach_wrongly, "ValueError", **asked, first=["query"], then=["value", "query"]
    )
    student.raises(drivers.attach_wrongly, "ValueError", **asked, first=[], then=["up"], rank=0)
    more = student.run(drivers.attach_twice, **asked)
    assert len(more["trainable"]) == 8 and more["new"] == 2, (
        f"after a second attach_lora, trainable are {more['trainable']}; expected both adapters"
    )
    free = SMALL.but(tie_embeddings=False)
    problem = random_problem(rng, ["head", "value"], free)
    logits, off, _, merged, head, plain = student.run(
        drivers.adapted, **problem.asked(),
        steps=["logits", "disabled", "merge", "logits", "head", "plain"],
    )  # fmt: skip
    near = {"rtol": 0, "atol": 1e-4 * float(np.abs(problem.expected).max())}
    assert_close(logits, problem.expected, **near, name="logits, adapter on an untied head")
    assert_close(off, problem.plain, **near, name="logits when off, adapter on an untied head")
    assert_close(merged, problem.expected, **near, name="merged logits, adapter on an untied head")
    assert_close(plain, problem.expected, **near, name="logits of merged_state")
    both = folded(problem.weights, problem.adapter, problem.rank, problem.alpha)
    assert_close(head, both["head.weight"], rtol=0, atol=1e-5, name="head_weight, merged")
    student.raises(
        drivers.attach_wrongly, "ValueError", sizes=free.fields(), weights=problem.weights,
        first=[], then=["head"], dropout=0.1,
    )  # fmt: skip


@number("3.8")
@weight(0.5)
def test_dropout_acts_on_the_adapters_input_in_training_only(student, rng):
    """Off in evaluation and in a model that was evaluating when adapters came; unbiased in training."""
    problem = random_problem(rng)
    asked = {name: value for name, value in problem.asked().items() if name != "targets"}
    for evaluating in (False, True):
        got = student.run(drivers.with_dropout, **asked, dropout=0.4, evaluating=evaluating)
        near = {"rtol": 0, "atol": 1e-4 * float(np.abs(problem.expected).max())}
        one, two = got["evaluating"]
        assert_close(one, problem.expected, **near, name="logits in evaluation mode")
        assert_equal(two, one, name="logits in evaluation mode, again")
        assert np.abs(got["training"][0] - got["training"][1]).max() > 1e-3, "nothing was dropped"
        assert_close(
            got["off"], problem.plain, **near, name="logits in training mode, adapters off"
        )
        if evaluating:
            assert_equal(
                got["as attached"][0], got["as attached"][1],
                name="two passes of a model that was in evaluation mode before attach_lora",
                hint="a new module starts in training mode; take over the base's",
            )  # fmt: skip
    # Two features, one kept or not: the four possible outputs are told apart exactly.
    w, a, b = np.eye(2) * 100.0, np.array([[1.0, 3.0]]), np.array([[1.0], [2.0]])
    x = np.array([[1.0, 1.0]]) * float(rng.uniform(1, 2))
    p, times = 0.25, 4000
    got = student.run(drivers.dropped_layer, x=x, a=a, b=b, weight=w, dropout=p, times=times)
    extra = (np.asarray(got)[:, 0] - x @ w.T) / (x[0, 0] / (1 - p))  # (times, 2)
    allowed = np.array([0.0, 1.0, 3.0, 4.0])
    assert np.abs(extra[:, :1] - allowed).min(1).max() < 1e-6 and np.allclose(
        extra[:, 1], 2 * extra[:, 0]
    ), "the adapter adds something else than kept inputs / (1 − p) through A and B"
    # Each count is binomial: 0.1 is more than twelve deviations of a share of 4,000.
    shares = [(np.abs(extra[:, 0] - value) < 1e-6).mean() for value in allowed]
    expected = [p * p, p * (1 - p), p * (1 - p), (1 - p) ** 2]
    assert_close(np.array(shares), expected, rtol=0, atol=0.1, name="shares of what is kept")


@number("3.8")
@weight(0.25)
def test_a_bfloat16_base_keeps_a_float32_adapter(student, rng):
    """A and B are float32, the merged weight is rounded once, the rest of the bits come back."""
    weights = {
        name: torch.tensor(array).bfloat16().float().numpy()
        for name, array in random_weights(rng, SMALL).items()
    }
    ids = rng.integers(0, SMALL.vocab_size, (1, 5))
    fresh = student.run(
        drivers.fresh_adapters, sizes=SMALL.fields(), weights=weights, ids=ids, rank=2, targets=ALL,
        seed=1, dtype="bfloat16", evaluating=True,
    )  # fmt: skip
    assert fresh["dtypes"] == ["torch.float32"], f"A and B over bfloat16 are {fresh['dtypes']}"
    assert_equal(fresh["after"], fresh["before"], name="logits of a new adapter, bfloat16")
    adapter = random_adapter(rng, SMALL, 3, ["gate"])
    _, state, _, base = student.run(
        drivers.adapted, sizes=SMALL.fields(), weights=weights, ids=ids, adapter=adapter, rank=3,
        alpha=1.5, targets=["gate"], dtype="bfloat16",
        steps=["merge", "merged_state", "unmerge", "base"],
    )  # fmt: skip
    assert sorted(state) == sorted(weights), f"merged_state has {sorted(state)}"
    both = folded(weights, adapter, 3, 1.5)
    for name, array in weights.items():
        assert_equal(base[name], array, name=f"{name} after merge and unmerge")
        if "gate" not in name:
            assert_equal(state[name], array, name=f"merged {name}")
        else:  # one rounding to 8 bits: half a unit in the last place
            near = 2.0**-8 * 1.01
            assert_close(
                state[name], both[name], rtol=near, atol=1e-6, name=f"merged {name}",
                hint="form the sum in float32 and round once",
            )  # fmt: skip
