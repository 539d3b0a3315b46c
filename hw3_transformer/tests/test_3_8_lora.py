"""Task 3.8: low-rank adapters: closed form, peft's logits, freezing, merging, switching off."""

from __future__ import annotations

import drivers_lora as drivers
import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight
from lora_cases import (
    ALL,
    SMALL,
    adapted_paths,
    batch_order,
    folded,
    golden,
    held_out_loss,
    random_problem,
    small_base,
)
from tiny_model import random_weights

from autograder.testing import Hint, Measure, assert_close, assert_equal, reported_by_worker

VIEWS = "adapter_state gave views; the saved state changed with the model: clone A and B"
BASE_HINT = "keep the base's weight itself; (W + D) − D is not W in floating point"


@number("3.8")
@weight(0.75)
def test_one_layer_is_the_closed_form(student, rng):
    """Output x·(W + (alpha/rank)·B·A)ᵀ, and the gradients of x, A and B; none for W."""
    for _ in range(3):
        rows, wide, out, rank = (int(rng.integers(low, 9)) for low in (2, 5, 4, 1))
        alpha = float(rng.choice([0.5, 3.0, 16.0]))
        w, a, b = (rng.standard_normal(s) for s in ((out, wide), (rank, wide), (out, rank)))
        x, upstream = rng.standard_normal((rows, wide)), rng.standard_normal((rows, out))
        got = student.run(
            drivers.one_layer, weight=w, a=a, b=b, alpha=alpha, x=x, upstream=upstream
        )
        about, scale = f"in {wide}, out {out}, rank {rank}, alpha {alpha:g}", alpha / rank
        effective = w + scale * b @ a
        expected = {
            "output": x @ effective.T, "x": upstream @ effective, "base": w, "weight": effective,
            "a": scale * b.T @ upstream.T @ x, "b": scale * upstream.T @ x @ a.T,
            "update": scale * b @ a,
        }  # fmt: skip
        for name, theirs in expected.items():
            label = f"{'gradient of ' if name in 'abx' else ''}{name}, {about}"
            assert_close(
                got[name], theirs, rtol=1e-9, atol=1e-10, name=label,
                hint=Hint(values="the factor is alpha / rank", dtype=""),
            )  # fmt: skip
        assert not got["base gradient"], "the base's weight got a gradient"
        exchanged = not np.any(got["started"]["a"]) and np.any(got["started"]["b"])
        hint = "a new adapter changes nothing: A is random and B zero"
        assert_equal(
            got["started"]["b"], np.zeros((out, rank)), name="B of a new layer",
            hint=hint + "; yours look exchanged" if exchanged else hint,
        )  # fmt: skip
        assert got["dtypes"] == ["torch.float64"] * 2, (
            f"A and B over a float64 base are {got['dtypes']}"
        )


@number("3.8")
@weight(1)
def test_logits_are_those_of_peft(student):
    """With the same A and B, the logits are peft's within 1e-5, on attention and on everything."""
    for case, problem in golden().problems.items():
        logits, merged, off = [
            part for part in student.run(
                drivers.adapted, **problem.asked(), steps=["logits", "merge", "logits", "disabled"]
            ) if part is not None
        ]  # fmt: skip
        theirs = golden().logits[case]
        about = f"adapters on {', '.join(problem.targets)}"
        assert np.abs(theirs - problem.plain).max() > 0.1, "the golden adapter changes nothing"
        hint = f"alpha {problem.alpha:g}, rank {problem.rank}: scale B·A by alpha / rank"
        assert_close(logits, theirs, rtol=0, atol=1e-5, name=f"logits, {about}", hint=hint)
        assert_close(merged, theirs, rtol=0, atol=1e-5, name=f"merged logits, {about}")
        assert_close(off, problem.plain, rtol=0, atol=1e-5, name=f"logits when off, {about}")


