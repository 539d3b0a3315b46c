"""Task 3.7: loss in chunks, schedule, clipping, accumulation against one big batch, exact resume."""

from __future__ import annotations

import math

import drivers_resume
import drivers_training as drivers
import numpy as np
import torch
from gradescope_utils.autograder_utils.decorators import number, weight
from tiny_model import random_weights
from torch.nn import functional as F
from training_cases import (
    IGNORED,
    SIZES,
    assert_right_run,
    assert_same_run,
    cosine,
    counted,
    one_big_batch,
    packed_batch,
    plain_batch,
    torch_loss,
)

from autograder.testing import Hint, Measure, assert_close, assert_equal


@number("3.7")
@weight(1)
def test_the_loss_in_chunks_is_the_loss(student, rng):
    """chunked_cross_entropy: value and gradients of torch's cross-entropy, whatever the chunks."""
    for shape, vocab, share in (((13,), 30, 0.7), ((3, 5), 7, 0.5), ((2, 2, 8), 50, 1.0)):
        hidden = rng.normal(0, 1, (*shape, 6))
        weight_ = rng.normal(0, 1, (vocab, 6))
        targets = rng.integers(0, vocab, shape)
        targets[rng.random(shape) >= share] = IGNORED
        targets.flat[0] = vocab - 1
        loss, by_hidden, by_weight = torch_loss(hidden, weight_, targets)
        for chunk_rows in (1, 4, 1000):
            got = student.run(
                drivers.chunked_loss, hidden=hidden, weight=weight_, targets=targets,
                chunk_rows=chunk_rows,
            )  # fmt: skip
            about = f"of {shape} rows, {chunk_rows} at a time"
            assert_close(
                got["loss"], loss, rtol=1e-9, name=f"loss {about}",
                hint="one mean over all counted targets: chunks may hold different numbers of them",
            )  # fmt: skip
            assert got["shape"] == [], "the loss is a scalar"
            assert_close(got["hidden"], by_hidden, rtol=1e-8, atol=1e-12, name=f"d hidden {about}")
            assert_close(got["weight"], by_weight, rtol=1e-8, atol=1e-12, name=f"d weight {about}")
    hidden[0, 0, 0] = np.nan
    targets[0, 0, 0] = IGNORED
    got = student.run(
        drivers.chunked_loss, hidden=hidden, weight=weight_, targets=targets, chunk_rows=4
    )
    hidden[0, 0, 0] = 0.0
    loss, by_hidden, by_weight = torch_loss(hidden, weight_, targets)
    hint = Hint(not_finite="an ignored row takes no part: 0 times nan is nan")
    assert_close(got["loss"], loss, rtol=1e-9, name="loss with nan in an ignored row", hint=hint)
    assert_close(got["weight"], by_weight, rtol=1e-8, atol=1e-12, name="d weight then", hint=hint)
    assert_close(got["hidden"], by_hidden, rtol=1e-8, atol=1e-12, name="d hidden then", hint=hint)
    got = student.run(
        drivers.chunked_loss, hidden=hidden, weight=weight_, targets=np.full(shape, IGNORED),
        chunk_rows=4,
    )  # fmt: skip
    assert_equal(got["loss"], 0.0, name="the loss where no target counts")
    for part, like in (("hidden", hidden), ("weight", weight_)):
        assert_equal(got[part], np.zeros_like(like), name=f"d {part} where no target counts")


@number("3.7")
@weight(0.5)
def test_logits_are_never_held_whole(student, rng):
    """The loss of 4,096 rows over 16,384 tokens, forward and backward, in a fraction of the logits."""
    # The logits are 268 MB in float32, their gradient as much. A chunk of 128 rows is 8 MB; three of
    # them at a time and the gradients (1.3 MB) are below 30 MB. 100 MB is asked for.
    rows, vocab, width = 4096, 16_384, 16
    arguments = {
        "hidden": rng.normal(0, 1, (rows, width)).astype(np.float32),
        "weight": rng.normal(0, 1, (vocab, width)).astype(np.float32),
        "targets": rng.integers(0, vocab, rows),
    }
    small = {name: array[:64] for name, array in arguments.items()}
    small["targets"] = small["targets"] % 64
    student.run(drivers.chunked_loss, **small, chunk_rows=16)  # what the first call loads
    memory = student.memory(drivers.chunked_loss, **arguments, chunk_rows=128, allowance_mb=64)
    h, w = (torch.tensor(arguments[name]) for name in ("hidden", "weight"))
    expected = F.cross_entropy(h @ w.T, torch.tensor(arguments["targets"])).item()
    assert_close(memory.value["loss"], expected, rtol=1e-5, name="the loss")
    assert np.abs(memory.value["hidden"]).sum() > 0, "the gradient is zero"
    megabytes = memory.extra_bytes / 1e6
    student.measure(
        Measure(
            name="loss of 268 MB of logits", value=megabytes, unit="MB", full=100.0, better="lower"
        )
    )
    assert megabytes <= 100, (
        f"{megabytes:.0f} MB more at the peak; all logits are 268 MB, a chunk of 128 rows is 8 MB. "
        "If autograd keeps each chunk's logits for the backward pass, nothing is saved"
    )


