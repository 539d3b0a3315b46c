"""Task 1.13, hidden: resuming twice, a full disk, bits per byte, wrong files, the numba kernels."""

from __future__ import annotations

import math

import hw1_autodiff_drivers as drivers
import numpy as np
import pytest
from autodiff_data import digits, held_out_text
from gradescope_utils.autograder_utils.decorators import number, weight
from oracles_training import log_softmax

from autograder.testing import assert_close, assert_equal


@number("1.13")
@weight(0.5)
def test_resuming_twice_in_the_middle_of_epochs(student, rng):
    """Two interruptions, one in the warm-up and one in another epoch, leave no trace."""
    images, labels, *_ = digits()
    size = int(rng.integers(300, 420))
    straight, broken, files, _ = student.run(
        drivers.train_with_interruptions, images=images[:size], labels=labels[:size],
        seed=int(rng.integers(2**31)), steps=30, stops=[3, 21],
    )  # fmt: skip
    assert len(set(straight["losses"])) > 25, "the straight run has not 30 losses"
    assert min(straight["losses"][1:]) < straight["losses"][0], "the loss did not fall"
    for part in ("losses", "step", "rate", "next draws"):
        assert_equal(broken[part], straight[part], name=part)
    for part in ("parameters", "optimizer"):
        assert sorted(broken[part]) == sorted(straight[part]), f"other names in the {part}"
        for name, array in straight[part].items():
            assert_equal(broken[part][name], array, name=f"{part}: {name}")
    assert files == ["run.checkpoint"], f"the folder holds {files}"


@number("1.13")
@weight(0.5)
def test_a_save_that_fails_leaves_the_old_file(student, rng):
    """A disk that fills up in the middle of a save: the old file is whole, nothing else is left."""
    images, labels, *_ = digits()
    got = student.run(
        drivers.save_on_a_full_disk, images=images[:200], labels=labels[:200],
        seed=int(rng.integers(2**31)),
    )  # fmt: skip
    assert got["size"] > 40_000, f"a file of {got['size']} bytes can't hold the run"
    assert got["raised"] == "OSError", "the failure must reach the caller"
    assert got["same"] is True, "the old file was damaged by the save that failed"
    assert got["files"] == ["run.npz"], f"after the failure the folder holds {got['files']}"
    assert_equal(got["step"], 3, name="the step after resuming from the old file")
    assert_equal(got["losses"], got["expected"], name="the losses after resuming")


@number("1.13")
@weight(0.5)
def test_bits_per_byte_predicts_every_byte_once(student, rng):
    """bits_per_byte: each byte but the first counts once, the short last window too."""
    table = rng.standard_normal((256, 256)) * 3
    for length, context, batch in ((2, 8, 4), (9, 8, 4), (50, 8, 4), (97, 16, 2), (33, 32, 64)):
        text = rng.integers(0, 256, length).astype(np.uint8)
        got, seen = student.run(
            drivers.bits_of_table, table=table, text=text, context=context, batch_size=batch
        )
        expected = -log_softmax(table[text[:-1]])[np.arange(length - 1), text[1:]].mean()
        about = f"{length} bytes, context {context}"
        assert_close(got, expected / math.log(2), rtol=1e-9, name=f"bits per byte of {about}")
        shapes = [np.shape(ids) for ids in seen]
        assert all(s[0] <= batch and s[1] <= context for s in shapes), f"{about}: inputs {shapes}"
        assert_equal(
            np.concatenate([np.ravel(ids) for ids in seen]).astype(np.int64),
            text[:-1].astype(np.int64), name=f"the inputs, window after window, of {about}",
        )  # fmt: skip


@number("1.13")
@weight(0.25)
def test_what_can_not_go_on_stops(student, rng):
    """A loss that is nan changes no parameter; a file of another model or none is refused."""
    weight_, inputs = rng.standard_normal((3, 2)), rng.standard_normal((4, 3))
    good = student.run(drivers.fit_on_nan, weight=weight_, inputs=inputs, target=1)
    assert good["raised"] == "" and good["step"] == 1, "a finite loss was refused"
    assert np.any(good["weight"] != weight_), "a step on a finite loss changed nothing"
    inputs[1, 1] = np.nan
    got = student.run(drivers.fit_on_nan, weight=weight_, inputs=inputs, target=1)
    assert got["raised"] == "FloatingPointError", "a nan loss must raise FloatingPointError"
    assert_equal(got["weight"], weight_, name="the weight after a nan loss")
    assert_equal(got["step"], 0, name="run.step after a nan loss")
    images, labels, *_ = digits()
    some = {"images": images[:80], "labels": labels[:80]}
    student.raises(drivers.save_other_model, "ValueError", missing=False, **some)
    student.raises(drivers.save_other_model, "FileNotFoundError", missing=True, **some)


@number("1.13")
@weight(0.5)
@pytest.mark.warm_up(*drivers.WARM_UP_KERNELS, "1.11")
def test_your_numba_kernels_train_as_numpy_does(student, rng):
    """A few steps of a language model on your kernels give numpy's losses in float32."""
    text, *_ = held_out_text()
    by_numpy, by_numba = student.run(
        drivers.losses_on_back_ends, text=text[:20_000], seed=int(rng.integers(2**31)), steps=5,
        timeout=120.0,
    )  # fmt: skip
    # Not that they fall: each step sees another batch, and five steps prove nothing of that kind.
    assert len(by_numpy) == 5 and np.isfinite(by_numpy).all(), "five losses, all finite, on numpy"
    assert np.ptp(by_numpy) > 1e-4, "each step has a batch of its own, so the losses differ"
    assert_close(
        np.array(by_numba, np.float64), np.array(by_numpy), rtol=2e-4, name="the losses on numba"
    )