@number("3.8")
@reported_by_worker
@weight(0.75)
def test_attaching_changes_no_logit_and_freezes_the_rest(student, rng):
    """B is zero, so the logits keep every bit; A and B alone are trainable; names, order, count."""
    weights = random_weights(rng, SMALL)
    ids = rng.integers(0, SMALL.vocab_size, (2, 6))
    for targets in (["query", "value"], ["down", "key"], ALL):
        rank = int(rng.integers(1, 5))
        got = student.run(
            drivers.fresh_adapters, sizes=SMALL.fields(), weights=weights, ids=ids, rank=rank,
            targets=targets, seed=3,
        )  # fmt: skip
        about = f"targets {targets}"
        assert np.ptp(got["before"]) > 0.5, "the model's logits are all alike"
        assert_equal(
            got["after"], got["before"], name=f"logits of a new adapter, {about}",
            hint="B is zero, and so is what a new adapter adds",
        )  # fmt: skip
        paths = list(adapted_paths(SMALL, targets))
        assert sorted(got["names"]) == sorted(paths), f"{about}: adapted are {got['names']}"
        assert got["returned"] == got["names"], f"{about}: the list returned is {got['returned']}"
        expected = sorted(f"{path}.lora_{part}" for path in paths for part in "ab")
        assert sorted(got["trainable"]) == expected, (
            f"{about}: trainable are {got['trainable']}; freeze embedding, norms and every base"
        )
        assert sorted(got["state"]) == expected, f"{about}: adapter_state has {list(got['state'])}"
        trained = sum(array.size for array in got["state"].values())
        whole = trained + sum(array.size for array in weights.values())
        assert got["counts"] == [trained, whole], (
            f"{about}: count_parameters gives {got['counts']}, expected {[trained, whole]}: a tied "
            "embedding counts once"
        )


@number("3.8")
@reported_by_worker
@weight(0.5)
def test_a_is_drawn_from_the_seed(student, rng):
    """A is uniform in ±1/sqrt(in), other numbers in each layer, the same for the same seed."""
    weights = random_weights(rng, SMALL)
    asked = {
        "sizes": SMALL.fields(), "weights": weights, "ids": np.zeros((1, 2), np.int64), "rank": 8,
        "targets": ["query", "value"],
    }  # fmt: skip
    seed = int(rng.integers(1, 2**31))
    one, same, other = (
        student.run(drivers.fresh_adapters, **asked, seed=s) for s in (seed, seed, seed + 1)
    )
    firsts = [name for name in one["state"] if name.endswith("lora_a")]
    assert len(firsts) == 4, f"A of 4 layers was expected, there are {firsts}"
    drawn = np.stack([one["state"][name] for name in firsts])  # (layers, rank, in)
    bound = SMALL.hidden_size**-0.5
    # 1,024 uniform numbers: the largest is below 0.97 of the bound with probability 1e-13, and the
    # mean of squares is off by a tenth, which is 3.6 deviations, about once in 3,000 cases: 1/5 is.
    assert 0.97 * bound < np.abs(drawn).max() <= bound, (
        f"the largest entry of A is {np.abs(drawn).max():.4f}; uniform in ±{bound:.4f} was asked "
        "(A is the random one, B is zero)"
    )
    assert abs((drawn**2).mean() * 3 / bound**2 - 1) < 0.25, "A is not uniform"
    assert len(np.unique(drawn)) > 1000, "layers or rows share their A: one generator for all"
    for name in firsts:
        assert_equal(same["state"][name], one["state"][name], name=f"{name}, the same seed again")
        assert np.all(other["state"][name] != one["state"][name]), f"{name}: seeds do not matter"
    assert one["undisturbed"], "torch's global generator was used or reseeded"


@number("3.8")
@reported_by_worker
@weight(0.75)
def test_training_moves_the_adapter_alone(student, rng):
    """AdamW over every parameter: the base has no gradient, no optimizer state, the old bits."""
    weights = random_weights(rng, SMALL)
    ids = rng.integers(0, SMALL.vocab_size, (4, 12))
    got = student.run(
        drivers.train_adapter, sizes=SMALL.fields(), weights=weights, ids=ids, rank=4, steps=8
    )
    names = sorted(f"{p}.lora_{x}" for p in adapted_paths(SMALL, ["query", "value"]) for x in "ab")
    assert got["losses"][-1] < got["losses"][0] - 0.02, (
        f"eight steps took the loss from {got['losses'][0]:.3f} to {got['losses'][-1]:.3f}"
    )
    for what in ("names", "moved", "gradients", "with state"):
        assert got[what] == names, f"parameters {what}: {got[what]}, expected A and B alone"