@number("3.7")
@weight(0.5)
def test_the_schedule(student, rng):
    """cosine_rate: warm-up from the first step, half a cosine, the floor from total_steps on."""
    for warmup, total in ((5, 30), (0, 12), (1, 2), (8, 8)):
        peak, floor = float(rng.uniform(0.1, 1)), float(rng.uniform(0.001, 0.01))
        options = {"peak": peak, "warmup_steps": warmup, "total_steps": total, "floor": floor}
        steps = list(range(total + 6))
        got = student.run(drivers.rates, steps=steps, options=options)
        assert_close(
            np.array(got), np.array([cosine(step, options) for step in steps]), rtol=1e-9,
            name=f"rates of {options}",
            hint="step counts from 0; the first step must not have rate 0, nor the cosine rise again",
        )  # fmt: skip
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.5)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20, 0.01)
    expected = []
    for _ in range(20):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    got = student.run(
        drivers.rates, steps=list(range(20)),
        options={"peak": 0.5, "warmup_steps": 0, "total_steps": 20, "floor": 0.01},
    )  # fmt: skip
    assert_close(np.array(got), np.array(expected), rtol=1e-9, name="rates against torch's cosine")


@number("3.7")
@weight(0.5)
def test_clipping(student, rng):
    """clip_gradients: one factor for all, the norm before, None and frozen and shared parameters."""
    gradients = [rng.standard_normal((3, 4)), None, rng.standard_normal(6) * 10,
                 rng.standard_normal(5) * 100]  # fmt: skip
    # The last one is frozen: a gradient that is left on it is nobody's business.
    norm = math.sqrt(sum(float((gradients[place] ** 2).sum()) for place in (0, 2)))
    for max_norm in (norm / 3, norm * 0.99, norm * 1.5, None):
        got, after = student.run(
            drivers.clipped, gradients=gradients, frozen=[3], twice=[0, 2], max_norm=max_norm
        )
        assert_close(
            got, norm, rtol=1e-12, name="the norm that is returned",
            hint="before clipping; a parameter that is listed twice (tied) counts once",
        )  # fmt: skip
        factor = min(1.0, max_norm / norm) if max_norm else 1.0
        assert after[1] is None, "a parameter without gradient got one"
        for place, scale in ((0, factor), (2, factor), (3, 1.0)):
            assert_close(
                after[place], gradients[place] * scale, rtol=1e-5,
                name=f"gradient {place} of joint norm {norm:.4g}, clipped to {max_norm}",
            )  # fmt: skip
    tiny = [np.full(4, 1e-25), np.full((2, 2), 2e-25)]
    got, _ = student.run(
        drivers.clipped, gradients=tiny, frozen=[], twice=[], max_norm=1.0, dtype="float32"
    )
    assert_close(
        got, math.sqrt(20) * 1e-25, rtol=1e-5, atol=0, name="the norm of gradients of 1e-25"
    )
    for bad in (np.nan, np.inf):
        spoiled = [np.array([bad, 1.0]), np.array([3.0, 4.0])]
        got, after = student.run(
            drivers.clipped, gradients=spoiled, frozen=[], twice=[], max_norm=1.0
        )
        assert not math.isfinite(got), f"a norm of {got} for a gradient of {bad}"
        assert_equal(after[1], spoiled[1], name=f"the other gradient beside a {bad}")
    got, _ = student.run(drivers.clipped, gradients=[None], frozen=[], twice=[], max_norm=1.0)
    assert_equal(got, 0.0, name="the norm of no gradient at all")