@number("3.8")
@weight(1)
def test_merging_and_unmerging_lose_no_bit(student, rng):
    """Ten times there and back: base and logits have their old bits. Merging twice adds once."""
    problem = random_problem(rng, ["query", "value", "down"])
    there_and_back = ["merge", "unmerge"] * 10
    before, attached, _, merged, _, twice, *rest = student.run(
        drivers.adapted, **problem.asked(),
        steps=["base", "logits", "merge", "logits", "merge", "logits", *there_and_back, "base",
               "logits", "state", "merge", "train", "merge", "logits", "unmerge", "logits"],
    )  # fmt: skip
    after, again, state, _, _, _, merged_after, _, trained = rest[len(there_and_back) :]
    expected = problem.expected
    scale = float(np.abs(expected).max())
    assert np.abs(expected - problem.plain).max() > 0.05 * scale, "the adapter changes nothing"
    near = {"rtol": 0, "atol": 2e-5 * scale}
    assert_close(attached, expected, **near, name="logits, not merged")
    assert_close(merged, expected, **near, name="merged logits")
    assert_equal(twice, merged, name="logits, merged twice", hint="merge from the base each time")
    for name, array in problem.weights.items():
        assert_equal(before[name], array, name=f"{name} before")
        assert_equal(after[name], array, name=f"{name} after ten merges", hint=BASE_HINT)
    assert_equal(again, attached, name="logits after ten merges", hint=BASE_HINT)
    for name, array in problem.adapter.items():
        views = np.allclose(np.asarray(state[name]), array + 0.25)  # what "train" adds later
        assert_equal(
            state[name], array, name=f"{name} as adapter_state gave it after ten merges",
            hint=VIEWS if views else "merging changes the merged weight, never A or B",
        )  # fmt: skip
    assert_close(
        merged_after, trained, **near, name="logits, merged after one more step of training",
        hint="A and B have moved since the last merge: form the merged weight anew",
    )  # fmt: skip
    assert np.abs(trained - attached).max() > 1e-3 * scale, "the step of training had no effect"


@number("3.8")
@weight(0.5)
def test_switched_off_is_the_base_bit_for_bit(student, rng):
    """adapters_disabled: nested, after an exception, and on a merged model."""
    problem = random_problem(rng)
    asked = problem.asked()
    plain = student.run(drivers.adapted, **asked | {"adapter": {}}, steps=["logits"])[0]
    steps = ["logits", "disabled", "logits", "nested", "logits", "raising", "merge", "logits",
             "disabled", "logits"]  # fmt: skip
    on, off, on_again, nested, on_third, raised, _, merged, merged_off, merged_again = student.run(
        drivers.adapted, **asked, steps=steps
    )
    assert_close(plain, problem.plain, rtol=1e-4, atol=1e-4, name="logits of a new adapter")
    assert np.abs(on - plain).max() > 1e-2, "the adapter changes nothing"
    assert_equal(off, plain, name="logits, adapters off")
    assert_equal(on_again, on, name="logits after the block")
    assert_equal(
        nested, plain, name="logits in the outer block after an inner one",
        hint="put back what each layer had before, not True",
    )  # fmt: skip
    assert_equal(on_third, on, name="logits after nested blocks")
    assert_equal(raised, on, name="logits after a block that raised", hint="try, finally")
    assert_equal(merged_off, plain, name="logits, adapters off, merged")
    assert_equal(merged_again, merged, name="merged logits after the block")


@number("3.8")
@weight(1)
def test_two_percent_of_the_weights_reach_ninety_percent_of_the_drop(student, rng):
    """A pretrained model meets underscores for spaces: LoRA's drop in loss over full tuning's."""
    base = small_base()
    how = base.recipe["adapter"]
    order = batch_order(rng, len(base.train), base.recipe["steps"], base.recipe["rows"])
    got = student.run(
        drivers.fine_tune_adapter, sizes=base.sizes.fields(), weights=base.weights, rows=base.train,
        order=order, seed=int(rng.integers(2**31)), **how,
    )  # fmt: skip
    state = got["state"]
    paths = adapted_paths(base.sizes, how["targets"])
    assert sorted(state) == sorted(f"{path}.lora_{x}" for path in paths for x in "ab"), (
        f"the adapter's state has {sorted(state)}; lora_a and lora_b of each adapted layer expected"
    )
    trained = sum(np.size(array) for array in state.values())
    share = trained / (trained + sum(array.size for array in base.weights.values()))
    assert share <= 0.02 and got["in the optimizer"] == trained, (
        f"{got['in the optimizer']} numbers were trained, {trained} of them adapters: {share:.2%}"
    )
    # From the base that was sent and the A and B that came back, by the tests' own forward pass.
    tuned = folded(base.weights, state, how["rank"], how["alpha"], np.float32)
    loss = held_out_loss(tuned, base.sizes, base.held_out)
    ratio = (base.loss - loss) / (base.loss - base.fine_tuned_loss)
    student.measure(Measure(name="LoRA's drop / full fine-tuning's", value=ratio, full=0.9,
                            peer="full fine-tuning", note=f"{share:.2%} trainable"))  # fmt: skip
    assert ratio >= 0.9, (
        f"held-out loss {base.loss:.3f} fell to {loss:.3f}, full fine-tuning gets to "
        f"{base.fine_tuned_loss:.3f}: {ratio:.0%} of its drop, 90% is asked"
    )