@number("3.7")
@weight(1.25)
def test_small_batches_are_one_big_batch(student, rng, figure):
    """Trainer: 12 steps over uneven, padded, packed batches follow one big batch within 1e-5."""
    weights = random_weights(rng, SIZES)
    steps = [
        [plain_batch(rng, 2, 7), plain_batch(rng, 1, 16, 0.2), packed_batch(rng, 3, 11)]
        for _ in range(12)
    ]
    steps[4][1]["targets"][:] = IGNORED  # a batch in which nothing counts
    settings = {"peak": 0.2, "warmup_steps": 3, "total_steps": 11, "floor": 0.001,
                "max_norm": 0.8, "accumulate": 3, "chunk_rows": 5}  # fmt: skip
    expected = one_big_batch(weights, SIZES, steps, settings)
    flat = [batch for batches in steps for batch in batches]
    got = student.run(
        drivers.trained, sizes=SIZES.fields(), weights=weights, batches=flat, settings=settings,
        steps=[5, 7],
    )  # fmt: skip
    results = got["results"]
    assert_equal([tokens for _, tokens, _ in results], [counted(b) for b in steps], name="tokens",
                 hint="targets that count, of all batches of the step")  # fmt: skip
    assert all(taken is True for _, _, taken in results), "a step was not taken"
    losses, norms = np.array(got["losses"], np.float64), np.array([n for n, _, _ in results])
    assert_close(losses[:1], np.array(expected["losses"][:1]), rtol=1e-5, name="the first loss",
                 hint="each target weighs the same, in whatever batch it stands")  # fmt: skip
    assert_close(norms[:1], np.array(expected["norms"][:1]), rtol=1e-4, name="the first norm",
                 hint="of the whole step's gradient, before clipping")  # fmt: skip
    assert_close(
        losses, np.array(expected["losses"]), rtol=1e-5, name="the loss by step",
        hint="the first step's loss and norm are right, so the update is not: gradients start from "
        "nothing in each step, one clipping after the last batch, the schedule's step counts from 0",
    )  # fmt: skip
    assert_close(norms, np.array(expected["norms"]), rtol=1e-4, name="the norm by step")
    for name, theirs in expected["weights"].items():
        assert_close(got["weights"][name], theirs, rtol=1e-4, atol=2e-5, name=f"weight {name}")
    assert_equal(got["seen"], [[s, s] for s in range(1, 13)], name="[step, losses] at on_step")
    assert_equal(got["taken"], 36, name="batches taken from the stream")
    figure(
        kind="loss_curve", title="Three batches a step, and one big batch",
        data={"series": {"accumulated": got["losses"], "one big batch": expected["losses"]},
              "xlabel": "step", "ylabel": "nats"},
    )  # fmt: skip


@number("3.7")
@weight(1)
def test_resumed_training_is_the_same_bit_for_bit(student, rng):
    """Save, go on in fresh objects: losses, weights, moments, data and generators in every bit."""
    weights, others = (random_weights(rng, SIZES) for _ in range(2))
    settings = {"peak": 0.01, "warmup_steps": 4, "total_steps": 18, "accumulate": 2}
    stops = sorted(rng.choice(np.arange(2, 15), 2, replace=False).tolist())
    seed, usual = int(rng.integers(2**31)), {"sizes": SIZES.fields(), "settings": settings}
    begun = {**usual, "weights": weights, "seed": seed}
    straight = student.run(drivers_resume.straight, **begun, steps=16)
    assert_right_run(straight, weights, settings, seed, 16)
    # Three further processes: what one of them knows reaches the next by the file alone.
    first = student.call(student.fresh(), drivers_resume.saved, {**begun, "stop": stops[0]}, None)
    anew = {**usual, "weights": others, "seed": seed + 50}
    second = student.call(
        student.fresh(), drivers_resume.saved,
        {**anew, "stop": stops[1], "file": first["file"]}, None,
    )  # fmt: skip
    broken = student.call(
        student.fresh(), drivers_resume.resumed,
        {**anew, "seed": seed + 51, "steps": 16, "file": second["file"]}, None,
    )  # fmt: skip
    assert_equal(broken["begun"], stops[1], name="the step after resuming")
    assert_same_run(broken, straight)
    for files in (first["files"], second["files"]):
        assert files == ["run.pt"], f"the folder holds {files}, expected run.pt alone"
